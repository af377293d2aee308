"""AdamW as a training needs it."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class AdamW(keras.optimizers.AdamW):  # type: ignore[misc] # Keras has no types
    """Keras' AdamW that cuts the gradient of the whole batch, and updates each weight in one pass over memory."""

    def _clip_gradients(self, gradients: Sequence[Any]) -> Sequence[Any]:
        """Leave the gradients alone: several workers would each cut their own, before they are summed."""
        return gradients

    def _all_reduce_sum_gradients(self, pairs: Sequence[tuple[Any, Any]]) -> Sequence[tuple[Any, Any]]:
        """Sum the gradients of all workers, and cut the sum."""
        pairs = super()._all_reduce_sum_gradients(pairs)
        if not self.global_clipnorm:
            return pairs
        gradients, weights = zip(*pairs, strict=True)
        cut, _ = tf.clip_by_global_norm(gradients, self.global_clipnorm)
        return list(zip(cut, weights, strict=True))
