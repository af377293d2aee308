"""From shards to the batches that reach a network."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.artifacts.shards import PartFacts, Shards
from components.errors import DataRefused


@dataclass(frozen=True)
class Split:
    """One split in memory, image by image, in the order of its records."""

    pixels: NDArray[np.uint8]
    """uint8 [N, S, S, 1]"""
    abnormal: NDArray[np.int64]
    """int64 [N], 1 abnormal, 0 normal"""
    body_part: NDArray[np.str_]
    """str [N]"""
    study: NDArray[np.str_]
    """str [N]"""
    patient: NDArray[np.str_]
    """str [N]"""
    image: NDArray[np.str_]
    """str [N]"""

    def __len__(self) -> int:
        return len(self.abnormal)


def read_split(shards: Shards, split: str) -> Split:
    """Read a whole split into memory: MURA's training images at 320 pixels are 3.8 GB.

    Args:
        shards: where from.
        split: train, tuning or test.

    Raises:
        DataRefused: a record is damaged, or there are more or fewer than the index says.
    """
    facts, size = shards.facts.splits[split], shards.facts.image_size
    pixels = np.empty((facts.images, size, size, 1), np.uint8)
    words: dict[str, list[str]] = {name: [] for name in ("body_part", "study", "patient", "image")}
    abnormal: list[int] = []
    features = {name: tf.io.FixedLenFeature((), tf.string) for name in ("pixels", *words)}
    features["abnormal"] = tf.io.FixedLenFeature((), tf.int64)
    records = tf.data.TFRecordDataset([str(path) for path in shards.files(split)])
    parsed = records.batch(256).map(lambda batch: tf.io.parse_example(batch, features)).prefetch(2)
    try:
        for batch in parsed.as_numpy_iterator():
            for record, square in enumerate(batch["pixels"][: len(pixels) - len(abnormal)], len(abnormal)):
                pixels[record] = np.frombuffer(square, np.uint8).reshape(size, size, 1)
            abnormal.extend(batch["abnormal"].tolist())
            for name, values in words.items():
                values.extend(value.decode() for value in batch[name])
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataRefused(
            f"{shards.path}: {split} cannot be read to its end ({reason}). Run `mura shard` again."
        ) from error
    if len(abnormal) != facts.images:
        raise DataRefused(
            f"{shards.path}: {split} holds {len(abnormal)} records, its index says {facts.images}. "
            "Run `mura shard` again."
        )
    return Split(
        pixels, np.array(abnormal, np.int64), **{name: np.array(values, np.str_) for name, values in words.items()}
    )


def loss_weights(abnormal: NDArray[np.int64], body_part: NDArray[np.str_], parts: dict[str, PartFacts]) -> Any:
    """Weight of each image in the loss, as MURA's authors weigh theirs.

    For a body part with A abnormal and N normal training images, abnormal ones weigh N / (A + N) and normal
    ones A / (A + N) (arXiv:1712.06957, section 3.1), so that both classes of every body part count alike.

    Args:
        abnormal: int64 [N].
        body_part: str [N].
        parts: counts of the training split; a fact of the shards.

    Returns:
        float32 [N]

    Raises:
        DataRefused: a body part has no training image.
    """
    weight = {
        (name, label): (part.normal if label else part.abnormal) / (part.normal + part.abnormal)
        for name, part in parts.items()
        for label in (0, 1)
    }
    if strange := set(body_part.tolist()) - set(parts):
        raise DataRefused(f"No training image shows {', '.join(sorted(strange))}, but other splits have some.")
    pairs = zip(body_part.tolist(), abnormal.tolist(), strict=True)
    return np.array([weight[pair] for pair in pairs], np.float32)


def training_batches(split: Split, weights: NDArray[np.float32], batch_size: int, seed: int, epoch: int) -> Any:
    """One epoch of a split: every image once, in an order that (seed, epoch) alone decides.

    Returns:
        tf.data.Dataset of (pixels uint8 [B, S, S, 1], abnormal float32 [B, 1], weight float32 [B]).
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(split))
    labels = split.abnormal.astype(np.float32)[:, None]

    def take(chosen: NDArray[np.int64]) -> tuple[Any, Any, Any]:
        return split.pixels[chosen], labels[chosen], weights[chosen]

    def batch(chosen: Any) -> Any:
        pixels, label, weight = tf.numpy_function(take, [chosen], [tf.uint8, tf.float32, tf.float32])
        return (
            tf.ensure_shape(pixels, (None, *split.pixels.shape[1:])),
            tf.ensure_shape(label, (None, 1)),
            tf.ensure_shape(weight, (None,)),
        )

    dataset = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    return dataset.map(batch, num_parallel_calls=2, deterministic=True).prefetch(tf.data.AUTOTUNE)
