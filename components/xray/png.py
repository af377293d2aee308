"""PNG files from anyone: judged chunk by chunk before a pixel is decoded, then decoded to one channel.

Memory and time are bounded by construction, so no watchdog is needed: a file has at most `archive.MAX_BYTES` bytes, a
picture at most MAX_PIXELS pixels, which its compressed bytes must be able to fill, and decoders get the chunks that
make pixels and no others: no text to unpack, no profile to apply. What is left is one linear pass, at worst about a
second. A decoder stops when the picture is full, however much more its compressed bytes would become.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# MURA's images have at most 512 x 512 pixels, the largest detectors of radiography about 4,300 x 4,300.
MAX_PIXELS = 25_000_000
# What OpenCV counts in 16 bits.
MAX_SIDE = 32_767
# An encoder writes 8 kB or more into one; a file of empty ones would keep us busy for seconds.
MAX_CHUNKS = 50_000
# Text, profiles, thumbnails, what follows the end: all that is not pixels. Colour profiles have some kB, MURA's
# images nothing of the kind.
MAX_OTHER_BYTES = 1_000_000

# Pixels whose channels are compared at once.
STRIPE = 65_536

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bit depths by colour type: grey, RGB, palette, grey and alpha, RGB and alpha (PNG, third edition, table 12).
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PALETTE = 3
# MURA's two modes, as a PNG header has them: bit depth and colour type.
PLAIN = {(8, 0): "L", (8, 2): "RGB"}
# First row, first column, step of rows, step of columns of each pass of an interlaced picture (Adam7).
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))

_HEADER = b"\0\0\0\x0dIHDR"


class BadImage(ValueError):
    """The bytes are not an image we can trust."""


class Decoded(NamedTuple):
    """An image and how it was stored."""

    grey: NDArray[np.uint8]
    """uint8 [height, width]"""
    mode: str
    """As Pillow calls it: L, RGB, ...; with `;16` behind it if it has 16 bits a channel."""
    channel_difference: int
    """How far red, green and blue of a pixel lie apart at most, 0 to 255; 0 if it is a picture in grey."""


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool


class _Chunk(NamedTuple):
    """A chunk and where it lies in the file, its length and checksum included."""

    kind: bytes
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start - 12


def decode(png: bytes) -> Decoded:
    """Decode a PNG to one channel.

    Header, checksums and order of the chunks are judged before any pixel is decoded. A truncated or damaged file is
    an error, never a partly grey picture. Transparency, gamma and profiles are ignored; of 16 bits the upper 8 count.

    Args:
        png: the whole file. What follows the picture's end does no harm unless it is much.

    Raises:
        BadImage: not a PNG, too large, truncated, damaged, or more than one picture.
    """
    header = _header(png)
    chunks = list(_chunks(png))
    _check_order(chunks, header)
    _check_sizes(chunks, header, behind=len(png) - chunks[-1].end)
    bare = _bare(png, chunks, header)
    if mode := PLAIN.get((header.depth, header.colour)):
        return _decode_plain(bare, header, mode)
    return _decode_any(bare, header)


def _header(png: bytes) -> _Header:
    if not png.startswith(SIGNATURE + _HEADER):
        raise BadImage(f"not a PNG{_known_as(png)}")
    if len(png) < 33:
        raise BadImage(f"truncated after {len(png):,} bytes")
    width, height, depth, colour, compression, filters, interlace = struct.unpack_from(">IIBBBBB", png, 16)
    if depth not in DEPTHS.get(colour, ()) or compression or filters or interlace > 1 or not width or not height:
        raise BadImage(
            f"a header that no PNG has: {width} x {height} pixels, {depth} bits, colour type {colour}, "
            f"compression {compression}, filters {filters}, interlacing {interlace}"
        )
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BadImage(f"{width} x {height} pixels, more than {MAX_PIXELS:,} or {MAX_SIDE:,} a side are not decoded")
    return _Header(width, height, depth, colour, bool(interlace))


def _known_as(png: bytes) -> str:
    """What a file that is called a PNG is instead, if that is easily seen."""
    starts = {b"": "empty", b"\xff\xd8\xff": "a JPEG", b"GIF8": "a GIF", b"II*\0": "a TIFF", b"MM\0*": "a TIFF"}
    starts |= {b"BM": "a BMP", b"RIFF": "a WebP", b"PK\3\4": "a zip", b"<": "a web page", b"\0\5\x16\7": "AppleDouble"}
    if b"DICM" in png[128:132]:
        return ", but DICOM"
    name = next((name for start, name in starts.items() if start and png.startswith(start)), "" if png else "empty")
    return f", but {name}" if name else ""


def _chunks(png: bytes) -> Iterator[_Chunk]:
    """The chunks of a file to the last, IEND, each unharmed.

    Decoders are lenient: Pillow shows what it has of a damaged picture, libpng writes to stderr.
    """
    view, start, kind = memoryview(png), len(SIGNATURE), b""
    for _ in range(MAX_CHUNKS):
        if start + 12 > len(png):
            raise BadImage(f"truncated after {len(png):,} bytes")
        length, kind = struct.unpack_from(">I4s", png, start)
        end = start + 12 + length
        if end > len(png):
            raise BadImage(f"truncated after {len(png):,} bytes")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise BadImage(f"damaged: wrong checksum between bytes {start:,} and {end:,}")
        yield _Chunk(kind, start, end)
        if kind == b"IEND":
            return
        start = end
    raise BadImage(f"more than {MAX_CHUNKS:,} chunks")


def _check_order(chunks: list[_Chunk], header: _Header) -> None:
    """See that those chunks are there that a picture needs, once, and where they belong (PNG, section 5.6)."""
    kinds = [chunk.kind for chunk in chunks]
    if {b"acTL", b"fcTL", b"fdAT"} & set(kinds) or kinds.count(b"IHDR") > 1:
        raise BadImage("more than one picture")
    for kind in sorted(set(kinds) - {b"IHDR", b"PLTE", b"IDAT", b"IEND"}):
        # A capital letter says that the picture cannot be understood without the chunk.
        if not kind.isalpha() or kind[:1].isupper():
            raise BadImage(f"an unknown chunk {kind!r}")
    if b"IDAT" not in kinds:
        raise BadImage("no pixels")
    first, count = kinds.index(b"IDAT"), kinds.count(b"IDAT")
    if kinds[first : first + count] != [b"IDAT"] * count:
        raise BadImage("other chunks between those of the pixels")
    palettes = [chunk for chunk in chunks if chunk.kind == b"PLTE"]
    if header.colour == PALETTE and not palettes:
        raise BadImage("no palette")
    if len(palettes) > 1 or any(not 3 <= chunk.length <= 768 or chunk.length % 3 for chunk in palettes):
        raise BadImage("a damaged palette")
    if palettes and kinds.index(b"PLTE") > first:
        raise BadImage("the palette behind the pixels")


def _check_sizes(chunks: list[_Chunk], header: _Header, behind: int) -> None:
    """See that the compressed bytes can be these pixels, and that the file is about pixels."""
    other = behind + sum(chunk.length for chunk in chunks if chunk.kind not in (b"IHDR", b"PLTE", b"IDAT"))
    if other > MAX_OTHER_BYTES:
        raise BadImage(f"{other:,} bytes that are no pixels, more than {MAX_OTHER_BYTES:,} are not accepted")
    compressed = sum(chunk.length for chunk in chunks if chunk.kind == b"IDAT")
    pixels = _raw_bytes(header)
    # Deflate packs at most 1,032 bytes into one, and at worst adds some bytes to every block.
    if not pixels / 1032 - 16 <= compressed <= pixels * 1.1 + 1024:
        raise BadImage(f"{compressed:,} compressed bytes cannot be {header.width} x {header.height} pixels")


def _raw_bytes(header: _Header) -> int:
    """Bytes of all rows, each with the number of its filter in front."""
    bits = header.depth * CHANNELS[header.colour]
    passes = PASSES if header.interlaced else ((0, 0, 1, 1),)
    total = 0
    for top, left, down, right in passes:
        rows, columns = -(-(header.height - top) // down), -(-(header.width - left) // right)
        if rows > 0 and columns > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _bare(png: bytes, chunks: list[_Chunk], header: _Header) -> bytes:
    """The file without all that makes no pixels; the same bytes if there is nothing of the kind."""
    kept = {b"IHDR", b"IDAT", b"IEND"} | ({b"PLTE"} if header.colour == PALETTE else set())
    if all(chunk.kind in kept for chunk in chunks):
        return png
    return SIGNATURE + b"".join(png[chunk.start : chunk.end] for chunk in chunks if chunk.kind in kept)


def _decode_plain(png: bytes, header: _Header, mode: str) -> Decoded:
    """MURA's two modes, in half of OpenCV's time."""
    from kornia_rs.io import decode_image_png_u8

    shape = (header.height, header.width)
    try:
        pixels = decode_image_png_u8(png, shape, "mono" if mode == "L" else "rgb")
    # The library has no kind of its own.
    except Exception as error:
        raise BadImage(
            f"{header.width} x {header.height} pixels that cannot be decoded ({_first_line(error)})"
        ) from error
    return Decoded(pixels.reshape(shape), mode, 0) if mode == "L" else _reduced(pixels, mode)


def _decode_any(png: bytes, header: _Header) -> Decoded:
    from PIL import Image

    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            mode = image.mode
            if mode.startswith("I"):
                # Pillow would cut all above 255 to white here, while it takes the upper byte of 16-bit colours.
                return Decoded((np.asarray(image) >> 8).astype(np.uint8), mode, 0)
            if header.depth == 16:
                mode += ";16"
            if mode.startswith(("RGB", "P")):
                coloured = image.convert("RGB") if mode == "P" else image
                # Channel by channel: an array of the whole would be made of two more copies.
                channels = [np.asarray(coloured.getchannel(i)) for i in range(3)]
                return _reduced(np.asarray(cv2.merge(channels), np.uint8), mode)
            return Decoded(np.asarray(image.convert("L")), mode, 0)
    except (OSError, SyntaxError, ValueError, IndexError, zlib.error, struct.error) as error:
        raise BadImage(
            f"{header.width} x {header.height} pixels that cannot be decoded ({_first_line(error)})"
        ) from error


def _reduced(pixels: NDArray[np.uint8], mode: str) -> Decoded:
    """One channel of red, green and blue, uint8 [height, width, 3]."""
    apart, rows = 0, max(1, STRIPE // pixels.shape[1])
    # Some rows at a time: the allocator gives channels of a whole picture back to the system, and getting them anew
    # for the next one costs half as much as decoding.
    for top in range(0, len(pixels), rows):
        red, green, blue = cv2.split(pixels[top : top + rows])
        far = max(cv2.norm(red, green, cv2.NORM_INF), cv2.norm(green, blue, cv2.NORM_INF))
        apart = max(apart, int(max(far, cv2.norm(blue, red, cv2.NORM_INF)) if far else 0))
    # Three equal channels give that one exactly: the weights are fractions whose sum is 1.
    return Decoded(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8), mode, apart)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
