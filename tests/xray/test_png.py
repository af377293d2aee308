import io
import os
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from hostile import BAD_PNGS, GREY, as_png
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import png
from PIL import Image
from png_suite import assemble, chunks, encode, header, made, with_chunk

from components.xray.png import CHANNELS, DEPTHS, SIGNATURE, BadImage, decode


def by_pillow(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("L")).astype(int)


ALIKE = {
    "L": as_png("L"),
    "RGB of one grey": png(np.dstack([GREY] * 3)),
    "RGB": as_png("RGB"),
    "RGB with gamma": with_chunk(as_png("RGB"), (b"gAMA", struct.pack(">I", 45455))),
    "palette": as_png("P"),
    "1 bit": as_png("1"),
    "grey and alpha": as_png("LA"),
    "RGBA": as_png("RGBA"),
    "one grey is transparent": with_chunk(as_png("L"), (b"tRNS", b"\0\7")),
    "one colour is transparent": with_chunk(as_png("RGB"), (b"tRNS", b"\0\1\0\2\0\3")),
    "interlaced": encode(GREY[..., None], 8, 0, interlaced=True),
    "2 bits": made(64, 48, b"".join(b"\0" + bytes(range(16)) for _ in range(48)), depth=2),
    "a text": with_chunk(as_png("L"), (b"tEXt", b"Comment\0wrist")),
    "turned by EXIF": as_png("L", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    "one pixel": png(np.full((1, 1), 77, np.uint8)),
    "bytes behind the end": as_png("L") + b"trailing",
}


@pytest.mark.parametrize("file", ALIKE.values(), ids=ALIKE)
def test_pixels_are_those_that_pillow_sees(file: bytes) -> None:
    grey = decode(file).grey
    assert grey.dtype == np.uint8
    # The weights of red, green and blue are the same, their rounding is not.
    assert np.abs(grey - by_pillow(file)).max() <= 1


@pytest.mark.parametrize("name", ["L", "RGB of one grey", "grey and alpha", "interlaced"])
def test_grey_levels_are_kept_exactly(name: str) -> None:
    assert (decode(ALIKE[name]).grey == GREY).all()


SHAPES = [(48, 64), (1, 1), (3, 5), (17, 9)]
# All that the format allows: colour type, bit depth, interlacing, size.
SUITE = [
    (*kind, i, shape) for kind in ((c, d) for c in DEPTHS for d in DEPTHS[c]) for i in (False, True) for shape in SHAPES
]


@pytest.mark.parametrize(("colour", "depth", "interlaced", "shape"), SUITE)
def test_every_legal_png_is_decoded_as_two_others_do_and_as_it_was_drawn(
    colour: int, depth: int, interlaced: bool, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(depth * 10 + colour)
    samples = rng.integers(0, 2**depth, (*shape, CHANNELS[colour]))
    palette = rng.integers(0, 256, (2**depth, 3), dtype=np.uint8)
    between = [(b"PLTE", palette.tobytes())] if colour == 3 else []
    between.append((b"gAMA", struct.pack(">I", 45455)))
    file = encode(samples, depth, colour, interlaced, between)

    levels = samples >> 8 if depth == 16 else samples * 255 // (2**depth - 1)
    colours = palette[samples[..., 0]] if colour == 3 else levels[..., :3] if colour in (2, 6) else levels[..., :1]
    drawn = colours @ ((0.299, 0.587, 0.114) if colours.shape[-1] == 3 else (1.0,))
    grey = decode(file).grey.astype(float)
    assert np.abs(grey - drawn).max() < 1
    with Image.open(io.BytesIO(file)) as image:
        wide = image.mode.startswith("I")
        pillow = np.asarray(image) >> 8 if wide else np.asarray(image.convert("RGB").convert("L"))
    assert np.abs(grey - pillow).max() <= 1
    pixels = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    opencv = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)
    assert np.abs(grey - opencv).max() <= 1


def test_it_is_told_how_far_the_channels_lie_apart() -> None:
    coloured = np.dstack([GREY] * 3)
    coloured[5, 7] = (10, 52, 20)
    assert decode(png(coloured)).channel_difference == 42
    assert decode(as_png("P")).channel_difference > 100
    for name in ("L", "RGB of one grey", "1 bit", "grey and alpha"):
        assert decode(ALIKE[name]).channel_difference == 0


def test_of_16_bits_the_upper_8_count() -> None:
    assert (decode(as_png("I;16")).grey == GREY).all()
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        deep = np.dstack([GREY.astype(np.uint16) * 256 + 9] * channels)
        decoded = decode(encode(deep, 16, colour))
        assert (decoded.grey == GREY).all()
        assert decoded.mode == {2: "RGB;16", 4: "RGBA;16", 6: "RGBA;16"}[colour]


def test_a_palette_with_transparent_entries_shows_its_colours() -> None:
    file = as_png("P", transparency=bytes(range(0, 256, 2)))
    assert np.abs(decode(file).grey - by_pillow(as_png("P"))).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA", "1", "I;16"])
def test_the_mode_is_named_as_pillow_names_it(mode: str) -> None:
    assert decode(as_png(mode)).mode == mode


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "1", "I;16"])
def test_an_image_cut_anywhere_is_refused(mode: str) -> None:
    whole = as_png(mode)
    for kept in [*range(0, len(whole), 13), *range(len(whole) - 30, len(whole))]:
        with pytest.raises(BadImage):
            decode(whole[:kept])


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "1", "I;16"])
def test_an_image_with_a_flipped_bit_anywhere_is_refused(mode: str) -> None:
    whole = as_png(mode)
    for place in [*range(60), *range(60, len(whole), 7), *range(len(whole) - 30, len(whole))]:
        harmed = bytearray(whole)
        harmed[place] ^= 1 << place % 8
        with pytest.raises(BadImage):
            decode(bytes(harmed))


@settings(deadline=None)
@given(mode=st.sampled_from(["L", "RGB", "P", "LA", "RGBA", "1", "I;16"]), choose=st.data())
def test_chunks_that_make_no_sense_give_a_picture_or_a_bad_image(mode: str, choose: st.DataObject) -> None:
    parts = list(chunks(as_png(mode)))
    for _ in range(choose.draw(st.integers(1, 3))):
        place = choose.draw(st.integers(0, len(parts) - 1))
        kinds = st.sampled_from([kind for kind, _ in parts] + [b"tRNS", b"PLTE", b"acTL", b"fcTL", b"sBIT", b"IHDR"])
        parts[place] = (
            choose.draw(kinds),
            choose.draw(st.one_of(st.binary(max_size=40), st.just(parts[place][1][:-1]), st.just(parts[place][1]))),
        )
    try:
        grey = decode(assemble(*parts)).grey
    except BadImage:
        return
    assert (grey.dtype, grey.ndim) == (np.uint8, 2)


def mutations(file: bytes, count: int) -> Iterator[bytes]:
    """The same file with bytes of its chunks changed, lost or doubled, and checksums that agree."""
    draw = Random(1)
    parts = list(chunks(file))
    for _ in range(count):
        mutated = list(parts)
        for _ in range(draw.choice((1, 1, 2, 5))):
            place = draw.randrange(len(mutated))
            kind, body = mutated[place]
            start = draw.randrange(len(body) + 1)
            end = min(len(body), start + draw.choice((0, 1, 1, 4, 100)))
            put = draw.choice((draw.randbytes(end - start), b"", body[start:end] * 2, b"\xff" * (end - start)))
            mutated[place] = (kind, body[:start] + put + body[end:])
        yield assemble(*mutated)


@pytest.mark.parametrize("name", ["L", "RGB", "palette", "grey and alpha", "interlaced", "RGBA", "2 bits"])
def test_no_mutation_gives_anything_but_a_picture_or_a_bad_image(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    refusals = []
    for file in mutations(ALIKE[name], 300):
        try:
            grey = decode(file).grey
            assert (grey.dtype, grey.ndim) == (np.uint8, 2)
        except BadImage as refusal:
            refusals.append(str(refusal))
    assert 0 < len(refusals) < 300
    assert not [refusal for refusal in refusals if "\n" in refusal]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("reason", "file"), BAD_PNGS.values(), ids=BAD_PNGS)
def test_what_is_no_image_is_refused_with_the_reason_in_one_line(reason: str, file: bytes) -> None:
    with pytest.raises(BadImage, match=reason) as refusal:
        decode(file)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("colour", [0, 2, 3, 6])
def test_a_bomb_is_refused_before_memory_is_taken(colour: int) -> None:
    # In a process that could not hold it: 65,000 x 65,000 pixels are 4 GB.
    script = f"""
        import struct, zlib
        from components.xray.png import BadImage, decode

        # Not ru_maxrss, which begins with what the parent had.
        def peak_kilobytes():
            return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        header = struct.pack(">IIBBBBB", 65_000, 65_000, 8, {colour}, 0, 0, 0)
        parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
        bomb = {SIGNATURE!r} + b"".join(chunk(*part) for part in parts)
        used = peak_kilobytes()
        try:
            decode(bomb)
        except BadImage as error:
            print(error, peak_kilobytes() - used < 20_000)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "65000 x 65000 pixels, more than the limit of 25,000,000, or 32,767 a side True\n"
    assert done.stderr == ""


@pytest.mark.long
def test_the_largest_pictures_and_the_worst_bombs_within_the_limits_are_decoded_in_little_memory() -> None:
    # One process for all. 5,000 x 5,000 pixels of 4 channels of 16 bits have 200 MB; a text that would unpack to a
    # gigabyte and pixels that would go on for ever are not unpacked.
    script = """
        import time, zlib
        import numpy as np
        from png_suite import assemble, encode, header, made, with_chunk
        from components.xray.png import BadImage, CHANNELS, decode

        # Not ru_maxrss, which begins with what the parent had.
        def peak_kilobytes():
            return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

        def raw(colour, depth):
            return zlib.compress(bytes(5000 * (1 + 5000 * CHANNELS[colour] * depth // 8)), 1)

        files = {(colour, depth): raw(colour, depth) for colour, depth in ((2, 8), (6, 16))}
        small = encode(np.zeros((48, 64, 1), int), 8, 0)
        bomb = zlib.compress(bytes(100_000_000))
        text = with_chunk(small, (b"zTXt", b"Comment\\0\\0" + bomb), (b"iCCP", b"sRGB\\0\\0" + bomb))
        for (colour, depth), pixels in files.items():
            started = time.monotonic()
            decode(assemble(header(5000, 5000, depth, colour), (b"IDAT", pixels), (b"IEND", b"")))
            assert time.monotonic() - started < 10
        decode(text)
        print(peak_kilobytes() // 1000)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert int(done.stdout) < 1000
    assert done.stderr == ""


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_decoders_say_nothing_of_their_own_about_a_damaged_file(mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = as_png(mode)
    for file in (whole[:100], whole[:-20], whole[:200] + b"\0" + whole[201:], whole[:-1] + b"\0"):
        with pytest.raises(BadImage):
            decode(file)
    assert capfd.readouterr() == ("", "")


def rows_of(colour: int, depth: int, interlaced: bool, compressed: bytes, *more: bytes) -> bytes:
    """A picture of 16 x 16 pixels of any kind, with these compressed bytes."""
    palette = [(b"PLTE", bytes(range(256)) * 3)] if colour == 3 else []
    pixels = [(b"IDAT", each) for each in (compressed, *more)]
    return assemble(header(16, 16, depth, colour, 0, 0, int(interlaced)), *palette, *pixels, (b"IEND", b""))


def raw_of(colour: int, depth: int, interlaced: bool) -> bytes:
    """Its rows, filtered and not compressed."""
    samples = np.random.default_rng(depth).integers(0, 2**depth, (16, 16, CHANNELS[colour]))
    (pixels,) = (body for kind, body in chunks(encode(samples, depth, colour, interlaced)) if kind == b"IDAT")
    return zlib.decompress(pixels)


EVERY_KIND = [
    (colour, depth, interlaced) for colour in DEPTHS for depth in DEPTHS[colour] for interlaced in (False, True)
]


@pytest.mark.parametrize(("colour", "depth", "interlaced"), EVERY_KIND)
def test_pixels_are_one_whole_stream_of_exactly_all_rows(colour: int, depth: int, interlaced: bool) -> None:
    raw = raw_of(colour, depth, interlaced)
    whole = zlib.compress(raw)
    # However the stream is cut into chunks, some of them empty.
    for pieces in ([whole], [whole[:10], b"", whole[10:], b""], [whole[i : i + 1] for i in range(len(whole))]):
        assert decode(rows_of(colour, depth, interlaced, *pieces)).grey.shape == (16, 16)
    bad_sum = whole[:-1] + bytes([whole[-1] ^ 1])
    wrong = {
        "half the rows": [zlib.compress(raw[: len(raw) // 2])],
        "a byte less": [zlib.compress(raw[:-1])],
        "a byte more": [zlib.compress(raw + b"\0")],
        "many rows more": [zlib.compress(raw * 30)],
        "no rows": [zlib.compress(b"")],
        "another checksum": [bad_sum],
        "another checksum in another chunk": [bad_sum[:-2], bad_sum[-2:]],
        "no checksum": [whole[:-4]],
        "half a checksum": [whole[:-2]],
        "a second stream": [whole + whole],
        "a second stream in another chunk": [whole, whole],
        "bytes behind the stream": [whole, b"hidden"],
        "a stream that goes on": [zlib.compressobj().compress(raw) + zlib.compressobj().flush(zlib.Z_SYNC_FLUSH)],
    }
    for name, pieces in wrong.items():
        with pytest.raises(BadImage, match="cannot be"):
            pytest.fail(f"{name} gives {decode(rows_of(colour, depth, interlaced, *pieces)).mode}")


def test_a_colour_that_the_palette_lacks_is_refused() -> None:
    palette = [(b"PLTE", bytes(9))]
    assert decode(encode(np.array([[[0], [2]]]), 8, 3, False, palette)).mode == "P"
    with pytest.raises(BadImage, match="colours that the palette lacks"):
        decode(encode(np.array([[[0], [3]]]), 8, 3, False, palette))
