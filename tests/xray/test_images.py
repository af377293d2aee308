import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import picture
from PIL import Image

from components.xray import images


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
