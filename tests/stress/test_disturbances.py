"""Each disturbance does to a picture what it says, the more the stronger, and the same for the same seed."""

from typing import Any

import numpy as np
import pytest
from miniature import picture

from components.params.stress import DISTURBANCES as NAMES
from components.stress.disturbances import DISTURBANCES, disturb, seed_of

# Weak, strong.
STRENGTHS = {
    "rotation": (5, 30),
    "brightness": (0.1, 0.3),
    "contrast": (0.25, 0.75),
    "jpeg": (50, 5),
    "crop": (0.1, 0.4),
    "inversion": (0.2, 1.0),
    "noise": (0.02, 0.1),
}
SIDE = 48
SEEDS = range(40)


@pytest.fixture(scope="module")
def pixels() -> Any:
    return np.stack([picture(seed, SIDE, SIDE) for seed in SEEDS]).astype(np.uint8)


def change(pixels: Any, name: str, strength: float) -> float:
    return float(np.abs(disturb(pixels, name, strength, SEEDS).astype(float) - pixels).mean())


def test_every_disturbance_of_the_choices_is_known_and_tried() -> None:
    assert list(DISTURBANCES) == list(NAMES) == list(STRENGTHS)


@pytest.mark.parametrize("name", STRENGTHS)
def test_a_stronger_disturbance_changes_more(pixels: Any, name: str) -> None:
    weak, strong = (change(pixels, name, each) for each in STRENGTHS[name])
    assert 0 < weak < strong


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_result_depends_on_picture_strength_and_seed_alone(pixels: Any, name: str) -> None:
    before, strength = pixels.copy(), STRENGTHS[name][0]
    made = disturb(pixels, name, strength, SEEDS)
    assert (made.shape, made.dtype) == (pixels.shape, np.uint8)
    np.testing.assert_array_equal(pixels, before)
    backwards = disturb(pixels[::-1], name, strength, SEEDS[::-1])
    np.testing.assert_array_equal(made, backwards[::-1])
    assert disturb(pixels[:0], name, strength, ()).shape == (0, SIDE, SIDE)


def dot(row: int, column: int) -> Any:
    made = np.zeros((1, 41, 41), np.uint8)
    made[0, row - 1 : row + 2, column - 1 : column + 2] = 240
    return made


def test_a_rotation_turns_around_the_middle_by_its_degrees_to_either_side() -> None:
    found = set()
    for seed in range(8):
        turned = disturb(dot(20, 35), "rotation", 90, [seed])[0]
        row, column = np.unravel_index(turned.argmax(), turned.shape)
        found.add((round(float(row - 20) / 15), round(float(column - 20) / 15)))
    assert found == {(-1, 0), (1, 0)}


def test_brightness_goes_up_and_down_and_stays_grey() -> None:
    grey = np.full((1, 4, 4), 100, np.uint8)
    assert {int(disturb(grey, "brightness", 0.2, [seed])[0, 0, 0]) for seed in range(8)} == {49, 151}
    assert {int(disturb(grey, "brightness", 1.0, [seed])[0, 0, 0]) for seed in range(8)} == {0, 255}


def test_contrast_keeps_the_mean_and_brings_all_nearer_to_it() -> None:
    two = np.array([[[50, 150]] * 2], np.uint8)
    assert disturb(two, "contrast", 0.5, [0]).tolist() == [[[75, 125]] * 2]


def test_a_crop_shows_less_and_larger() -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8), (1, 100, 1))
    for seed in range(5):
        made = disturb(ramp, "crop", 0.3, [seed])[0]
        assert int(made.max()) - int(made.min()) == 69


def test_an_inversion_exchanges_black_and_white_in_its_share_of_the_pictures(pixels: Any) -> None:
    made = disturb(pixels, "inversion", 0.5, SEEDS)
    inverted = (made == 255 - pixels).all(axis=(1, 2))
    assert ((made == pixels).all(axis=(1, 2)) ^ inverted).all()
    assert 10 <= inverted.sum() <= 30
    # Whoever is inverted at a low share is so at a higher one.
    more = (disturb(pixels, "inversion", 0.8, SEEDS) == 255 - pixels).all(axis=(1, 2))
    assert (more | ~inverted).all()


def test_noise_has_the_standard_deviation_it_says() -> None:
    grey = np.full((1, 200, 200), 128, np.uint8)
    made = disturb(grey, "noise", 0.05, [1])
    assert made.std() == pytest.approx(0.05 * 255, rel=0.03)
    assert made.mean() == pytest.approx(128, abs=0.3)


def test_seeds_are_those_of_image_disturbance_and_run() -> None:
    one = seed_of("a.png", "noise", 1)
    assert one == seed_of("a.png", "noise", 1)
    assert len({one, seed_of("b.png", "noise", 1), seed_of("a.png", "crop", 1), seed_of("a.png", "noise", 2)}) == 4


@pytest.mark.parametrize(
    ("name", "strength", "words"),
    [
        ("rotation", 15, "Rotation 15°"),
        ("jpeg", 10, "JPEG quality 10"),
        ("noise", 0.02, "Noise 2%"),
        ("brightness", 0.1, "Brightness ±10%"),
        ("inversion", 1.0, "Inversion 100% of pictures"),
    ],
)
def test_a_strength_is_written_in_its_unit(name: str, strength: float, words: str) -> None:
    assert DISTURBANCES[name].written(strength) == words
