"""What `python -m benchmarks.explain` compares maps with: boxes in the square, and places in them."""

import numpy as np

from benchmarks import explain
from benchmarks.explain import Box
from components.phantom.truth import Truth
from components.xray import square


def test_a_box_lies_in_the_square_where_its_finding_does() -> None:
    stored = np.full((512, 300), 40, np.uint8)
    stored[100:180, 30:90] = 250
    box = explain.in_square(Truth("a.png", "fracture", 0, 30, 100, 90, 180), 300, 512, 160)
    rows, columns = np.nonzero(square.fit(stored, 160) > 41)
    assert (box.left, box.right - 1) == (columns.min(), columns.max())
    assert (box.top, box.bottom - 1) == (rows.min(), rows.max())


def test_a_map_points_to_a_finding_if_its_strongest_place_is_in_a_box() -> None:
    maps = np.zeros((3, 8, 8), np.float32)
    maps[0, 2, 5] = maps[1, 7, 7] = maps[2, 0, 0] = 1
    boxes = [[Box(0, 0, 1, 1), Box(5, 2, 6, 3)], [Box(0, 0, 7, 7)], [Box(0, 0, 1, 1)]]
    assert explain.pointing(explain.peaks(maps), boxes).tolist() == [True, False, True]


def test_what_is_gone_in_the_healthy_twin_is_counted_within_the_boxes() -> None:
    maps = np.ones((2, 4, 4), np.float32)
    twins = maps.copy()
    twins[:, :2, :2] = 0.25
    assert explain.gone(maps, twins, [[Box(0, 0, 2, 2)]] * 2) == 0.75


def test_maps_that_move_with_the_picture_correlate() -> None:
    maps = np.random.default_rng(1).random((5, 9, 9)).astype(np.float32)
    assert explain.correlation(maps[:, :, ::-1][:, :, ::-1], maps) == 1
    assert abs(explain.correlation(maps[:, :, ::-1], maps)) < 0.3
    assert (
        explain.correlation(np.append(maps, np.zeros((1, 9, 9), np.float32), axis=0), np.append(maps, maps[:1], axis=0))
        == 1
    )


def test_pixels_of_two_boxes_count_once() -> None:
    assert explain.covering([Box(0, 0, 2, 2), Box(1, 1, 3, 3), Box(-1, 3, 1, 9)], 4).sum() == 8
