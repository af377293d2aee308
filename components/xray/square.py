"""A picture in the square that networks see."""

import cv2
import numpy as np

from components.xray.png import Grey


def fit(grey: Grey, size: int) -> Grey:
    """Fit a picture into a square. It keeps its aspect and is centred; the rest is black, as outside the collimator.

    Args:
        grey: uint8 [height, width].
        size: side of the square, pixels.

    Returns:
        uint8 [size, size].
    """
    height, width = grey.shape
    scale = size / max(height, width)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    # Averaging over areas when shrinking. Interpolation between neighbours would lose or distort thin lines.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.zeros((size, size), np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square[top : top + new_height, left : left + new_width] = cv2.resize(
        grey, (new_width, new_height), interpolation=method
    )
    return square
