import io
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import picture, png
from PIL import Image

from components import images
from components.images import BadImage

GREY = picture(1)
COLOUR = np.dstack([picture(seed) for seed in (2, 3, 4)])
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def as_png(mode: str, **options: object) -> bytes:
    """The grey or the coloured picture, stored in one of Pillow's modes."""
    if mode == "I;16":
        return png(GREY.astype(np.uint16) * 256 + 7)
    source = COLOUR if mode.startswith(("RGB", "P")) else GREY
    file = io.BytesIO()
    Image.fromarray(source).convert(mode).save(file, "PNG", **options)
    return file.getvalue()


def chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = len(SIGNATURE)
    while start < len(file):
        length, kind = struct.unpack_from(">I4s", file, start)
        yield kind, file[start + 8 : start + 8 + length]
        start += length + 12


def assemble(*parts: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks, with right checksums."""
    whole = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return SIGNATURE + b"".join(whole)


def with_chunk(file: bytes, *parts: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks behind its header."""
    header, *others = chunks(file)
    return assemble(header, *parts, *others)


def made(width: int, height: int, pixels: bytes, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return assemble((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))


def interlaced(grey: np.ndarray) -> bytes:
    """A grey PNG in Adam7 order, which Pillow cannot write."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row for y, x, dy, dx in passes for row in grey[y::dy, x::dx]]
    return made(*grey.shape[::-1], b"".join(b"\0" + row.tobytes() for row in rows), interlace=1)


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
    "interlaced": interlaced(GREY),
    "2 bits": made(64, 48, b"".join(b"\0" + bytes(range(16)) for _ in range(48)), depth=2),
    "a text": with_chunk(as_png("L"), (b"tEXt", b"Comment\0wrist")),
    "turned by EXIF": as_png("L", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    "one pixel": png(np.full((1, 1), 77, np.uint8)),
    "bytes behind the end": as_png("L") + b"trailing",
}


@pytest.mark.parametrize("file", ALIKE.values(), ids=ALIKE)
def test_pixels_are_those_that_pillow_sees(file: bytes) -> None:
    grey = images.decode(file).grey
    assert grey.dtype == np.uint8
    # The weights of red, green and blue are the same, their rounding is not.
    assert np.abs(grey - by_pillow(file)).max() <= 1


@pytest.mark.parametrize("name", ["L", "RGB of one grey", "grey and alpha", "interlaced"])
def test_grey_levels_are_kept_exactly(name: str) -> None:
    assert (images.decode(ALIKE[name]).grey == GREY).all()


def test_it_is_told_how_far_the_channels_lie_apart() -> None:
    coloured = np.dstack([GREY] * 3)
    coloured[5, 7] = (10, 52, 20)
    assert images.decode(png(coloured)).channel_difference == 42
    assert images.decode(as_png("P")).channel_difference > 100
    for name in ("L", "RGB of one grey", "1 bit", "grey and alpha"):
        assert images.decode(ALIKE[name]).channel_difference == 0


def test_of_16_bits_the_upper_8_count() -> None:
    assert (images.decode(as_png("I;16")).grey == GREY).all()
    deep = (np.dstack([GREY] * 3).astype(np.uint16) * 256 + 9).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    assert (images.decode(made(64, 48, rows, depth=16, colour=2)).grey == GREY).all()


def test_a_palette_with_transparent_entries_shows_its_colours() -> None:
    file = as_png("P", transparency=bytes(range(0, 256, 2)))
    assert np.abs(images.decode(file).grey - by_pillow(as_png("P"))).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA", "1", "I;16"])
def test_the_mode_is_named_as_pillow_names_it(mode: str) -> None:
    assert images.decode(as_png(mode)).mode == mode


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "1", "I;16"])
def test_an_image_cut_anywhere_is_refused(mode: str) -> None:
    whole = as_png(mode)
    for kept in [*range(0, len(whole), 13), *range(len(whole) - 30, len(whole))]:
        with pytest.raises(BadImage):
            images.decode(whole[:kept])


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "1", "I;16"])
def test_an_image_with_a_flipped_bit_anywhere_is_refused(mode: str) -> None:
    whole = as_png(mode)
    for place in [*range(60), *range(60, len(whole), 7), *range(len(whole) - 30, len(whole))]:
        harmed = bytearray(whole)
        harmed[place] ^= 1 << place % 8
        with pytest.raises(BadImage):
            images.decode(bytes(harmed))


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
        grey = images.decode(assemble(*parts)).grey
    except BadImage:
        return
    assert (grey.dtype, grey.ndim) == (np.uint8, 2)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG")
    return file.getvalue()


ROWS = b"".join(b"\0" + row.tobytes() for row in GREY)
HEADER, PIXELS, END = chunks(as_png("L"))
REFUSED = {
    "nothing": ("not a PNG", b""),
    "a JPEG": ("not a PNG", jpeg()),
    "a text": ("not a PNG", b"<html>404</html>"),
    "only the signature": ("not a PNG", SIGNATURE),
    "a header of another length": ("not a PNG", assemble((b"IHDR", HEADER[1] + b"\0"), PIXELS, END)),
    "no header": ("not a PNG", assemble(PIXELS, END)),
    "two headers": ("more than one", assemble(HEADER, HEADER, PIXELS, END)),
    "no end": ("truncated", assemble(HEADER, PIXELS)),
    "no pixels": ("cannot be decoded", assemble(HEADER, END)),
    "pixels that end too early": ("cannot be decoded", made(64, 48, ROWS[:-1])),
    "pixels cut with right checksums": ("cannot be decoded", assemble(HEADER, (b"IDAT", PIXELS[1][:-9]), END)),
    "pixels that are no zlib": ("cannot be decoded", assemble(HEADER, (b"IDAT", b"pixels"), END)),
    "no width": ("cannot be decoded", made(0, 48, ROWS)),
    "too wide for a decoder": ("cannot be decoded", made(2_000_000, 1, bytes(2_000_001))),
    "a depth there is not": ("cannot|not", made(64, 48, ROWS, depth=7)),
    "an animation": ("more than one", with_chunk(as_png("L"), (b"acTL", struct.pack(">II", 2, 0)))),
}


@pytest.mark.parametrize(("reason", "file"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_image_is_refused_with_the_reason_in_one_line(reason: str, file: bytes) -> None:
    with pytest.raises(BadImage, match=reason) as refusal:
        images.decode(file)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("colour", [0, 2, 3, 6])
def test_a_bomb_is_refused_before_memory_is_taken(colour: int) -> None:
    # In a process that could not hold it: 65,000 x 65,000 pixels are 4 GB.
    script = f"""
        import resource, struct, zlib
        from components import images

        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        header = struct.pack(">IIBBBBB", 65_000, 65_000, 8, {colour}, 0, 0, 0)
        parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
        bomb = {SIGNATURE!r} + b"".join(chunk(*part) for part in parts)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            images.decode(bomb)
        except images.BadImage as error:
            print(error, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 20_000)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "65000 x 65000 pixels, more than 64,000,000 are not decoded True\n"
    assert done.stderr == ""


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_decoders_say_nothing_of_their_own_about_a_damaged_file(mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = as_png(mode)
    for file in (whole[:100], whole[:-20], whole[:200] + b"\0" + whole[201:], whole[:-1] + b"\0"):
        with pytest.raises(BadImage):
            images.decode(file)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("height", "width", "size", "inner"),
    [
        (48, 64, 32, (24, 32)),
        (64, 48, 32, (32, 24)),
        (50, 50, 32, (32, 32)),
        (12, 16, 64, (48, 64)),
        (512, 1, 32, (32, 1)),
        (1, 4000, 64, (1, 64)),
        (32, 32, 32, (32, 32)),
    ],
)
def test_the_aspect_is_kept_and_the_rest_is_black(height: int, width: int, size: int, inner: tuple[int, int]) -> None:
    fitted = images.fit(np.full((height, width), 200, np.uint8), size)
    assert (fitted.shape, fitted.dtype) == ((size, size), np.uint8)
    rows, columns = np.nonzero(fitted.any(1))[0], np.nonzero(fitted.any(0))[0]
    assert (len(rows), len(columns)) == inner
    assert set(np.unique(fitted)) <= {0, 200}


@settings(deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), size=st.integers(8, 128), level=st.integers(1, 255))
def test_the_image_lies_in_the_middle_and_touches_two_sides(height: int, width: int, size: int, level: int) -> None:
    fitted = images.fit(np.full((height, width), level, np.uint8), size)
    for side, long in (((fitted.any(1)), height >= width), ((fitted.any(0)), width >= height)):
        filled = np.nonzero(side)[0]
        before, after = filled[0], size - 1 - filled[-1]
        assert abs(before - after) <= 1
        assert len(filled) == filled[-1] - filled[0] + 1
        if long:
            assert len(filled) == size


def test_a_circle_stays_a_circle() -> None:
    y, x = np.mgrid[:60, :100]
    fitted = images.fit(np.where((y - 30) ** 2 + (x - 50) ** 2 < 400, 255, 0).astype(np.uint8), 64)
    height, width = np.ptp(np.nonzero(fitted > 127)[0]), np.ptp(np.nonzero(fitted > 127)[1])
    assert abs(height - width) <= 1


def test_an_image_of_the_right_size_is_not_touched() -> None:
    square = picture(5, 64, 64)
    assert (images.fit(square, 64) == square).all()


def test_shrinking_averages() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (64, 32))
    assert (images.fit(stripes, 32) == 100).all()


def bits_apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


@pytest.mark.parametrize("shape", [(48, 64), (300, 512), (512, 511), (20, 16)])
def test_pictures_that_look_alike_have_near_hashes(shape: tuple[int, int]) -> None:
    original = picture(7, *shape)
    noise = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
    for changed, most in ((original + np.uint8(4), 2), (original + noise, 4)):
        assert bits_apart(images.perceptual_hash(original), images.perceptual_hash(changed)) <= most


def test_a_picture_and_its_thumbnail_have_near_hashes() -> None:
    large = picture(8, 400, 512)
    thumbnail = np.asarray(Image.fromarray(large).resize((256, 200), Image.Resampling.BOX))
    assert bits_apart(images.perceptual_hash(large), images.perceptual_hash(thumbnail)) <= 2


def test_different_pictures_have_hashes_far_apart() -> None:
    hashes = [images.perceptual_hash(picture(seed)) for seed in range(20)]
    assert min(bits_apart(one, other) for one in hashes for other in hashes if one is not other) > 10


def test_a_hash_is_16_hex_digits_also_of_a_blank_picture() -> None:
    blank = [images.perceptual_hash(np.full((48, 64), level, np.uint8)) for level in (0, 1, 90, 255)]
    assert blank == ["0" * 16, *["8" + "0" * 15] * 3]


def test_brightness_does_not_touch_the_hash_of_a_flat_picture() -> None:
    ramp = np.tile(np.linspace(0, 200, 64).astype(np.uint8), (48, 1))
    assert len({images.perceptual_hash(ramp + np.uint8(more)) for more in range(0, 56, 5)}) == 1


def test_what_a_symmetric_picture_lacks_is_no_bit_of_its_hash() -> None:
    half = picture(9, 48, 32)
    mirrored = np.hstack([half, half[:, ::-1]])
    digits = images.perceptual_hash(np.vstack([mirrored, mirrored[::-1]]))
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8)).reshape(8, 8)
    # All odd frequencies are zero, but for the error of the transform.
    assert not bits[1::2].any()
    assert not bits[:, 1::2].any()


def test_low_frequencies_are_those_of_the_thumbnail_but_for_brightness_and_contrast() -> None:
    x = np.arange(64)
    wave = 20 * np.cos(np.pi * 3 * (x + 0.5) / 64)
    pictures = [np.tile((level + gain * wave).round().astype(np.uint8), (64, 1)) for level, gain in ((90, 1), (120, 3))]
    for row in images.low_frequencies(images.signature(each).spectrum for each in pictures):
        square = row.reshape(images.SPECTRUM_SIDE, images.SPECTRUM_SIDE)
        assert square[0, 3] == 1
        assert np.abs(square).sum() < 1.1


def test_a_mirrored_picture_has_its_odd_horizontal_frequencies_turned_round() -> None:
    half = picture(9, 200, 300)
    one, other = images.low_frequencies(images.signature(each).spectrum for each in (half, half[:, ::-1]))
    odd = np.tile(np.arange(images.SPECTRUM_SIDE) % 2 == 1, images.SPECTRUM_SIDE)
    assert np.abs(np.where(odd, -one, one) - other).max() < 0.03


def test_a_flat_picture_has_no_frequencies() -> None:
    assert not images.low_frequencies([images.signature(np.full((300, 200), 77, np.uint8)).spectrum]).any()
