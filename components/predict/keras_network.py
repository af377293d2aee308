"""A network by Keras: the numbers of `mura evaluate`, to the last digits. Importing this imports TensorFlow."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.network import backend, combining, stored
from components.network.activation_map import with_map
from components.network.features import with_features

# As `evaluate`: the sum of a batch does not depend on its size, to the digits that are shown.
BATCH_SIZE = 32


class KerasNetwork:
    """From squares of pixels to logits and maps."""

    def __init__(self, network: keras.Model, flips: bool) -> None:
        """Take a network.

        Args:
            network: from pixels, [B, S, S, 1] in [0, 255], to the logit [B, 1].
            flips: whether a logit is the mean of those of the view and its mirror image.
        """
        self.network = network
        self.size = int(network.input.shape[1])
        """Side of the square, pixels."""
        self.flips = flips
        """Whether a logit is the mean of those of the view and its mirror image."""
        self._asked = combining.flipped(network) if flips else network

    @classmethod
    def read(cls, file: Path, flips: bool) -> "KerasNetwork":
        """Load a network.

        Args:
            file: a `.keras` file.
            flips: as for the class.

        Raises:
            ValueError: it is no such network.
        """
        backend.prepare()
        return cls(stored.load(file), flips)

    def logits(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits of views, float32 [N].

        Args:
            squares: uint8 [N, size, size].
        """
        # Not `predict`, which builds a dataset each time: 0.2 s for a study.
        answers = [self._asked.predict_on_batch(some)[:, 0] for some in _batches(squares)]
        return np.concatenate(answers).astype(np.float32, copy=False)

    def seen(self, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The logits of views, float32 [N], and what the network saw in them, float32 [N, D].

        Args:
            squares: uint8 [N, size, size].
        """
        answers = [self._with_features.predict_on_batch(some) for some in _batches(squares)]
        logits, features = (np.concatenate(each).astype(np.float32, copy=False) for each in zip(*answers, strict=True))
        return logits[:, 0], features

    @cached_property
    def _with_features(self) -> keras.Model:
        return with_features(self._asked).model

    def maps(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What each place of views adds to their logits, float32 [N, h, w].

        Args:
            squares: uint8 [N, size, size]; N >= 1.
        """
        asked = with_map(self.network, self.flips)
        return np.concatenate([asked(tf.constant(some, tf.float32)).map.numpy() for some in _batches(squares)])


def _batches(squares: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Some squares after the other, [B, S, S, 1]."""
    for start in range(0, len(squares), BATCH_SIZE):
        yield squares[start : start + BATCH_SIZE, ..., None]
