"""Untrusted JPEG files, decoded to one channel."""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image, ImageOps

from components.base.errors import out_of_memory
from components.xray.png import MAX_PIXELS, BadImage, Decoded

SIGNATURE = b"\xff\xd8\xff"


def decode(jpeg: bytes) -> Decoded:
    """Decode a JPEG to one channel, turned as its EXIF data says.

    Args:
        jpeg: the whole file.

    Raises:
        BadImage: not a JPEG, too large, truncated or damaged.
    """
    try:
        with Image.open(BytesIO(jpeg), formats=["JPEG"]) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImage(f"{width} x {height} pixels, more than the limit of {MAX_PIXELS:,}")
            if image.mode not in ("L", "RGB"):
                raise BadImage(f"a JPEG in {image.mode}: convert it to grey levels")
            turned = ImageOps.exif_transpose(image)
            pixels = np.asarray(turned, np.uint8)
            mode = turned.mode
    except BadImage:
        raise
    # Pillow raises what its parsers raise; a truncated picture is an OSError.
    except Exception as error:
        if out_of_memory(error):
            raise MemoryError from error
        raise BadImage(f"a JPEG that cannot be decoded ({type(error).__name__})") from error
    if mode == "L":
        return Decoded(pixels, mode, 0)
    apart = int((pixels.max(axis=2) - pixels.min(axis=2)).max())
    return Decoded(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8), mode, apart)
