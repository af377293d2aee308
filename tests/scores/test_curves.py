"""Points of the curves, against their thresholds and hand-made values."""

import numpy as np
import pytest
from hypothesis import given
from scored_studies import columns, drawn, quick, scored

from components.scores import curves, metrics
from components.scores.studies import auroc


@quick
@given(scored)
def test_the_roc_curve_encloses_the_auroc(rows):
    abnormal, probability = columns(rows)
    curve = curves.roc_curve(abnormal, probability)
    x, y = curve.false_positive_rate, curve.sensitivity
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(auroc(abnormal, probability))


def test_points_of_the_roc_curve_are_what_their_thresholds_give():
    abnormal, probability = drawn(0, 80)
    curve = curves.roc_curve(abnormal, probability)
    assert np.isinf(curve.threshold[0])
    for x, y, threshold in zip(curve.false_positive_rate, curve.sensitivity, curve.threshold, strict=True):
        counts = metrics.confusion(abnormal, probability, threshold)
        assert metrics.rate("sensitivity", counts) == pytest.approx(y)
        assert 1 - metrics.rate("specificity", counts) == pytest.approx(x)


def test_a_thinned_curve_keeps_its_ends_and_nearly_its_area():
    abnormal, probability = drawn(0, 4000)
    curve = curves.roc_curve(abnormal, probability)
    assert len(curve.threshold) <= curves.POINTS
    assert (curve.false_positive_rate[0], curve.sensitivity[-1]) == (0, 1)
    area = np.trapezoid(curve.sensitivity, curve.false_positive_rate)
    assert area == pytest.approx(auroc(abnormal, probability), abs=5e-4)
    assert len(curves.precision_recall_curve(abnormal, probability).threshold) <= curves.POINTS


def test_a_perfect_roc_curve_is_three_corners():
    curve = curves.roc_curve([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    assert list(zip(curve.false_positive_rate, curve.sensitivity, strict=True)) == [(0, 0), (0, 1), (1, 1)]


def test_points_of_the_precision_recall_curve_are_what_their_thresholds_give():
    abnormal, probability = drawn(0, 80)
    curve = curves.precision_recall_curve(abnormal, probability)
    for x, y, threshold in zip(curve.sensitivity, curve.ppv, curve.threshold, strict=True):
        counts = metrics.confusion(abnormal, probability, threshold)
        assert metrics.rate("sensitivity", counts) == pytest.approx(x)
        assert metrics.rate("ppv", counts) == pytest.approx(y)


def test_curves_need_their_classes():
    with pytest.raises(ValueError, match="one class only"):
        curves.roc_curve([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="expected abnormal studies"):
        curves.precision_recall_curve([0, 0], [0.1, 0.2])


def test_calibration_by_hand():
    curve = curves.calibration_curve([0, 1, 1, 1], [0.0, 0.25, 0.29, 1.0])
    assert curve.lower.tolist() == pytest.approx([0.0, 0.2, 0.9])
    assert curve.upper.tolist() == pytest.approx([0.1, 0.3, 1.0])
    assert curve.mean_probability == pytest.approx([0, 0.27, 1])
    assert curve.abnormal_share.tolist() == [0, 1, 1]
    assert curve.studies.tolist() == [1, 2, 1]
    assert curve.expected_error == pytest.approx(2 * 0.73 / 4)


def test_calibration_intervals_are_wilsons():
    abnormal = [1] * 8 + [0] * 2
    curve = curves.calibration_curve(abnormal, [0.75] * 10)
    # Wilson's interval for 8 of 10, from the literature (Newcombe 1998 has 0.4902 to 0.9433).
    assert (curve.low[0], curve.high[0]) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


@quick
@given(scored)
def test_calibration_counts_every_study_once(rows):
    abnormal, probability = columns(rows)
    curve = curves.calibration_curve(abnormal, probability)
    assert curve.studies.sum() == len(abnormal)
    assert (curve.low <= curve.abnormal_share).all()
    assert (curve.abnormal_share <= curve.high).all()
    assert (curve.studies * curve.abnormal_share).sum() == pytest.approx(abnormal.sum())
