import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from miniature import picture

from components.xray.grey_levels import grey_levels, pixels_sha256

PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@settings(deadline=None)
@given(grey=PICTURES)
def test_levels_are_those_that_numpy_counts(grey: np.ndarray) -> None:
    levels = grey_levels(grey)
    assert levels.mean == pytest.approx(grey.mean(), abs=1e-3)
    assert levels.std == pytest.approx(grey.std(), abs=1e-3)
    ascending = np.sort(grey, axis=None)
    places = [-(-grey.size // 100), -(-grey.size // 2), grey.size - grey.size // 100]
    assert [levels.low, levels.median, levels.high] == [ascending[place - 1] for place in places]
    assert levels.black == pytest.approx((grey <= 5).mean(), abs=1e-4)
    assert levels.white == pytest.approx((grey >= 250).mean(), abs=1e-4)
    assert 0 <= levels.frame <= 1
    assert grey.min() - 1e-3 <= min(levels.rim, levels.centre) <= max(levels.rim, levels.centre) <= grey.max() + 1e-3


@settings(deadline=None)
@given(grey=PICTURES)
def test_a_negative_has_the_negative_levels(grey: np.ndarray) -> None:
    positive, negative = grey_levels(grey), grey_levels(255 - grey)
    assert negative.frame == positive.frame
    for name in ("mean", "rim", "centre"):
        assert getattr(negative, name) == pytest.approx(255 - getattr(positive, name), abs=2e-3)
    assert negative.std == pytest.approx(positive.std, abs=2e-3)
    assert (negative.black, negative.white) == pytest.approx((positive.white, positive.black), abs=2e-4)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_blank_picture_is_all_frame(level: int) -> None:
    levels = grey_levels(np.full((48, 64), level, np.uint8))
    assert (levels.frame, levels.high - levels.low, levels.std) == (1.0, 0, 0.0)
    assert levels.rim == levels.centre == level


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_frame_is_measured_and_left_out_of_rim_and_centre(level: int) -> None:
    inside = picture(1, 24, 32)
    grey = np.full((48, 64), level, np.uint8)
    grey[8:32, 20:52] = inside
    noise = np.random.default_rng(0).integers(0, 8, grey.shape, dtype=np.uint8)
    bare, framed = grey_levels(inside), grey_levels(np.where(grey == level, grey - noise * (level > 127), grey))
    assert framed.frame == pytest.approx(0.75, abs=0.05)
    assert grey_levels(grey)[-2:] == bare[-2:]


def test_the_rim_of_an_inverted_picture_is_brighter_than_its_centre() -> None:
    y, x = np.mgrid[:200, :160]
    bone = (180 * np.exp(-(((y - 100) / 60) ** 2) - ((x - 80) / 50) ** 2) + 20).astype(np.uint8)
    assert grey_levels(bone).rim < grey_levels(bone).centre
    assert grey_levels(255 - bone).rim > grey_levels(255 - bone).centre


def test_the_same_picture_has_the_same_identity_however_it_lies_in_memory() -> None:
    grey = picture(1)
    assert pixels_sha256(grey) == pixels_sha256(np.asfortranarray(grey)) == pixels_sha256(np.dstack([grey] * 3)[..., 1])


def test_another_picture_or_the_same_bytes_in_another_shape_is_another_identity() -> None:
    grey = picture(1)
    changed = grey.copy()
    changed[-1, -1] ^= 1
    assert len({pixels_sha256(each) for each in (grey, changed, grey.reshape(64, 48), grey.reshape(1, -1))}) == 4


def test_of_a_tall_picture_levels_are_counted_in_every_second_or_third_row() -> None:
    tall = picture(1, 400, 64)
    assert grey_levels(tall)[2:7] == grey_levels(np.ascontiguousarray(tall[::3]))[2:7]
    assert grey_levels(tall).mean == pytest.approx(tall.mean(), abs=1e-3)
