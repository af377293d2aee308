"""One X-ray's way from PNG bytes to a square of grey levels."""

from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

# A decoder asked for more than this is being attacked: MURA's images have at most 512 x 512 pixels,
# a full-size radiograph about 3,000 x 4,000.
MAX_PIXELS = 64_000_000

Grey = NDArray[np.uint8]

# Workers decode one image each; OpenCV's own threads would only compete with them.
cv2.setNumThreads(1)


class BadImage(ValueError):
    """The bytes are not an image we can trust."""


class Decoded(NamedTuple):
    """An image and how it was stored."""

    grey: Grey
    """uint8 [height, width]"""
    mode: str
    """As Pillow calls it: L, RGB, ..."""


def decode(png: bytes) -> Decoded:
    """Decode a PNG to one channel.

    The header is judged before any pixel is decoded. A truncated or damaged file is an error, never a
    partly grey picture.

    Args:
        png: the whole file.

    Raises:
        BadImage: not a PNG, too large, truncated or damaged.
    """
    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            mode, (width, height) = image.mode, image.size
            if width * height > MAX_PIXELS:
                raise BadImage(f"{width} x {height} pixels, more than {MAX_PIXELS:,} are not decoded")
            if mode not in ("L", "RGB"):
                return Decoded(_grey_by_pillow(image), mode)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadImage("not a PNG" if isinstance(error, UnidentifiedImageError) else str(error)) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImage(str(error)) from error
    # OpenCV decodes MURA's two modes in under half of Pillow's time, and refuses what is cut short.
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[:2] != (height, width):
        raise BadImage(_reason(png))
    return Decoded(pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), mode)  # type: ignore[arg-type]


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


def perceptual_hash(grey: Grey) -> str:
    """The DCT hash of an image (pHash): 64 bits as 16 hex digits, near for pictures that look alike.

    The signs, about their median, of the 8 x 8 lowest frequencies of the 32 x 32 thumbnail
    (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010).

    Args:
        grey: uint8 [height, width].
    """
    thumbnail = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(thumbnail)[:8, :8].ravel()
    # The first coefficient is the mean grey level: it says nothing about the picture.
    bits = low > np.median(low[1:])
    return np.packbits(bits).tobytes().hex()


def _grey_by_pillow(image: Image.Image) -> Grey:
    if image.mode.startswith("I"):
        levels = np.asarray(image, np.uint32)
        return (levels // 257 if levels.max(initial=0) > 255 else levels).astype(np.uint8)
    return np.asarray(image.convert("L"), np.uint8)


def _reason(png: bytes) -> str:
    """Pillow's words for what OpenCV only refuses."""
    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return str(error)
    return "truncated or damaged"
