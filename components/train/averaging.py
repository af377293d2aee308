"""A moving average of the weights, which is measured and kept instead of the weights themselves."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


class Averages:
    """The exponential moving average of a network's weights.

    After step t a share of max(1 - decay, 9 / (10 + t)) of it is replaced by the weights. So a short training does not
    keep what was before it (as `tf.train.ExponentialMovingAverage` does with `num_updates`). The statistics of batch
    normalisation are averaged in the same way: they belong to the weights (as in EfficientNet's training,
    arXiv:1905.11946).
    """

    def __init__(self, model: keras.Model, steps: float) -> None:
        """Begin with no average; `begin` does.

        Args:
            model: the network.
            steps: over about how many steps is averaged; 0 for no average: then the weights are kept.
        """
        self._model = model
        self._least = 1 - math.exp(-1 / steps) if steps else 1.0
        # Not Keras' own: under a strategy of several workers those could be changed inside of a step only.
        self.variables = [tf.Variable(weight.value, trainable=False) for weight in model.weights] if steps else []
        """The averages, to be saved with all other variables; empty if there are none."""
        self._advance = tf.function(self._advance_all, autograph=False)

    def begin(self) -> None:
        """Begin a phase, whose optimiser counts from 0, with the weights as they are."""
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(weight.value)

    def advance(self) -> None:
        """Take the weights after a step into the average."""
        if self.variables:
            self._advance(self._model.optimizer.iterations.value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averages for its weights; afterwards its own again."""
        own = [tf.identity(weight.value) for weight in self._weights]
        for average, weight in zip(self.variables, self._weights, strict=True):
            weight.assign(average)
        try:
            yield
        finally:
            for weight, value in zip(self._weights, own, strict=True):
                weight.assign(value)

    @property
    def _weights(self) -> list[Any]:
        return self._model.weights if self.variables else []

    def _advance_all(self, step: Any) -> None:
        share = tf.maximum(self._least, 9 / (10 + tf.cast(step, tf.float32)))
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign_sub((average - weight.value) * share)
