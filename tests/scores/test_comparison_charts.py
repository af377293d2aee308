"""Charts of several models show each of them, in its own look, at its numbers."""

import io

import numpy as np
import pandas as pd
import pytest
from conftest import around, calibrated_facts, make_scores
from PIL import Image
from scored_studies import drawn

from components.artifacts.evaluation import Interval
from components.scores import charts, comparison_charts, curves
from components.scores.bands import Band
from components.scores.comparison_charts import Change, Curve, Dots, Epochs

TOO_FEW, UNDEFINED = Interval(value=0.4, low=None, high=None), Interval(value=None, low=None, high=None)
METRICS = ("auroc", "cohen_kappa")
MEASURED = calibrated_facts(make_scores())["reliability"].test.calibrated
X = np.array([0, 0.1, 1])
BAND = Band(np.array([0, 0.5, 1]), np.array([np.nan, 0.7, np.nan]), np.array([np.nan, 0.9, np.nan]))


def lines(axes):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def legend(figure):
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def many(count):
    return [Curve(f"v{number}", X, np.array([0, number / 20, 1]), (0.1, number / 20)) for number in range(count)]


def test_each_roc_curve_has_its_line_and_no_two_of_many_look_alike():
    figure = comparison_charts.roc_curves(many(20))
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert [line.get_ydata()[1] for line in drawn] == [number / 20 for number in range(20)]
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 20
    assert legend(figure) == [f"v{number}" for number in range(20)]


def test_the_looks_of_a_place_are_the_same_in_all_charts():
    looks = [comparison_charts.look(number) for number in range(20)]
    assert len({tuple(look.values()) for look in looks}) == 20
    figure = comparison_charts.learning_curves([(3, epochs("late", [0.6, 0.7], 2))])
    assert figure.axes[0].lines[0].get_color() == looks[3]["color"]
    assert figure.axes[0].lines[0].get_marker() == looks[3]["marker"]


def test_an_operating_point_is_a_mark_on_its_curve_if_it_is_defined():
    one, other = many(2)
    figure = comparison_charts.roc_curves([one, other._replace(point=(None, 0.5))])
    marks = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", None)]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [(0.1, 0.0)]


@pytest.mark.parametrize(
    "draw", [comparison_charts.roc_curves, lambda c: comparison_charts.precision_recall_curves(c, 0.4)]
)
def test_the_band_of_a_curve_is_drawn_and_named(draw):
    one, other = many(2)
    figure = draw([one._replace(band=BAND), other])
    (axes,) = figure.axes
    (filled,) = axes.collections
    corners = {tuple(np.round(corner, 3)) for path in filled.get_paths() for corner in path.vertices}
    assert corners <= {(0.5, 0.7), (0.5, 0.9)}
    assert legend(figure) == ["v0", "its pointwise 95 % band", "v1"]
    assert not draw([one, other]).axes[0].collections


def test_precision_and_recall_are_steps_over_the_share_of_abnormal_studies():
    (axes,) = comparison_charts.precision_recall_curves(many(1), 0.4).axes
    assert ([0, 1], [0.4, 0.4]) in lines(axes)
    assert "steps-pre" in {line.get_drawstyle() for line in axes.lines}
    assert axes.get_xlabel().startswith("Recall")


def test_differences_of_both_splits_stand_below_each_other_and_apart():
    rows = [
        Change(
            "one", {"auroc": around(0.1), "cohen_kappa": TOO_FEW}, {"auroc": around(-0.1), "cohen_kappa": UNDEFINED}
        ),
        Change("two", None, {"auroc": around(0.2), "cohen_kappa": around(0.3)}),
    ]
    figure = comparison_charts.differences(rows, METRICS)
    area, kappa = figure.axes
    assert [area.get_title(loc="left"), kappa.get_title(loc="left")] == ["AUROC", "Cohen's kappa"]
    assert [tick.get_text() for tick in area.get_yticklabels()] == ["one", "two"]
    found = lines(area)
    assert ([0, 0], [0, 1]) in found
    for value, place in ((0.1, -0.15), (-0.1, 0.15), (0.2, 1.15)):
        assert ([value], [place]) in found
        (ends,) = [x for x, y in found if y == [place, place]]
        assert ends == pytest.approx([value - 0.05, value + 0.05])
    assert {line.get_marker() for line in area.lines if len(line.get_xdata()) == 1} == {"o", "s"}
    assert [(line.get_marker(), list(line.get_xdata())) for line in kappa.lines if len(line.get_xdata()) == 1] == [
        ("x", [0.4]),
        ("s", [0.3]),
    ]
    assert legend(figure) == ["tuning, which ranks", "test"]


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7])
def test_each_model_has_a_small_chart_of_its_calibration(count):
    curve = curves.calibration_curve(*drawn(0, 140))
    figure = comparison_charts.reliabilities([Dots(f"v{number}", curve, MEASURED) for number in range(count)])
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left").splitlines() for axes in shown] == [
        [f"v{number}", "error 0.040, by chance 0.060"] for number in range(count)
    ]
    for axes in shown:
        line, _, _ = axes.containers[0].lines
        assert list(line.get_ydata()) == pytest.approx(curve.abnormal_share)


def test_body_parts_show_every_model_in_each_part():
    parts = {
        "wrist (30)": [(around(0.8), around(0.5)), (around(0.7), TOO_FEW)],
        "hand (9)": [(UNDEFINED, UNDEFINED), (around(0.6), around(0.1))],
    }
    figure = comparison_charts.body_parts(parts, ["one", "two"])
    area, kappa = figure.axes
    assert [tick.get_text() for tick in area.get_yticklabels()] == ["wrist (30)", "hand (9)"]
    marks = [[x[0] for x, _ in lines(axes) if len(x) == 1] for axes in (area, kappa)]
    assert marks == [[0.8, 0.7, 0.6], [0.5, 0.4, 0.1]]
    assert legend(figure) == ["one", "two"]


def epochs(label, values, best):
    return Epochs(label, pd.DataFrame({"epoch": range(1, len(values) + 1), "tuning_auroc": values}), best)


def test_learning_curves_of_any_length_are_in_one_chart_and_the_kept_epoch_is_marked():
    figure = comparison_charts.learning_curves([(0, epochs("a", [0.5, 0.8, 0.7], 2)), (1, epochs("b", [0.6], 1))])
    (axes,) = figure.axes
    assert lines(axes) == [([1, 2, 3], [0.5, 0.8, 0.7]), ([2], [0.8]), ([1], [0.6]), ([1], [0.6])]
    assert legend(figure) == ["a", "b"]


def test_the_same_numbers_give_the_same_png_of_readable_size():
    for draw in (
        lambda: comparison_charts.roc_curves([many(1)[0]._replace(band=BAND)]),
        lambda: comparison_charts.differences([Change("one", None, {"auroc": TOO_FEW})], ("auroc",)),
    ):
        png = charts.png(draw())
        assert png == charts.png(draw())
        assert 600 <= Image.open(io.BytesIO(png)).width <= 1500
