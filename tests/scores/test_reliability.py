"""Measures of calibration, against hand-made values and draws whose truth is known."""

import numpy as np
import pytest
from conftest import around
from scored_studies import studies_of

from components.scores import curves, reliability
from components.scores.studies import sigmoid

BRIER = around(0.2)


def exact(seed, studies=600, stretch=1.0, shift=0.0, per_patient=1):
    """Studies whose probabilities are exact, or stretched and shifted on the scale of logits."""
    random = np.random.default_rng(seed)
    logit = random.normal(0, 1.5, studies)
    abnormal = (random.random(studies) < sigmoid(logit)).astype(np.int64)
    patient = [f"patient{number // per_patient:05}" for number in range(studies)]
    return studies_of(abnormal, sigmoid(stretch * logit + shift), patient=patient)


def test_slope_and_intercept_are_those_that_were_put_in():
    slope, _ = reliability.recalibration(exact(0, 20_000, stretch=2))
    assert slope.value == pytest.approx(0.5, abs=0.03)
    slope, intercept = reliability.recalibration(exact(0, 20_000, shift=-0.7))
    assert slope.value == pytest.approx(1, abs=0.04)
    assert intercept.value == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("per_patient", [1, 5])
def test_nineteen_of_twenty_intervals_of_exact_probabilities_hold_one_and_zero(per_patient):
    held = np.zeros(2)
    for seed in range(100):
        slope, intercept = reliability.recalibration(exact(seed, 200, per_patient=per_patient))
        held += [slope.low < 1 < slope.high, intercept.low < 0 < intercept.high]
    assert (held >= 89).all()


def test_like_studies_of_one_patient_widen_the_intervals():
    alone = exact(3, 150)
    copies = [np.repeat(column, 4) for column in (alone.abnormal, alone.probability)]
    together = studies_of(*copies, patient=np.repeat(alone.patient, 4))
    naive, clustered = (reliability.recalibration(each)[0] for each in (studies_of(*copies), together))
    # Four copies carry the evidence of one: the width doubles.
    assert 1.6 < (clustered.high - clustered.low) / (naive.high - naive.low) < 2.4


@pytest.mark.parametrize(("patients", "missing"), [(19, True), (20, False)])
def test_fewer_than_ten_patients_with_a_label_have_values_but_no_intervals(patients, missing):
    abnormal = np.arange(patients) % 2
    for found in reliability.recalibration(studies_of(abnormal, np.linspace(0.2, 0.7, patients))):
        assert found.value is not None
        assert (found.low is None) == (found.high is None) == missing


def test_probabilities_of_0_and_1_are_measured():
    slope, intercept = reliability.recalibration(studies_of([0, 1] * 20, [0.0, 1.0] * 20))
    assert all(np.isfinite(value) for value in (slope.value, slope.low, intercept.value, intercept.high))


def test_one_probability_for_all_has_no_slope():
    slope, intercept = reliability.recalibration(studies_of([0, 1] * 20, [0.3] * 40))
    assert slope.value is slope.low is None
    assert intercept.value == pytest.approx(np.log(7 / 3), abs=0.05)


def test_a_measure_holds_what_was_measured():
    studies = exact(1, 200, stretch=2)
    found = reliability.measure(studies, BRIER, 1)
    assert (found.slope, found.intercept) == reliability.recalibration(studies)
    assert found.brier == BRIER
    assert found.expected_error == curves.calibration_curve(studies.abnormal, studies.probability).expected_error
    assert found.expected_error > found.expected_error_by_chance == reliability.error_by_chance(studies.probability, 1)


def test_one_in_twenty_exact_models_exceeds_the_error_by_chance():
    above = 0
    for seed in range(100):
        found = reliability.measure(exact(seed, 120), BRIER, seed)
        above += found.expected_error > found.expected_error_by_chance
    assert above <= 11


def test_the_error_by_chance_falls_with_the_number_of_studies():
    few, many = (reliability.error_by_chance(np.full(studies, 0.4), 1) for studies in (100, 10_000))
    # The share of abnormal studies has a deviation of 0.049 or 0.0049.
    assert few == pytest.approx(1.96 * 0.049, rel=0.1)
    assert many == pytest.approx(1.96 * 0.0049, rel=0.1)


def test_net_benefit_by_hand():
    curve = curves.decision_curve([0, 0, 0, 1, 1], [0.1, 0.3, 0.6, 0.4, 0.9])
    at = int(np.flatnonzero(curve.threshold == 0.2)[0])
    # Two found, two false alarms that count a quarter each.
    assert curve.model[at] == pytest.approx((2 - 2 / 4) / 5)
    assert curve.treat_all[at] == pytest.approx((2 - 3 / 4) / 5)
    assert curve.model[-1] == 0
