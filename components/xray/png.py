"""Untrusted PNG files: check all chunks, then decode to one channel.

Memory and time have limits, so no watchdog is needed. A file has at most `archive.MAX_BYTES` bytes and a picture at
most MAX_PIXELS pixels, and the size of the compressed data must fit to that number. Decoders get only the chunks that
make pixels: no text to unpack, no profile to apply. Decoding then is two linear passes of at most about a second each.

The first pass only unpacks. Decoders stop when they have all rows, and some also when the data ends before: they show
the missing rows black. None compares the checksum of the pixels in all cases.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray
from PIL import Image

from components.base.errors import first_line, out_of_memory

# MURA's images have at most 512 x 512 pixels, the largest detectors of radiography about 4,300 x 4,300.
MAX_PIXELS = 25_000_000
# OpenCV's limit: 16 bits.
MAX_SIDE = 32_767
# Encoders write 8 kB or more into a chunk. A file of empty chunks would take seconds.
MAX_CHUNKS = 50_000
# Everything that is not pixels: text, profiles, thumbnails, bytes after the end. Colour profiles have some kB; MURA's
# images have nothing of this.
MAX_OTHER_BYTES = 1_000_000

# Compressed bytes that are unpacked in one step: at most 17 MB.
PIECE = 16_384
# Pixels whose channels are compared in one step.
STRIPE = 65_536

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bit depths by colour type: grey, RGB, palette, grey and alpha, RGB and alpha (PNG, third edition, table 12).
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PALETTE = 3
# MURA's two modes by bit depth and colour type of the PNG header.
PLAIN = {(8, 0): "L", (8, 2): "RGB"}
# First row, first column, step of rows, step of columns of each pass of an interlaced picture (Adam7).
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))

Grey = NDArray[np.uint8]

_HEADER = b"\0\0\0\x0dIHDR"


class BadImage(ValueError):
    """The bytes are not a valid picture."""


class Decoded(NamedTuple):
    """A picture and how it was stored."""

    grey: Grey
    """uint8 [height, width]"""
    mode: str
    """Pillow's name: L, RGB, ...; followed by `;16` if a channel has 16 bits."""
    channel_difference: int
    """The largest difference between red, green and blue of a pixel, 0 to 255; 0 for a grey picture."""


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool


class _Chunk(NamedTuple):
    """A chunk and its position in the file, with its length and checksum."""

    kind: bytes
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start - 12


def decode(png: bytes, known: bool = False) -> Decoded:
    """Decode a PNG to one channel.

    Header, checksums and order of the chunks are checked before any pixel is decoded. A truncated or damaged file is
    an error, never a partly grey picture. Transparency, gamma and profiles are ignored. 16 bits are cut to 8.

    Args:
        png: the whole file. A few bytes after the end are accepted.
        known: these very bytes were decoded before, by their sha256. They are not unpacked to compare length and
            checksum of the pixels again, which takes as long as decoding.

    Raises:
        BadImage: not a PNG, too large, truncated, damaged, or more than one picture.
    """
    header = _header(png)
    chunks = list(_chunks(png))
    _check_order(chunks, header)
    _check_sizes(chunks, header, behind=len(png) - chunks[-1].end)
    if not known:
        _check_unpacked(png, chunks, header)
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
            f"an invalid header: {width} x {height} pixels, {depth} bits, colour type {colour}, "
            f"compression {compression}, filters {filters}, interlacing {interlace}"
        )
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BadImage(f"{width} x {height} pixels, more than the limit of {MAX_PIXELS:,}, or {MAX_SIDE:,} a side")
    return _Header(width, height, depth, colour, bool(interlace))


def _known_as(png: bytes) -> str:
    """Name the file's real format, if it is a common one."""
    pictures = {b"\xff\xd8\xff": "a JPEG", b"GIF8": "a GIF", b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"BM": "a BMP"}
    pictures |= {b"RIFF": "a WebP"}
    others = {b"PK\3\4": "a zip", b"<": "a web page", b"\0\5\x16\7": "AppleDouble"}
    if not png:
        return ", but empty: copy it again"
    if png[128:132] == b"DICM":
        return ", but DICOM: convert it to PNG"
    for names, advice in ((pictures, "convert it to PNG"), (others, "copy the picture again")):
        for start, name in names.items():
            if png.startswith(start):
                return f", but {name}: {advice}"
    return ""


def _chunks(png: bytes) -> Iterator[_Chunk]:
    """The chunks of a file up to IEND. Their checksums are compared.

    Decoders accept damage: Pillow shows the undamaged part of a picture, libpng writes to stderr.
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
    """Check that all necessary chunks are there once and in the right order (PNG, section 5.6)."""
    kinds = [chunk.kind for chunk in chunks]
    if {b"acTL", b"fcTL", b"fdAT"} & set(kinds) or kinds.count(b"IHDR") > 1:
        raise BadImage("more than one picture")
    for kind in sorted(set(kinds) - {b"IHDR", b"PLTE", b"IDAT", b"IEND"}):
        # A capital first letter means that the picture cannot be decoded without the chunk.
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
        raise BadImage("the palette after the pixels")


def _check_sizes(chunks: list[_Chunk], header: _Header, behind: int) -> None:
    """Check that the compressed data can have that many pixels, and that the file has little else."""
    other = behind + sum(chunk.length for chunk in chunks if chunk.kind not in (b"IHDR", b"PLTE", b"IDAT"))
    if other > MAX_OTHER_BYTES:
        raise BadImage(f"{other:,} bytes that are no pixels, more than the limit of {MAX_OTHER_BYTES:,}")
    compressed = sum(chunk.length for chunk in chunks if chunk.kind == b"IDAT")
    pixels = _raw_bytes(header)
    # Deflate packs at most 1,032 bytes into one. At worst it adds a few bytes to every block.
    if not pixels / 1032 - 16 <= compressed <= pixels * 1.1 + 1024:
        raise BadImage(f"{compressed:,} compressed bytes cannot be {header.width} x {header.height} pixels")


def _check_unpacked(png: bytes, chunks: list[_Chunk], header: _Header) -> None:
    """Check that the compressed data is one whole zlib stream, with exactly the bytes of all rows."""
    view, stream, expected, found = memoryview(png), zlib.decompressobj(), _raw_bytes(header), 0
    for chunk in chunks:
        if chunk.kind != b"IDAT":
            continue
        for start in range(chunk.start + 8, chunk.end - 4, PIECE):
            if stream.eof:
                raise _undecodable(header, "bytes follow the compressed pixels")
            try:
                found += len(stream.decompress(view[start : min(start + PIECE, chunk.end - 4)]))
            except zlib.error as error:
                raise _undecodable(header, error) from error
            if found > expected:
                raise _undecodable(header, f"more than the {expected:,} bytes of its rows")
    if not stream.eof:
        raise _undecodable(header, "the compressed pixels have no end")
    if found < expected:
        raise _undecodable(header, f"{found:,} bytes, expected {expected:,} of its rows")
    if stream.unused_data:
        raise _undecodable(header, "bytes follow the compressed pixels")


def _undecodable(header: _Header, why: BaseException | str) -> BadImage:
    """What to raise for a picture.

    Raises:
        MemoryError: the memory was too small for a decoder. That says nothing about the picture.
    """
    if isinstance(why, BaseException) and out_of_memory(why):
        raise MemoryError from why
    said = why if isinstance(why, str) else first_line(why)
    return BadImage(f"{header.width} x {header.height} pixels that cannot be decoded: {said}")


def _raw_bytes(header: _Header) -> int:
    """Uncompressed bytes: all rows, each after a byte for its filter."""
    bits = header.depth * CHANNELS[header.colour]
    passes = PASSES if header.interlaced else ((0, 0, 1, 1),)
    total = 0
    for top, left, down, right in passes:
        rows, columns = -(-(header.height - top) // down), -(-(header.width - left) // right)
        if rows > 0 and columns > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _bare(png: bytes, chunks: list[_Chunk], header: _Header) -> bytes:
    """The file with only the chunks that make pixels."""
    kept = {b"IHDR", b"IDAT", b"IEND"} | ({b"PLTE"} if header.colour == PALETTE else set())
    if all(chunk.kind in kept for chunk in chunks):
        return png
    return SIGNATURE + b"".join(png[chunk.start : chunk.end] for chunk in chunks if chunk.kind in kept)


def _decode_plain(png: bytes, header: _Header, mode: str) -> Decoded:
    """Decode MURA's two modes. kornia takes half of OpenCV's time."""
    shape = (header.height, header.width)
    try:
        pixels = decode_image_png_u8(png, shape, "mono" if mode == "L" else "rgb")
    # The library has no exception class of its own.
    except Exception as error:
        raise _undecodable(header, error) from error
    return Decoded(pixels.reshape(shape), mode, 0) if mode == "L" else _reduced(pixels, mode)


def _decode_any(png: bytes, header: _Header) -> Decoded:
    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            mode = image.mode
            if mode.startswith("I"):
                # Pillow's own conversion would make all levels above 255 white.
                return Decoded((np.asarray(image) >> 8).astype(np.uint8), mode, 0)
            if header.depth == 16:
                mode += ";16"
            if image.palette is not None and np.asarray(image).max() >= len(image.palette.palette) // 3:
                raise _undecodable(header, "colours that the palette lacks")
            if mode.startswith(("RGB", "P")):
                coloured = image.convert("RGB") if mode == "P" else image
                # Channel by channel: an array of the whole picture would need two more copies.
                channels = [np.asarray(coloured.getchannel(i)) for i in range(3)]
                return _reduced(np.asarray(cv2.merge(channels), np.uint8), mode)
            return Decoded(np.asarray(image.convert("L")), mode, 0)
    except BadImage:
        raise
    except (OSError, SyntaxError, ValueError, IndexError, zlib.error, struct.error) as error:
        raise _undecodable(header, error) from error


def _reduced(pixels: NDArray[np.uint8], mode: str) -> Decoded:
    """Reduce red, green and blue, uint8 [height, width, 3], to one channel."""
    apart, rows = 0, max(1, STRIPE // pixels.shape[1])
    # Some rows at a time: the allocator returns large blocks to the system, and getting them again for every picture
    # would cost half as much as decoding.
    for top in range(0, len(pixels), rows):
        red, green, blue = cv2.split(pixels[top : top + rows])
        far = max(cv2.norm(red, green, cv2.NORM_INF), cv2.norm(green, blue, cv2.NORM_INF))
        apart = max(apart, int(max(far, cv2.norm(blue, red, cv2.NORM_INF)) if far else 0))
    # Three equal channels give exactly that channel: the sum of the weights is 1.
    return Decoded(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8), mode, apart)
