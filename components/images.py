"""One X-ray's way from PNG bytes to a square of grey levels."""

import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# A decoder asked for more than this is being attacked: MURA's images have at most 512 x 512 pixels,
# a full-size radiograph about 3,000 x 4,000.
MAX_PIXELS = 64_000_000

# An image is hashed by way of a thumbnail of so many pixels a side, and so many frequencies of it either way are kept.
THUMBNAIL_SIDE = 32
SPECTRUM_SIDE = 12

Grey = NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = b"\0\0\0\x0dIHDR"
# MURA's two modes, as a PNG header has them: bit depth and colour type.
_PLAIN = {(8, 0): "L", (8, 2): "RGB"}

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
    channel_difference: int
    """How far red, green and blue of a pixel lie apart at most, 0 to 255; 0 if it is a picture in grey."""


class _Header(NamedTuple):
    """What is known of a PNG before a pixel is decoded."""

    width: int
    height: int
    depth: int
    colour: int
    chunks: frozenset[bytes]


def decode(png: bytes) -> Decoded:
    """Decode a PNG to one channel.

    The checksums and the header are judged before any pixel is decoded. A truncated or damaged file is an
    error, never a partly grey picture. Transparency is ignored; of 16 bits the upper 8 count.

    Args:
        png: the whole file.

    Raises:
        BadImage: not a PNG, too large, truncated or damaged.
    """
    header = _check(png)
    mode = _PLAIN.get((header.depth, header.colour))
    if mode is None or b"tRNS" in header.chunks:
        return _decode_by_pillow(png)
    # OpenCV decodes MURA's two modes in under half of Pillow's time. Unchanged: it would turn a picture as EXIF says,
    # and make colours grey in linear light if the file has a gamma, which nobody else does.
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise BadImage(f"{header.width} x {header.height} pixels that cannot be decoded")
    return _decoded(pixels, mode, cv2.COLOR_BGR2GRAY)  # type: ignore[arg-type]


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
    """int8 [12, 12] row by row, for `low_frequencies`."""


def signature(grey: Grey) -> Signature:
    """The DCT hash (pHash) of an image and the low frequencies it comes from.

    The hash is the signs, about their median, of the 8 x 8 lowest frequencies of the 32 x 32 thumbnail
    (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010). The spectrum has the 12 x 12
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
        float32 [N, 144]: vertical frequency by horizontal frequency, row by row; the largest of a picture is 1 or -1,
        all are 0 if the picture is flat. The first, its mean, is left out: 0.
    """
    roots = np.frombuffer(b"".join(spectra), np.int8).reshape(-1, SPECTRUM_SIDE**2).astype(np.float32)
    shares: NDArray[np.float32] = roots * np.abs(roots) / np.float32(127**2)
    return shares


def _check(png: bytes) -> _Header:
    """Read a PNG's header, and see that all its chunks are there and unharmed.

    Decoders are lenient: Pillow shows what it has of a damaged picture, libpng writes to stderr.
    """
    if not png.startswith(_SIGNATURE + _HEADER):
        raise BadImage("not a PNG")
    view = memoryview(png)
    kinds: list[bytes] = []
    start = len(_SIGNATURE)
    while not kinds or kinds[-1] != b"IEND":
        if start + 12 > len(png):
            raise BadImage(f"truncated after {len(png):,} bytes")
        length, kind = struct.unpack_from(">I4s", png, start)
        end = start + 12 + length
        if end > len(png):
            raise BadImage(f"truncated after {len(png):,} bytes")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise BadImage(f"damaged: wrong checksum between bytes {start:,} and {end:,}")
        kinds.append(kind)
        start = end
    width, height, depth, colour = struct.unpack_from(">IIBB", png, len(_SIGNATURE + _HEADER))
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels, more than {MAX_PIXELS:,} are not decoded")
    if b"acTL" in kinds or kinds.count(b"IHDR") > 1:
        raise BadImage("more than one picture")
    return _Header(width, height, depth, colour, frozenset(kinds))


def _decoded(pixels: NDArray[np.uint8], mode: str, way: int = cv2.COLOR_RGB2GRAY) -> Decoded:
    """Reduce pixels, uint8 [height, width] or [height, width, 3], to one channel."""
    if pixels.ndim == 2:
        return Decoded(pixels, mode, 0)
    first, second, third = cv2.split(pixels)
    apart = max(cv2.norm(a, b, cv2.NORM_INF) for a, b in ((first, second), (second, third), (third, first)))
    # Three equal channels give that one exactly, and sooner than a weighted sum.
    grey = cv2.cvtColor(pixels, way) if apart else first
    return Decoded(grey, mode, int(apart))  # type: ignore[arg-type]


def _decode_by_pillow(png: bytes) -> Decoded:
    from PIL import Image

    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            if image.mode.startswith("I"):
                # Pillow would cut all above 255 to white here, while it takes the upper byte of 16-bit colours.
                return _decoded((np.asarray(image) >> 8).astype(np.uint8), image.mode)
            if image.mode in ("1", "L", "LA"):
                return _decoded(np.asarray(image.convert("L")), image.mode)
            opaque = image.convert("RGBA") if image.mode == "P" else image
            return _decoded(np.asarray(opaque.convert("RGB")), image.mode)
    except (OSError, SyntaxError, ValueError, IndexError) as error:
        raise BadImage(str(error) or type(error).__name__) from error
