"""Charts of calibration show the right numbers on the right axes."""

import io

import numpy as np
import pytest
from conftest import calibrated_facts, make_scores
from PIL import Image
from scored_studies import drawn

from components.scores import calibration_charts, charts, curves

MEASURED = calibrated_facts(make_scores())["reliability"].test


@pytest.fixture(scope="module")
def both():
    """Labels, raw probabilities and calibrated ones."""
    abnormal, probability = drawn(0, 140)
    return abnormal, probability**2, probability


@pytest.fixture(scope="module")
def reliability(both):
    abnormal, *probabilities = both
    return [curves.calibration_curve(abnormal, each) for each in probabilities]


@pytest.fixture(scope="module")
def decisions(both):
    abnormal, *probabilities = both
    return [curves.decision_curve(abnormal, each) for each in probabilities]


def points(line):
    return list(zip(np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float), strict=True))


def test_raw_and_calibrated_dots_are_in_one_picture(reliability):
    upper, lower = calibration_charts.reliability(*reliability, MEASURED).axes
    assert upper.get_ylabel() == "Share of studies that is abnormal"
    assert lower.get_xlabel() == "Predicted probability of abnormality"
    assert lower.get_ylabel() == "Studies"
    for container, curve in zip(upper.containers, reliability, strict=True):
        line, _, (bars,) = container.lines
        assert points(line) == list(zip(curve.mean_probability, curve.abnormal_share, strict=True))
        ends = [[tuple(end) for end in segment] for segment in bars.get_segments()]
        expected = zip(curve.mean_probability, curve.low, curve.high, strict=True)
        assert np.asarray(ends) == pytest.approx(np.asarray([[(x, low), (x, high)] for x, low, high in expected]))
    labels = [container.get_label() for container in upper.containers]
    assert labels == ["Raw: calibration error 0.120", "Calibrated: calibration error 0.040"]
    assert [(0, 0), (1, 1)] in [points(line) for line in upper.lines]


def test_the_histograms_under_the_dots_count_the_studies_of_each_bin(reliability):
    _, lower = calibration_charts.reliability(*reliability, MEASURED).axes
    bars = [(bar.get_x(), bar.get_height()) for bar in lower.patches]
    raw, calibrated = reliability
    expected = [*zip(calibrated.lower, calibrated.studies, strict=True), *zip(raw.lower, raw.studies, strict=True)]
    assert np.asarray(bars) == pytest.approx(np.asarray(expected))


def test_the_decision_chart_compares_with_all_and_none(decisions):
    (axes,) = calibration_charts.decisions(*decisions, 0.4).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Threshold probability", "Net benefit per study")
    lines = {line.get_label(): line for line in axes.lines}
    raw, calibrated = decisions
    for name, y in (
        ("Call every study abnormal", raw.treat_all),
        ("Model, raw", raw.model),
        ("Model, calibrated", calibrated.model),
    ):
        assert lines[name].get_ydata().tolist() == y.tolist()
    assert set(lines["Call no study abnormal"].get_ydata()) == {0}
    assert lines["Operating point: 0.400"].get_xdata() == [0.4, 0.4]
    assert axes.get_ylim()[1] > calibrated.model.max()


def test_the_same_numbers_give_the_same_png_of_readable_size(reliability, decisions):
    for draw in (
        lambda: calibration_charts.reliability(*reliability, MEASURED),
        lambda: calibration_charts.decisions(*decisions, 0.4),
    ):
        png = charts.png(draw())
        assert png == charts.png(draw())
        assert 600 <= Image.open(io.BytesIO(png)).width <= 1500
