import numpy as np
import pytest
from miniature import picture
from PIL import Image

from components.xray.signature import SPECTRUM_SIDE, low_frequencies, signature


def phash(grey: np.ndarray) -> str:
    return signature(grey).phash


def bits_apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


@pytest.mark.parametrize("shape", [(48, 64), (300, 512), (512, 511), (20, 16)])
def test_pictures_that_look_alike_have_near_hashes(shape: tuple[int, int]) -> None:
    original = picture(7, *shape)
    noise = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
    for changed, most in ((original + np.uint8(4), 2), (original + noise, 4)):
        assert bits_apart(phash(original), phash(changed)) <= most


def test_a_picture_and_its_thumbnail_have_near_hashes() -> None:
    large = picture(8, 400, 512)
    thumbnail = np.asarray(Image.fromarray(large).resize((256, 200), Image.Resampling.BOX))
    assert bits_apart(phash(large), phash(thumbnail)) <= 2


def test_different_pictures_have_hashes_far_apart() -> None:
    hashes = [phash(picture(seed)) for seed in range(20)]
    assert min(bits_apart(one, other) for one in hashes for other in hashes if one is not other) > 10


def test_a_hash_is_16_hex_digits_also_of_a_blank_picture() -> None:
    blank = [phash(np.full((48, 64), level, np.uint8)) for level in (0, 1, 90, 255)]
    assert blank == ["0" * 16, *["8" + "0" * 15] * 3]


def test_brightness_does_not_touch_the_hash_of_a_flat_picture() -> None:
    ramp = np.tile(np.linspace(0, 200, 64).astype(np.uint8), (48, 1))
    assert len({phash(ramp + np.uint8(more)) for more in range(0, 56, 5)}) == 1


def test_what_a_symmetric_picture_lacks_is_no_bit_of_its_hash() -> None:
    half = picture(9, 48, 32)
    mirrored = np.hstack([half, half[:, ::-1]])
    digits = phash(np.vstack([mirrored, mirrored[::-1]]))
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8)).reshape(8, 8)
    # All odd frequencies are zero, but for the error of the transform.
    assert not bits[1::2].any()
    assert not bits[:, 1::2].any()


def test_low_frequencies_are_those_of_the_thumbnail_but_for_brightness_and_contrast() -> None:
    x = np.arange(64)
    wave = 20 * np.cos(np.pi * 3 * (x + 0.5) / 64)
    pictures = [np.tile((level + gain * wave).round().astype(np.uint8), (64, 1)) for level, gain in ((90, 1), (120, 3))]
    for row in low_frequencies(signature(each).spectrum for each in pictures):
        square = row.reshape(SPECTRUM_SIDE, SPECTRUM_SIDE)
        assert square[0, 3] == 1
        assert np.abs(square).sum() < 1.1


def test_a_mirrored_picture_has_its_odd_horizontal_frequencies_turned_round() -> None:
    half = picture(9, 200, 300)
    one, other = low_frequencies(signature(each).spectrum for each in (half, half[:, ::-1]))
    odd = np.tile(np.arange(SPECTRUM_SIDE) % 2 == 1, SPECTRUM_SIDE)
    assert np.abs(np.where(odd, -one, one) - other).max() < 0.03


def test_a_flat_picture_has_no_frequencies() -> None:
    assert not low_frequencies([signature(np.full((300, 200), 77, np.uint8)).spectrum]).any()
