"""A picture in the square that networks see."""

from typing import NamedTuple

import cv2
import numpy as np

from components.xray.png import Grey


class Place(NamedTuple):
    """Where a picture lies in the square, pixels."""

    left: int
    top: int
    width: int
    height: int


def place(width: int, height: int, size: int) -> Place:
    """Where a picture of some width and height lies in a square with so many pixels on a side: in its middle."""
    scale = size / max(height, width)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    return Place((size - new_width) // 2, (size - new_height) // 2, new_width, new_height)


def fit(grey: Grey, size: int) -> Grey:
    """Fit a picture into a square. It keeps its aspect and is centred; the rest is black, as outside the collimator.

    Args:
        grey: uint8 [height, width].
        size: side of the square, pixels.

    Returns:
        uint8 [size, size].
    """
    height, width = grey.shape
    # Averaging over areas when shrinking. Interpolation between neighbours would lose or distort thin lines.
    method = cv2.INTER_AREA if size < max(height, width) else cv2.INTER_LINEAR
    square = np.zeros((size, size), np.uint8)
    inside = place(width, height, size)
    square[inside.top : inside.top + inside.height, inside.left : inside.left + inside.width] = cv2.resize(
        grey, (inside.width, inside.height), interpolation=method
    )
    return square
