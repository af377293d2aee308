import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import picture

from components.xray.square import fit


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
    fitted = fit(np.full((height, width), 200, np.uint8), size)
    assert (fitted.shape, fitted.dtype) == ((size, size), np.uint8)
    rows, columns = np.nonzero(fitted.any(1))[0], np.nonzero(fitted.any(0))[0]
    assert (len(rows), len(columns)) == inner
    assert set(np.unique(fitted)) <= {0, 200}


@settings(deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), size=st.integers(8, 128), level=st.integers(1, 255))
def test_the_image_lies_in_the_middle_and_touches_two_sides(height: int, width: int, size: int, level: int) -> None:
    fitted = fit(np.full((height, width), level, np.uint8), size)
    for side, long in (((fitted.any(1)), height >= width), ((fitted.any(0)), width >= height)):
        filled = np.nonzero(side)[0]
        before, after = filled[0], size - 1 - filled[-1]
        assert abs(before - after) <= 1
        assert len(filled) == filled[-1] - filled[0] + 1
        if long:
            assert len(filled) == size


def test_a_circle_stays_a_circle() -> None:
    y, x = np.mgrid[:60, :100]
    fitted = fit(np.where((y - 30) ** 2 + (x - 50) ** 2 < 400, 255, 0).astype(np.uint8), 64)
    height, width = np.ptp(np.nonzero(fitted > 127)[0]), np.ptp(np.nonzero(fitted > 127)[1])
    assert abs(height - width) <= 1


def test_an_image_of_the_right_size_is_not_touched() -> None:
    square = picture(5, 64, 64)
    assert (fit(square, 64) == square).all()


def test_shrinking_averages() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (64, 32))
    assert (fit(stripes, 32) == 100).all()
