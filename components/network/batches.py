"""From shards to the batches that reach a network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.artifacts.shards import PartFacts, Shards
from components.base.errors import DataRefused
from components.network import memory
from components.network.pixels import ALIGNMENT, OnDevice, OnDisk, Pixels

if TYPE_CHECKING:
    import keras

Residence = Literal["auto", "memory", "disk", "device"]


@dataclass(frozen=True)
class Split:
    """One split, image by image, in the order of its records."""

    pixels: Pixels
    """uint8 [N, S, S, 1], in memory or elsewhere"""
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
        return {OnDisk: "on disk", OnDevice: "on the device"}.get(type(self.pixels), "in memory")


def read_split(shards: Shards, split: str, residence: Residence = "auto") -> Split:
    """Read a split. Its pixels may stay on disk: the order of an epoch does not depend on where they are.

    Args:
        shards: where from.
        split: train, tuning or test.
        residence: where the pixels are held; auto is in memory if they fit (MURA's training images at 320 pixels are
            3.8 GB), else on disk.

    Raises:
        DataRefused: the table of records is not of these shards, or a record is not the one in the table.
    """
    table = shards.records()
    rows = table[table["split"] == split]
    pixels: Pixels = OnDisk.of(shards, rows)
    if residence == "auto":
        residence = "memory" if memory.fits(len(rows) * shards.facts.image_size**2) else "disk"
    if residence != "disk":
        held = pixels[np.arange(len(rows))]
        pixels = OnDevice(held) if residence == "device" else held
    words = {name: np.array(rows[name].tolist(), np.str_) for name in ("body_part", "study", "patient", "image")}
    return Split(pixels, rows["abnormal"].to_numpy(np.int64), **words)


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


def training_batches(
    split: Split, weights: NDArray[np.float32], batch_size: int, seed: int, epoch: int, share: tuple[int, int] = (0, 1)
) -> Any:
    """One epoch of a split: every image once, in an order that (seed, epoch) alone decides.

    Args:
        split: of which images.
        weights: float32 [N], of the images in the loss.
        batch_size: images in a step of all workers.
        seed: of the order.
        epoch: its number.
        share: which of how many workers this one is; it gets its share of every batch.

    Returns:
        tf.data.Dataset of (pixels uint8 [B, S, S, 1], abnormal float32 [B, 1], weight float32 [B]). Of pixels on the
        device, their places int64 [B] instead: `fed` makes a network that takes them.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(split))
    labels = tf.constant(split.abnormal.astype(np.float32)[:, None])
    weight = tf.constant(weights)

    squares = _squares(split)
    index, workers = share

    def batch(chosen: Any) -> Any:
        count = tf.shape(chosen)[0]
        # Of fewer images than workers some are seen twice, and weigh nothing the second time: a share is never empty.
        mine = chosen[index % count :: workers]
        # The mean over the batch is the mean of the workers' means only if they count as their shares are large.
        portion = tf.cast(tf.shape(mine)[0] * workers, tf.float32) / tf.cast(count, tf.float32)
        portion *= tf.cast(index < count, tf.float32)
        return squares(mine), tf.gather(labels, mine), tf.gather(weight, mine) * portion

    dataset = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    return dataset.map(batch, num_parallel_calls=2, deterministic=True).prefetch(tf.data.AUTOTUNE)


def in_order(split: Split, batch_size: int) -> Any:
    """The pixels of a split, batch by batch, in the order of its records.

    Returns:
        tf.data.Dataset of uint8 [B, S, S, 1].
    """
    dataset = tf.data.Dataset.range(len(split)).batch(batch_size)
    return dataset.map(_squares(split), num_parallel_calls=2).prefetch(tf.data.AUTOTUNE)


def fed(network: "keras.Model", split: Split) -> "keras.Model":
    """A network as it is trained on the batches of a split: if the pixels are on the device, it looks them up there."""
    import keras

    pixels = split.pixels
    if not isinstance(pixels, OnDevice):
        return network
    chosen = keras.Input((), dtype="int64")
    look_up = keras.layers.Lambda(pixels.gather, output_shape=pixels.shape[1:], name="look_up")
    return keras.Model(chosen, network(look_up(chosen)))


@contextmanager
def reading(split: Split) -> Iterator[None]:
    """Tell what is wrong with a record in our words, when TensorFlow wraps it in many of its own.

    Raises:
        DataRefused: a record is not the one in the index.
    """
    try:
        yield
    except tf.errors.OpError:
        if isinstance(split.pixels, OnDisk) and split.pixels.refused:
            raise split.pixels.refused from None
        raise


def _squares(split: Split) -> Callable[[Any], Any]:
    """From the places of some images to their pixels, as a step of a dataset."""
    pixels = split.pixels
    if isinstance(pixels, OnDevice):
        return lambda chosen: chosen
    if isinstance(pixels, OnDisk):

        def read(chosen: Any) -> Any:
            squares = tf.numpy_function(pixels.__getitem__, [chosen], tf.uint8)
            return tf.ensure_shape(squares, (None, *pixels.shape[1:]))

        return read
    held = _shared(np.asarray(pixels))
    return lambda chosen: tf.gather(held, chosen)


def _shared(pixels: NDArray[np.uint8]) -> Any:
    """A tensor of the same memory, so that what fills half of it need not be held twice."""
    if pixels.ctypes.data % ALIGNMENT:
        return tf.constant(pixels)
    return tf.experimental.dlpack.from_dlpack(pixels.__dlpack__())
