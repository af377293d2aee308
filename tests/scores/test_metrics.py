"""The numbers that a result rests on, against hand-made values and scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from scored_studies import columns, drawn, quick, rows_of, scored, studies_of

from components.artifacts.evaluation import METRIC_TITLES, Confusion
from components.scores import metrics
from components.scores.studies import auroc

# Point values


def test_hand_made_values():
    abnormal, probability = [0, 0, 1, 1, 1], [0.1, 0.6, 0.6, 0.35, 0.8]
    values = metrics.score(studies_of(abnormal, probability), 0.6)
    # Six pairs: 0.1 lies under all three; 0.6 ties once and lies under 0.8, not under 0.35.
    assert values.auroc.value == pytest.approx((3 + 0.5 + 1 + 0) / 6)
    # Steps at 0.8 (1 of 1), 0.6 (2 of 3), 0.35 (3 of 4).
    assert values.average_precision.value == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert values.brier.value == pytest.approx((0.01 + 0.36 + 0.16 + 0.4225 + 0.04) / 5)
    counts = metrics.confusion(abnormal, probability, 0.6)
    assert counts == Confusion(true_positive=2, false_positive=1, true_negative=1, false_negative=1)
    # Observed agreement 3/5; by chance 3/5 * 3/5 + 2/5 * 2/5 = 13/25.
    assert metrics.rate("cohen_kappa", counts) == pytest.approx((3 / 5 - 13 / 25) / (1 - 13 / 25))
    assert [metrics.rate(name, counts) for name in ("sensitivity", "specificity", "ppv", "npv", "f1", "accuracy")] == (
        pytest.approx([2 / 3, 1 / 2, 2 / 3, 1 / 2, 2 / 3, 3 / 5])
    )


def test_a_probability_on_the_threshold_is_abnormal():
    assert metrics.confusion([1], [0.5], 0.5).true_positive == 1


@quick
@given(scored, st.floats(0, 1, width=32))
def test_rates_agree_with_scikit_learn(rows, threshold):
    abnormal, probability = columns(rows)
    called = (probability >= threshold).astype(int)
    counts = metrics.confusion(abnormal, probability, threshold)
    assert metrics.rate("cohen_kappa", counts) == pytest.approx(oracle.cohen_kappa_score(abnormal, called))
    assert metrics.rate("sensitivity", counts) == pytest.approx(oracle.recall_score(abnormal, called))
    assert metrics.rate("specificity", counts) == pytest.approx(oracle.recall_score(abnormal, called, pos_label=0))
    if called.any():
        assert metrics.rate("ppv", counts) == pytest.approx(oracle.precision_score(abnormal, called))
    if not called.all():
        assert metrics.rate("npv", counts) == pytest.approx(oracle.precision_score(abnormal, called, pos_label=0))
    assert metrics.rate("f1", counts) == pytest.approx(oracle.f1_score(abnormal, called))


def test_one_class_leaves_undefined_what_is():
    all_normal = metrics.confusion([0, 0], [0.2, 0.3], 0.5)
    undefined = {name for name in metrics.RATES if metrics.rate(name, all_normal) is None}
    assert undefined == {"cohen_kappa", "sensitivity", "ppv", "f1"}


def test_predictive_values_follow_the_prevalence():
    # 1,000 studies, 100 abnormal: 80 found, 20 missed, 90 false alarms, 810 passed.
    assert metrics.predictive_values(0.8, 0.9, 0.1) == pytest.approx((80 / 170, 810 / 830))
    assert metrics.predictive_values(None, 0.9, 0.1) == (None, None)
    assert metrics.predictive_values(0.0, 1.0, 0.1) == (None, pytest.approx(0.9))


# Scores


def test_a_score_holds_the_point_values_and_counts():
    abnormal, probability = drawn(0, 120)
    scores = metrics.score(studies_of(abnormal, probability), 0.5)
    called = probability >= 0.5
    expected = {
        "auroc": oracle.roc_auc_score(abnormal, probability),
        "average_precision": oracle.average_precision_score(abnormal, probability),
        "cohen_kappa": oracle.cohen_kappa_score(abnormal, called),
        "sensitivity": oracle.recall_score(abnormal, called),
        "specificity": oracle.recall_score(abnormal, called, pos_label=0),
        "ppv": oracle.precision_score(abnormal, called),
        "npv": oracle.precision_score(abnormal, called, pos_label=0),
        "f1": oracle.f1_score(abnormal, called),
        "brier": oracle.brier_score_loss(abnormal, probability),
    }
    assert {name: getattr(scores, name).value for name in METRIC_TITLES} == pytest.approx(expected, rel=1e-14)
    assert scores.confusion == metrics.confusion(abnormal, probability, 0.5)
    assert (scores.n_studies, scores.n_abnormal, scores.n_patients) == (120, abnormal.sum(), 120)


@quick
@given(scored, st.floats(0, 1, width=32))
def test_metrics_of_ties_agree_with_scikit_learn(rows, threshold):
    abnormal, probability = columns(rows)
    scores = metrics.score(studies_of(abnormal, probability), threshold)
    assert scores.auroc.value == pytest.approx(oracle.roc_auc_score(abnormal, probability))
    assert scores.auroc.value == auroc(abnormal, probability)
    assert scores.average_precision.value == pytest.approx(oracle.average_precision_score(abnormal, probability))


def test_the_order_of_rows_does_not_matter():
    abnormal, probability = drawn(0, 100)
    keys = np.array([f"study{i:05}" for i in range(100)])
    patient = np.array([f"patient{i // 3}" for i in range(100)])
    order = np.random.default_rng(4).permutation(100)
    part = np.array(["hand"] * 100)
    one = rows_of(keys, patient, part, abnormal, probability)
    two = rows_of(keys[order], patient[order], part, abnormal[order], probability[order])
    assert metrics.score(one, 0.5) == metrics.score(two, 0.5)


def test_one_class_leaves_metrics_undefined():
    scores = metrics.score(studies_of([1, 1, 1], [0.2, 0.6, 0.7]), 0.5)
    assert scores.auroc.value is scores.auroc.low is scores.auroc.high is None
    assert scores.specificity.value is None
    assert metrics.score(studies_of([0, 0], [0.2, 0.6]), 0.5).average_precision.value is None
    assert scores.sensitivity.value == pytest.approx(2 / 3)


def test_one_patient_has_values_but_no_intervals():
    scores = metrics.score(studies_of([0, 1], [0.2, 0.6], patient=["p", "p"]), 0.5)
    said = {name: str(getattr(scores, name)) for name in METRIC_TITLES}
    assert said == dict.fromkeys(METRIC_TITLES, "1.000 (too few)") | {"brier": "0.100 (too few)"}


def test_no_study_cannot_be_scored():
    studies = studies_of([0, 1], [0.2, 0.6]).where(np.zeros(2, bool))
    with pytest.raises(ValueError, match="at least one study"):
        metrics.score(studies, 0.5)


# Errors


def test_the_farthest_errors_come_first():
    studies = studies_of([1, 1, 1, 0, 0, 0], [0.4, 0.1, 0.9, 0.6, 0.95, 0.2])
    missed, alarms = metrics.confident_errors(studies, 0.5, most=10)
    assert [error.study for error in missed] == ["study00001", "study00000"]
    assert [error.probability for error in alarms] == [0.95, 0.6]
    assert [len(errors) for errors in metrics.confident_errors(studies, 0.5, most=1)] == [1, 1]
