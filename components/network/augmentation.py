"""Random changes of the pictures, in training only: layers of the network, so they run on its device."""

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers, ops

from components.params.train import TrainParams

WHITE = 255.0
# Keras' layers count in the precision of the network. In bfloat16 grey levels above 128 would lose their fractions.
DTYPE = "float32"


def augmentation(params: TrainParams, seed: int) -> Iterator[layers.Layer]:
    """The layers of the changes that are asked for, in their order.

    Args:
        params: which, and how strong.
        seed: of the first layer. The next ones have the next seeds.
    """
    if params.flip:
        yield layers.RandomFlip("horizontal", seed=seed, dtype=DTYPE, name="flip")
    if params.rotation or params.zoom or params.shift:
        yield RandomPlace(
            rotation=params.rotation, zoom=params.zoom, shift=params.shift, seed=seed + 1, dtype=DTYPE, name="place"
        )
    if params.brightness:
        yield layers.RandomBrightness(params.brightness, (0.0, WHITE), seed=seed + 3, dtype=DTYPE, name="brightness")
    if params.contrast:
        yield layers.RandomContrast(params.contrast, (0.0, WHITE), seed=seed + 4, dtype=DTYPE, name="contrast")


class RandomPlace(layers.Layer):  # type: ignore[misc] # Keras has no types
    """Turn, enlarge or reduce, and move each picture of a batch by random amounts.

    Keras has a layer for each. Three of them would interpolate three times, which blurs fine lines. What comes in from
    outside the picture is black.
    """

    def __init__(self, *, rotation: float, zoom: float, shift: float, seed: int, **named: Any) -> None:
        """Set how much.

        Args:
            rotation: degrees, at most, in both directions.
            zoom: the size is multiplied by at most 1 + zoom, or divided by it.
            shift: share of the side, at most, in each of the four directions.
            seed: of the random amounts.
            named: dtype and name.
        """
        super().__init__(**named)
        self.rotation, self.zoom, self.shift = rotation, zoom, shift
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, pictures: Any, training: bool = False) -> Any:
        """Change pictures.

        Args:
            pictures: float32 [B, S, S, 1].
            training: whether to change them at all.

        Returns:
            float32 [B, S, S, 1]
        """
        if not training:
            return pictures
        count, side = ops.shape(pictures)[0], pictures.shape[1]
        angle = self._uniform(count, self.rotation * math.pi / 180)
        size = ops.exp(self._uniform(count, math.log1p(self.zoom)))
        right, down = self._uniform(count, self.shift * side), self._uniform(count, self.shift * side)
        # From a place in the result to a place in the picture: turned and scaled around the centre, then moved.
        cosine, sine, centre = ops.cos(angle) / size, ops.sin(angle) / size, (side - 1) / 2
        rows = (
            (cosine, -sine, centre - (cosine - sine) * centre + right),
            (sine, cosine, centre - (sine + cosine) * centre + down),
        )
        zero = ops.zeros_like(angle)
        transform = ops.stack([*rows[0], *rows[1], zero, zero], axis=1)  # [B, 8]
        return ops.image.affine_transform(
            pictures, transform, interpolation="bilinear", fill_mode="constant", data_format="channels_last"
        )

    def _uniform(self, count: Any, most: float) -> Any:
        """Numbers between -most and most, float32 [B]."""
        return keras.random.uniform((count,), -most, most, dtype=DTYPE, seed=self.seed_generator)
