"""Random changes of the pictures in training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.network.augmentation import RandomPlace, augmentation
from components.params.document import read_params
from components.params.train import TrainParams

DEMO = read_params(Path(__file__).parents[2] / "params.yaml").train.candidates["custom_cnn"]
OFF = {"flip": False, "rotation": 0.0, "zoom": 0.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}
SIDE = 33  # odd, so that a pixel is the centre
ALL = {"flip": True, "rotation": 20.0, "zoom": 0.2, "shift": 0.1, "brightness": 0.1, "contrast": 0.2}


def params(**choices: Any) -> TrainParams:
    return DEMO.model_copy(update=OFF | choices)


def changed(pictures: np.ndarray, seed: int = 1, **choices: Any) -> np.ndarray:
    for layer in augmentation(params(**choices), seed):
        pictures = layer(pictures, training=True)
    return np.asarray(pictures)


def spot(x: int, y: int, count: int = 64) -> np.ndarray:
    """A bright blob of 3 x 3 pixels around (x, y) in black pictures."""
    pictures = np.zeros((count, SIDE, SIDE, 1), np.float32)
    pictures[:, y - 1 : y + 2, x - 1 : x + 2] = 200
    return pictures


def centres(pictures: np.ndarray) -> np.ndarray:
    """Where the blobs are, from the centre of the picture: [B, 2], right and down."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    weight = pictures[..., 0]
    return np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1) / weight.sum((1, 2))[:, None]


def test_what_is_not_asked_for_is_not_there() -> None:
    assert list(augmentation(params(), 1)) == []
    assert [layer.name for layer in augmentation(params(**ALL), 1)] == ["flip", "place", "brightness", "contrast"]


@pytest.mark.parametrize("name", [name for name in ALL if name != "flip"])
def test_each_change_acts_in_training_only_and_differs_from_picture_to_picture(name: str) -> None:
    picture = np.random.default_rng(0).integers(40, 200, (1, SIDE, SIDE, 1)).astype(np.float32)
    pictures = np.repeat(picture, 4, axis=0)
    (layer,) = augmentation(params(**{name: ALL[name]}), 1)
    still, moved = (np.asarray(layer(pictures, training=training)) for training in (False, True))
    np.testing.assert_array_equal(still, pictures)
    assert len({each.tobytes() for each in moved}) == 4
    assert moved.min() >= 0
    assert moved.max() <= 255


def test_a_rotation_is_in_degrees_around_the_centre() -> None:
    where = centres(changed(spot(28, 16), rotation=30.0))
    angles = np.degrees(np.arctan2(where[:, 1], where[:, 0]))
    assert -30.5 <= angles.min() < -20
    assert 20 < angles.max() <= 30.5
    np.testing.assert_allclose(np.hypot(*where.T), 12, atol=0.3)


def test_a_zoom_enlarges_and_reduces_alike() -> None:
    distance = centres(changed(spot(24, 16), zoom=0.25))[:, 0] / 8
    assert 0.79 < distance.min() < 0.85
    assert 1.18 < distance.max() < 1.26


def test_a_shift_is_a_share_of_the_side_in_each_direction() -> None:
    where = centres(changed(spot(16, 16), shift=0.1))
    assert (np.abs(where) <= 0.1 * SIDE + 0.01).all()
    assert (where.min(axis=0) < -2.5).all()
    assert (where.max(axis=0) > 2.5).all()


def test_what_comes_in_from_outside_is_black() -> None:
    white = np.full((8, SIDE, SIDE, 1), 255, np.float32)
    turned = changed(white, rotation=30.0)
    assert (turned[:, 12:21, 12:21] > 250).all()
    assert (turned[:, 0, 0] < 5).any()


def test_all_changes_of_place_interpolate_once() -> None:
    places = [layer for layer in augmentation(params(**ALL), 1) if isinstance(layer, RandomPlace)]
    assert len(places) == 1


def test_the_same_seed_gives_the_same_pictures_and_another_others() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 1)).astype(np.float32)
    one, same, other = (changed(pictures, seed, **ALL).tobytes() for seed in (1, 1, 2))
    assert one == same != other
