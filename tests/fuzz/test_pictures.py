"""PNGs of every kind, mutated as bytes, as chunks and before they are compressed: the right picture, or one line."""

import zlib
from pathlib import Path
from random import Random

import numpy as np
from fuzz_outcome import assert_one_line, flipped, fuzz, mutated
from png_suite import Part, assemble, chunks, encode, header

from components.xray.png import CHANNELS, DEPTHS, BadImage, decode

KINDS = [(colour, depth, interlaced) for colour in DEPTHS for depth in DEPTHS[colour] for interlaced in (False, True)]

NAMES = (b"IDAT", b"PLTE", b"IHDR", b"tRNS", b"iCCP", b"fdAT", b"\xff\0\0\0")


def drawn(draw: Random) -> bytes:
    """A picture of any kind and size."""
    colour, depth, interlaced = draw.choice(KINDS)
    shape = draw.randint(1, 40), draw.randint(1, 40), CHANNELS[colour]
    samples = np.random.default_rng(draw.getrandbits(32)).integers(0, 2**depth, shape)
    between = [(b"PLTE", draw.randbytes(3 * 2**depth))] if colour == 3 else []
    return encode(samples, depth, colour, interlaced, between)


def with_chunks_mutated(file: bytes, draw: Random) -> bytes:
    """Bodies, kinds and order of chunks changed; checksums agree."""
    parts = list(chunks(file))
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(parts))
        kind, body = parts[place]
        match draw.randrange(5):
            case 0:
                parts[place] = (kind, mutated(body, draw))
            case 1:
                parts[place] = (
                    draw.choice((b"IDAT", b"PLTE", b"IHDR", b"tRNS", b"iCCP", b"fdAT", b"\xff\0\0\0")),
                    body,
                )
            case 2:
                parts.insert(draw.randrange(len(parts) + 1), (kind, body))
            case 3 if len(parts) > 1:
                del parts[place]
            case _:
                cut = draw.randrange(len(body) + 1)
                parts[place : place + 1] = [(kind, body[:cut]), (kind, body[cut:])]
    return assemble(*parts)


def with_rows_mutated(file: bytes, draw: Random) -> bytes:
    """Rows changed, lost or doubled before they are compressed; all checksums agree."""
    return assemble(*(_compressed_anew(part, draw) for part in chunks(file)))


def _compressed_anew(part: Part, draw: Random) -> Part:
    kind, body = part
    if kind != b"IDAT":
        return part
    return kind, zlib.compress(mutated(zlib.decompress(body), draw), draw.randint(0, 9))


def with_another_header(file: bytes, draw: Random) -> bytes:
    """The pixels of one picture called another size or kind."""
    colour, depth, interlaced = draw.choice(KINDS)
    side = draw.choice((1, 7, 40, 5_000, 32_767))
    _, *others = chunks(file)
    return assemble(header(side, draw.choice((1, 40, side)), depth, colour, 0, 0, interlaced), *others)


CHANGES = (flipped, mutated, with_chunks_mutated, with_rows_mutated, with_another_header)


def test_pngs(tmp_path: Path) -> None:
    def once(draw: Random) -> None:
        file = drawn(draw)
        sound = decode(file)
        changed = draw.choice((flipped, mutated, with_chunks_mutated, with_rows_mutated, with_another_header))(
            file, draw
        )
        try:
            found = decode(changed)
        except BadImage as refusal:
            assert_one_line(str(refusal))
            return
        assert (found.grey.dtype, found.grey.ndim) == (np.uint8, 2)
        # `decisive` raises if the rows are not one whole stream: such a picture is not accepted.
        if decisive(file) == decisive(changed):
            assert (found.grey == sound.grey).all()

    fuzz(once, tmp_path)


def decisive(file: bytes) -> tuple[bytes, ...]:
    """What makes the pixels: header, palette and rows. Raises if the rows are not one whole stream."""
    parts = list(chunks(file[: file.index(b"IEND") + 8]))
    rows = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    return *(body for kind, body in parts if kind in (b"IHDR", b"PLTE")), rows
