"""One X-ray's way from PNG bytes to a square of grey levels."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from components.xray.png import BadImage as BadImage
from components.xray.png import Decoded as Decoded
from components.xray.png import decode as decode

# An image is hashed by way of a thumbnail of so many pixels a side, and so many frequencies of it either way are kept.
THUMBNAIL_SIDE = 32
SPECTRUM_SIDE = 16

Grey = NDArray[np.uint8]

# Workers decode one image each; OpenCV's own threads would only compete with them.
cv2.setNumThreads(1)


def fit(grey: Grey, size: int) -> Grey:
    """Fit an image into a square, keeping its aspect; the rest is black, as beyond the collimator.

    Args:
        grey: uint8 [height, width].
        size: side of the square, pixels.

    Returns:
        uint8 [size, size], the image centred.
    """
    height, width = grey.shape
    scale = size / max(height, width)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    # Averaging over areas when shrinking: interpolation between neighbours would alias fine lines away.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.zeros((size, size), np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square[top : top + new_height, left : left + new_width] = cv2.resize(
        grey, (new_width, new_height), interpolation=method
    )
    return square


class Signature(NamedTuple):
    """What pictures that look alike have in common."""

    phash: str
    """64 bits as 16 hex digits."""
    spectrum: bytes
    """int8 [16, 16] row by row, for `low_frequencies`."""


def signature(grey: Grey) -> Signature:
    """The DCT hash (pHash) of an image and the low frequencies it comes from.

    The hash is the signs, about their median, of the 8 x 8 lowest frequencies of the 32 x 32 thumbnail
    (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010). The spectrum has the 16 x 16
    lowest, as shares of the largest; of each the signed root, so that the small ones keep their digits.

    Args:
        grey: uint8 [height, width].
    """
    # To 32 pixels in one go takes a tenth of the time that decoding takes; exact halves are nearly free.
    while min(grey.shape) >= 128:
        height, width = (side // 2 for side in grey.shape)
        grey = cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    # As float: rounded grey levels would give a flat or symmetric picture frequencies that it does not have.
    square = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    frequencies = cv2.dct(cv2.resize(grey.astype(np.float32), square, interpolation=cv2.INTER_AREA))
    low = frequencies[:8, :8].ravel()
    # The first coefficient is the mean grey level: it says nothing about the picture.
    bits = low > np.sort(low[1:])[31]

    part = frequencies[:SPECTRUM_SIDE, :SPECTRUM_SIDE].copy()
    part[0, 0] = 0
    largest = np.abs(part).max()
    # Less than a thousandth of a grey level is rounding: the picture is flat.
    shares = part / largest if largest > THUMBNAIL_SIDE / 1000 else np.zeros_like(part)
    roots = np.rint(127 * np.sign(shares) * np.sqrt(np.abs(shares))).astype(np.int8)
    return Signature(np.packbits(bits).tobytes().hex(), roots.tobytes())


def perceptual_hash(grey: Grey) -> str:
    """The hash of a `signature`: 64 bits as 16 hex digits, near for pictures that look alike.

    Args:
        grey: uint8 [height, width].
    """
    return signature(grey).phash


def low_frequencies(spectra: Iterable[bytes]) -> NDArray[np.float32]:
    """Spectra of `signature` as numbers.

    Returns:
        float32 [N, 256]: vertical frequency by horizontal frequency, row by row; the largest of a picture is 1 or -1,
        all are 0 if the picture is flat. The first, its mean, is left out: 0.
    """
    roots = np.frombuffer(b"".join(spectra), np.int8).reshape(-1, SPECTRUM_SIDE**2).astype(np.float32)
    shares: NDArray[np.float32] = roots * np.abs(roots) / np.float32(127**2)
    return shares
