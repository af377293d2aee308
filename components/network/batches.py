"""From shards to the batches that reach a network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.artifacts.shards import PartFacts, Shards
from components.base.errors import DataRefused
from components.network import memory
from components.network.pixels import ALIGNMENT, OnDisk, Pixels
from components.params.train import Residence


@dataclass(frozen=True)
class Split:
    """One split, image by image, in the order of its records."""

    pixels: Pixels
    """uint8 [N, S, S, 1], in memory or on disk"""
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

    @property
    def residence(self) -> str:
        """Where the pixels are, in words."""
        return "on disk" if isinstance(self.pixels, OnDisk) else "in memory"


def read_split(shards: Shards, split: str, residence: Residence = "auto") -> Split:
    """Read a split. Its pixels are held in memory or stay on disk; the batches are the same.

    Args:
        shards: what to read.
        split: train, tuning or test.
        residence: memory, disk, or auto: memory if they fit (MURA's training images at 320 pixels are 3.8 GB), else
            disk.

    Raises:
        DataRefused: the table of records belongs to other shards, or a record differs from the table.
    """
    table = shards.records()
    rows = table[table["split"] == split]
    pixels: Pixels = OnDisk.of(shards, rows)
    if residence == "auto":
        residence = "memory" if memory.fits(len(rows) * shards.facts.image_size**2) else "disk"
    if residence == "memory":
        pixels = pixels[np.arange(len(rows))]
    words = {name: np.array(rows[name].tolist(), np.str_) for name in ("body_part", "study", "patient", "image")}
    return Split(pixels, rows["abnormal"].to_numpy(np.int64), **words)


def loss_weights(abnormal: NDArray[np.int64], body_part: NDArray[np.str_], parts: dict[str, PartFacts]) -> Any:
    """Weight of each image in the loss: both labels of every body part have the same total weight.

    For a body part with A abnormal and N normal training images, an abnormal one weighs N / (A + N) and a normal one
    A / (A + N) (MURA's authors: arXiv:1712.06957, section 3.1).

    Args:
        abnormal: int64 [N].
        body_part: str [N].
        parts: counts of the training split.

    Returns:
        float32 [N]

    Raises:
        DataRefused: a body part has no training image, or no body part has images of both labels: all weights are 0.
    """
    weight = {
        (name, label): (part.normal if label else part.abnormal) / (part.normal + part.abnormal)
        for name, part in parts.items()
        for label in (0, 1)
    }
    if strange := set(body_part.tolist()) - set(parts):
        raise DataRefused(f"No training image shows {', '.join(sorted(strange))}, but other splits have some.")
    if set(of_one_label(parts)) == set(parts):
        raise DataRefused(
            "In training every body part has images of one label only, and with class_weighting `body_part` none "
            "counts. Set class_weighting of the candidates to none, or add images."
        )
    pairs = zip(body_part.tolist(), abnormal.tolist(), strict=True)
    return np.array([weight[pair] for pair in pairs], np.float32)


def of_one_label(parts: dict[str, PartFacts]) -> list[str]:
    """The body parts whose training images all have the same label: `loss_weights` gives each of them the weight 0.

    Args:
        parts: counts of the training split.
    """
    return [name for name, part in parts.items() if not (part.normal and part.abnormal)]


def training_batches(
    split: Split, weights: NDArray[np.float32], batch_size: int, seed: int, epoch: int, share: tuple[int, int] = (0, 1)
) -> Any:
    """One epoch of a split: every image once, in an order that depends on (seed, epoch) alone.

    Args:
        split: the images.
        weights: float32 [N], their weights in the loss.
        batch_size: images in a step, over all workers.
        seed: seed of the order.
        epoch: number of the epoch.
        share: (rank, size): this worker, and how many there are. It gets its share of every batch.

    Returns:
        tf.data.Dataset of (pixels uint8 [B, S, S, 1], abnormal float32 [B, 1], weight float32 [B]).
    """
    order = order_of(len(split), seed, epoch)
    labels = tf.constant(split.abnormal.astype(np.float32)[:, None])
    weight = tf.constant(weights)

    squares = _squares(split)
    index, workers = share

    def batch(chosen: Any) -> Any:
        count = tf.shape(chosen)[0]
        # A share is never empty: of a batch smaller than the number of workers, some images are in two shares, and
        # weigh nothing in the second.
        mine = chosen[index % count :: workers]
        # Workers average their means, so each mean counts in proportion to its share.
        portion = tf.cast(tf.shape(mine)[0] * workers, tf.float32) / tf.cast(count, tf.float32)
        portion *= tf.cast(index < count, tf.float32)
        return squares(mine), tf.gather(labels, mine), tf.gather(weight, mine) * portion

    return _ahead(tf.data.Dataset.from_tensor_slices(order).batch(batch_size), batch)


def order_of(images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the images in an epoch, int64 [N]; batches are cut from its beginning on."""
    return np.random.default_rng((seed, epoch)).permutation(images)


def in_order(split: Split, batch_size: int) -> Any:
    """The pixels of a split, batch by batch, in the order of its records.

    Returns:
        tf.data.Dataset of uint8 [B, S, S, 1].
    """
    return _ahead(tf.data.Dataset.range(len(split)).batch(batch_size), _squares(split))


def _ahead(dataset: Any, step: Callable[[Any], Any]) -> Any:
    """What a step makes of a dataset's elements, in their order, made while the network works.

    Nothing is tuned meanwhile. TensorFlow's tuner is a thread that sleeps longer and longer, and the end of a dataset
    waits until it wakes: up to as long as the dataset lasted.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    made = dataset.map(step, num_parallel_calls=2, deterministic=True).prefetch(2)
    return made.with_options(options)


@contextmanager
def reading(split: Split) -> Iterator[None]:
    """Raise the refusal of a damaged record itself, not TensorFlow's error around it.

    Raises:
        DataRefused: a record differs from the table of records.
    """
    try:
        yield
    except tf.errors.OpError:
        if isinstance(split.pixels, OnDisk) and split.pixels.refused:
            raise split.pixels.refused from None
        raise


def _squares(split: Split) -> Callable[[Any], Any]:
    """A step of a dataset: from the indices of some images to their pixels."""
    pixels = split.pixels
    if isinstance(pixels, OnDisk):

        def read(chosen: Any) -> Any:
            squares = tf.numpy_function(pixels.__getitem__, [chosen], tf.uint8)
            return tf.ensure_shape(squares, (None, *pixels.shape[1:]))

        return read
    held = _shared(np.asarray(pixels))
    return lambda chosen: tf.gather(held, chosen)


def _shared(pixels: NDArray[np.uint8]) -> Any:
    """A tensor that shares the array's memory: the pixels may fill half of it, and are not copied."""
    if pixels.ctypes.data % ALIGNMENT:
        return tf.constant(pixels)
    return tf.experimental.dlpack.from_dlpack(pixels.__dlpack__())
