"""Charts show the right numbers on the right axes, and are the same for the same numbers."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scored_studies import rows_of

from components.artifacts.evaluation import Interval
from components.scores import charts, curves, metrics


@pytest.fixture(scope="module")
def studies():
    random = np.random.default_rng(0)
    abnormal = random.integers(0, 2, 140)
    probability = 1 / (1 + np.exp(-(random.normal(size=140) + 1.5 * abnormal - 0.7)))
    part = np.array(["wrist", "hand"])[random.integers(0, 2, 140)]
    keys = [f"study{i:03}" for i in range(140)]
    return rows_of(keys, keys, part, abnormal, probability)


@pytest.fixture(scope="module")
def scores(studies):
    return metrics.score(studies, 0.5)


@pytest.fixture(scope="module")
def one_class():
    return metrics.score(rows_of(["a", "b"], ["p", "q"], ["hand"] * 2, [1, 1], [0.4, 0.9]), 0.5)


@pytest.fixture(scope="module")
def perfect():
    keys = list("abcd")
    return metrics.score(rows_of(keys, keys, ["hand"] * 4, [0, 0, 1, 1], [0, 0.1, 0.9, 1]), 0.5)


def epochs(number):
    epoch = np.arange(1, number + 1)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "phase": np.where(epoch <= 2, "head", "all"),
            "learning_rate": 1e-3 / epoch,
            "loss": 1 / epoch,
            "tuning_loss": 1.1 / epoch,
            "tuning_auroc": 1 - 0.5 / epoch,
        }
    )


def interval(value, low, high):
    return Interval(value=value, low=low, high=high)


def points(line):
    return list(zip(np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float), strict=True))


def drawn(axes):
    """The points of every line of the axes."""
    return [points(line) for line in axes.lines]


def labelled(axes, start):
    """The one line whose label begins so."""
    (line,) = [line for line in axes.lines if str(line.get_label()).startswith(start)]
    return line


def legend(figure_or_axes):
    found = figure_or_axes.legends[0] if hasattr(figure_or_axes, "legends") else figure_or_axes.get_legend()
    return [text.get_text() for text in found.get_texts()]


def arms(x, y):
    """A point's intervals, as two lines through it."""
    return [(x.low, y.value), (x.high, y.value)], [(x.value, y.low), (x.value, y.high)]


def false_positive_rate(scores):
    value = scores.specificity
    return interval(1 - value.value, 1 - value.high, 1 - value.low)


# ROC


def test_the_roc_chart_has_sensitivity_up_and_false_positives_across(studies, scores):
    curve = curves.roc_curve(studies.abnormal, studies.probability)
    (axes,) = charts.roc(curve, scores).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("False-positive rate (1 - specificity)", "Sensitivity")
    line = labelled(axes, "AUROC")
    assert points(line) == list(zip(curve.false_positive_rate, curve.sensitivity, strict=True))
    assert line.get_label() == f"AUROC {scores.auroc}"
    assert axes.get_xlim() == axes.get_ylim() == (-0.01, 1.01)
    assert [(0, 0), (1, 1)] in drawn(axes)


def test_the_roc_chart_shows_the_operating_point_with_its_intervals(studies, scores):
    (axes,) = charts.roc(curves.roc_curve(studies.abnormal, studies.probability), scores).axes
    rate = false_positive_rate(scores)
    point = labelled(axes, "Operating point")
    assert points(point) == [(rate.value, scores.sensitivity.value)]
    assert all(arm in drawn(axes) for arm in arms(rate, scores.sensitivity))
    sensitivity, specificity = scores.sensitivity.value, scores.specificity.value
    assert f"sensitivity {sensitivity:.3f}, specificity {specificity:.3f}" in point.get_label()
    assert len(legend(axes)) == 2


# Operating points of several versions


def test_each_version_has_its_operating_point_and_its_entry_in_the_legend(scores, perfect):
    figure = charts.operating_points({"VGG-16 v1": scores, "wide (VGG-16) v2": perfect})
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("False-positive rate (1 - specificity)", "Sensitivity")
    rate = false_positive_rate(scores)
    assert points(labelled(axes, "VGG-16 v1")) == [(rate.value, scores.sensitivity.value)]
    assert all(arm in drawn(axes) for arm in arms(rate, scores.sensitivity))
    assert points(labelled(axes, "wide")) == [(0, 1)]
    assert legend(figure) == [f"VGG-16 v1: AUROC {scores.auroc}", f"wide (VGG-16) v2: AUROC {perfect.auroc}"]


def test_all_operating_points_lie_within_the_axes_to_the_ends_of_their_intervals(scores):
    (axes,) = charts.operating_points({"one": scores}).axes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    rate = false_positive_rate(scores)
    assert left < rate.low < rate.high < right < 1
    assert 0 < bottom < scores.sensitivity.low < scores.sensitivity.high < top


def test_no_two_of_many_versions_look_alike(scores):
    figure = charts.operating_points({f"v{i}": scores for i in range(20)})
    looks = {(handle.get_color(), handle.get_marker()) for handle in figure.legends[0].legend_handles}
    assert len(looks) == 20


def test_a_version_without_an_operating_point_is_in_the_legend_only(one_class):
    figure = charts.operating_points({"one": one_class})
    assert drawn(figure.axes[0]) == [[(0, 0), (1, 1)]]
    assert legend(figure) == ["one: AUROC n/a"]


# Precision and recall


def test_the_precision_recall_chart_has_precision_up_and_recall_across(studies, scores):
    curve = curves.precision_recall_curve(studies.abnormal, studies.probability)
    (axes,) = charts.precision_recall(curve, scores).axes
    assert axes.get_xlabel().startswith("Recall")
    assert axes.get_ylabel().startswith("Precision")
    line = labelled(axes, "Average precision")
    assert points(line) == list(zip(curve.sensitivity, curve.ppv, strict=True))
    # The precision of a step holds from the previous recall on.
    assert line.get_drawstyle() == "steps-pre"
    assert line.get_label() == f"Average precision {scores.average_precision}"
    assert points(labelled(axes, "Operating point")) == [(scores.sensitivity.value, scores.ppv.value)]
    assert all(arm in drawn(axes) for arm in arms(scores.sensitivity, scores.ppv))
    share = studies.abnormal.mean()
    level = labelled(axes, "Everything called abnormal")
    assert level.get_ydata() == pytest.approx([share, share])
    assert level.get_label().endswith(f"{share:.3f}")


# Forest


ROWS = [
    charts.Row("All (9)", interval(0.8, 0.7, 0.9), interval(0.5, 0.4, 0.6), True, 0.85, 0.55),
    charts.Row("hand (4)", interval(0.6, 0.5, 0.65), interval(0.1, -0.1, 0.2), False, 0.62, 0.12),
]


def test_the_forest_shows_each_row_on_its_line_with_its_interval():
    area, kappa = charts.forest(ROWS).axes
    assert (area.get_title(loc="left"), kappa.get_title(loc="left")) == ("AUROC", "Cohen's kappa")
    assert [text.get_text() for text in area.get_yticklabels()] == ["All (9)", "hand (4)"]
    assert list(area.get_yticks()) == [0, 1]
    # The first row is on top.
    bottom, top = area.get_ylim()
    assert bottom > top
    lines = drawn(area)
    assert [line for line in lines if len(line) == 2 and line[0][1] == line[1][1]] == [
        [(0.7, 0), (0.9, 0)],
        [(0.5, 1), (0.65, 1)],
    ]
    assert {tuple(line[0]) for line in lines if len(line) == 1} == {(0.8, 0), (0.85, 0.25), (0.6, 1), (0.62, 1.25)}
    assert {tuple(line[0]) for line in drawn(kappa) if len(line) == 1} == {
        (0.5, 0),
        (0.55, 0.25),
        (0.1, 1),
        (0.12, 1.25),
    }
    assert [text.get_text() for text in area.texts] == ["0.800 (0.700 to 0.900)", "0.600 (0.500 to 0.650)"]


def test_the_forest_marks_the_strong_row_and_hollow_tuning_values():
    area, _ = charts.forest(ROWS).axes
    marks = {points(line)[0]: line for line in area.lines if len(line.get_xdata()) == 1}
    assert (marks[0.8, 0].get_marker(), marks[0.6, 1].get_marker()) == ("D", "o")
    assert (marks[0.8, 0].get_markerfacecolor(), marks[0.85, 0.25].get_markerfacecolor()) == (charts.VERMILION, "none")


def test_the_forest_shows_chance_and_everything_it_draws():
    area, kappa = charts.forest(ROWS).axes
    assert [line for line in drawn(area) if line[0][0] == line[-1][0] == 0.5] == [[(0.5, 0), (0.5, 1)]]
    assert area.get_xlim() == pytest.approx((0.5, 0.9))
    assert kappa.get_xlim() == pytest.approx((-0.1, 0.6))
    assert [line for line in drawn(kappa) if line[0][0] == line[-1][0] == 0] == [[(0, 0), (0, 1)]]


def test_a_forest_with_tuning_values_has_a_legend_and_one_without_has_none():
    assert legend(charts.forest(ROWS)) == ["test, 95 % interval", "tuning"]
    plain = [charts.Row(row.label, row.auroc, row.cohen_kappa) for row in ROWS]
    assert charts.forest(plain).legends == []


def test_one_row_alone_and_a_row_without_values_are_drawn(one_class):
    (alone,) = charts.forest(ROWS[:1]).axes[0].texts
    assert alone.get_text() == "0.800 (0.700 to 0.900)"
    area, _ = charts.forest([charts.Row("none", one_class.auroc, one_class.cohen_kappa)]).axes
    assert [text.get_text() for text in area.texts] == ["n/a"]
    assert area.get_xlim() == (0.5, 1.0)


def test_too_few_patients_are_a_grey_mark_with_words_and_no_line():
    few = interval(0.9, None, None)
    area, _ = charts.forest([charts.Row("few", few, few)]).axes
    assert [text.get_text() for text in area.texts] == ["0.900 (too few)"]
    (mark,) = [line for line in area.lines if points(line)[0] == (0.9, 0)]
    assert (mark.get_color(), len(mark.get_xdata())) == (charts.GREY, 1)


def test_a_perfect_model_has_an_axis_of_some_width(perfect):
    area, _ = charts.forest([charts.Row("x", perfect.auroc, perfect.cohen_kappa)]).axes
    assert area.get_xlim() == pytest.approx((0.9, 1.0))


def test_groups_stand_under_all_studies_with_their_counts(scores, one_class):
    figure = charts.groups(scores, {"wrist": scores, "hand": one_class})
    area, _ = figure.axes
    assert [text.get_text() for text in area.get_yticklabels()] == ["All (140)", "wrist (140)", "hand (2)"]
    assert [text.get_text() for text in area.texts] == [str(scores.auroc), str(scores.auroc), "n/a"]


# Learning curves


def test_learning_curves_show_each_column_by_epoch():
    table = epochs(12)
    loss, area, rate = charts.learning_curves(table, 7).axes
    assert [axes.get_title(loc="left") for axes in (loss, area, rate)] == ["Loss", "AUROC on tuning", "Learning rate"]
    assert [axes.get_xlabel() for axes in (loss, area, rate)] == ["Epoch"] * 3
    assert points(labelled(loss, "training")) == list(zip(table.epoch, table.loss, strict=True))
    assert points(labelled(loss, "tuning")) == list(zip(table.epoch, table.tuning_loss, strict=True))
    assert points(area.lines[0]) == list(zip(table.epoch, table.tuning_auroc, strict=True))
    assert points(rate.lines[0]) == list(zip(table.epoch, table.learning_rate, strict=True))
    assert points(labelled(area, "kept: epoch 7")) == [(7, 1 - 0.5 / 7)]
    # The second phase begins with epoch 3.
    assert all([(2.5, 0), (2.5, 1)] in drawn(axes) for axes in (loss, area, rate))


@pytest.mark.parametrize(("number", "marker"), [(1, "."), (60, "None")])
def test_few_epochs_are_dots_and_many_are_a_line(number, marker):
    _, area, _ = charts.learning_curves(epochs(number), number).axes
    assert area.lines[0].get_marker() == marker


# PNG


@pytest.fixture(scope="module")
def draw(studies, scores, one_class):
    """Each chart by name, as a function that draws it anew."""
    abnormal, probability = studies.abnormal, studies.probability
    return {
        "roc": lambda: charts.roc(curves.roc_curve(abnormal, probability), scores),
        "operating points": lambda: charts.operating_points({"one": scores, "two": one_class}),
        "precision recall": lambda: charts.precision_recall(
            curves.precision_recall_curve(abnormal, probability), scores
        ),
        "forest": lambda: charts.forest(ROWS),
        "learning curves": lambda: charts.learning_curves(epochs(12), 7),
    }


NAMES = ("roc", "operating points", "precision recall", "forest", "learning curves")


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_give_the_same_png_of_readable_size(draw, name):
    png = charts.png(draw[name]())
    assert png == charts.png(draw[name]())
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert image.text == {}
    assert 600 <= image.width <= 1500
    assert np.asarray(image.convert("L"))[0, 0] == 255


def test_drawing_leaves_the_style_of_others_alone(draw):
    before = dict(mpl.rcParams)
    charts.png(draw["roc"]())
    assert dict(mpl.rcParams) == before


def test_the_forest_grows_with_its_rows():
    heights = [Image.open(io.BytesIO(charts.png(charts.forest(ROWS * n)))).height for n in (1, 4)]
    assert heights[0] < heights[1]


def test_a_matplotlibrc_changes_no_chart(studies, scores):
    curve = curves.roc_curve(studies.abnormal, studies.probability)
    as_cloned = charts.png(charts.roc(curve, scores))
    hostile = {"figure.dpi": 30, "savefig.dpi": 40, "savefig.bbox": "tight", "axes.grid": True, "lines.marker": "x"}
    with mpl.rc_context(hostile | {"axes.facecolor": "black", "axes.formatter.use_locale": True}):
        assert charts.png(charts.roc(curve, scores)) == as_cloned
