"""A PNG encoder that can do all that the format allows, and all that it does not."""

import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from components.xray.png import CHANNELS, DEPTHS, PASSES, SIGNATURE

Part = tuple[bytes, bytes]


def chunks(file: bytes) -> Iterator[Part]:
    """Kind and body of every chunk."""
    start = len(SIGNATURE)
    while start < len(file):
        length, kind = struct.unpack_from(">I4s", file, start)
        yield kind, file[start + 8 : start + 8 + length]
        start += length + 12


def assemble(*parts: Part) -> bytes:
    """A PNG of these chunks, with right checksums."""
    whole = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return SIGNATURE + b"".join(whole)


def with_chunk(file: bytes, *parts: Part) -> bytes:
    """A PNG with more chunks behind its header."""
    header, *others = chunks(file)
    return assemble(header, *parts, *others)


def header(width: int, height: int, depth: int = 8, colour: int = 0, *others: int) -> Part:
    """IHDR; `others` are compression, filters and interlacing."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, *(*others, 0, 0, 0)[:3])


def made(
    width: int,
    height: int,
    raw: bytes,
    depth: int = 8,
    colour: int = 0,
    interlace: int = 0,
    between: Iterable[Part] = (),
) -> bytes:
    """A PNG of rows that are already filtered."""
    pixels = (b"IDAT", zlib.compress(raw))
    return assemble(header(width, height, depth, colour, 0, 0, interlace), *between, pixels, (b"IEND", b""))


def encode(
    samples: np.ndarray, depth: int, colour: int, interlaced: bool = False, between: Iterable[Part] = ()
) -> bytes:
    """A PNG of samples, [height, width, channels] of 0 to 2 ** depth - 1; its rows have all filters in turn."""
    height, width, channels = samples.shape
    assert channels == CHANNELS[colour]
    assert depth in DEPTHS[colour]
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    raw = b"".join(_filtered(samples[top::down, left::right], depth) for top, left, down, right in passes)
    return made(width, height, raw, depth, colour, int(interlaced), between)


def _filtered(samples: np.ndarray, depth: int) -> bytes:
    """Rows of a pass, as bytes, each with the number of its filter in front (PNG, section 9)."""
    if not samples.size:
        return b""
    height, _, channels = samples.shape
    if depth == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8).reshape(height, -1, 1), axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(height, -1), axis=1)
    step = max(1, depth * channels // 8)
    lines, above = [], np.zeros(rows.shape[1], np.int64)
    for number, row in enumerate(rows.astype(np.int64)):
        left = np.concatenate([np.zeros(step, np.int64), row])[: len(row)]
        corner = np.concatenate([np.zeros(step, np.int64), above])[: len(row)]
        guess = left + above - corner
        near_left, near_above, near_corner = np.abs(guess - left), np.abs(guess - above), np.abs(guess - corner)
        paeth = np.where(
            (near_left <= near_above) & (near_left <= near_corner),
            left,
            np.where(near_above <= near_corner, above, corner),
        )
        guesses = (np.zeros_like(row), left, above, (left + above) // 2, paeth)
        lines.append(bytes([number % 5]) + ((row - guesses[number % 5]) % 256).astype(np.uint8).tobytes())
        above = row
    return b"".join(lines)
