"""The numbers that a result rests on, against hand-made values and scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from scored_studies import columns, drawn, quick, scored, studies_of

from components.artifacts.evaluation import Confusion
from components.scores import metrics
from components.scores.studies import Studies

DRAWS = 2000

# Point values


def test_hand_made_values():
    abnormal, probability = [0, 0, 1, 1, 1], [0.1, 0.6, 0.6, 0.35, 0.8]
    values = metrics.score(studies_of(abnormal, probability), 0.6, 1, seed=1)
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


# Intervals


def sample_metrics(studies, threshold, weight):
    return metrics.Sample.of(studies, threshold).metrics(np.asarray(weight, dtype=float))


@quick
@given(scored, st.integers(0, 2**32 - 1))
def test_a_weighted_draw_equals_scikit_learn_on_repeated_rows(rows, seed):
    abnormal, probability = columns(rows)
    weight = np.random.default_rng(seed).integers(0, 4, (3, len(abnormal)))
    found = sample_metrics(studies_of(abnormal, probability), 0.5, weight)
    for i, times in enumerate(weight):
        y, p = np.repeat(abnormal, times), np.repeat(probability, times)
        if len(set(y.tolist())) < 2:
            assert np.isnan(found["auroc"][i])
            continue
        called = p >= 0.5
        expected = {
            "auroc": oracle.roc_auc_score(y, p),
            "average_precision": oracle.average_precision_score(y, p),
            "cohen_kappa": oracle.cohen_kappa_score(y, called),
            "sensitivity": oracle.recall_score(y, called),
            "specificity": oracle.recall_score(y, called, pos_label=0),
            "f1": oracle.f1_score(y, called),
            "brier": oracle.brier_score_loss(y, p),
        }
        assert {name: found[name][i] for name in expected} == pytest.approx(expected)


def test_a_weighted_draw_equals_scikit_learn_with_sample_weights():
    abnormal, probability = drawn(5, 300)
    probability = np.round(probability, 1)
    weight = np.random.default_rng(1).random((1, 300))
    found = sample_metrics(studies_of(abnormal, probability), 0.5, weight)
    assert found["auroc"][0] == pytest.approx(oracle.roc_auc_score(abnormal, probability, sample_weight=weight[0]))
    assert found["average_precision"][0] == pytest.approx(
        oracle.average_precision_score(abnormal, probability, sample_weight=weight[0])
    )


def test_a_score_holds_the_point_values_and_counts():
    abnormal, probability = drawn(0, 120)
    scores = metrics.score(studies_of(abnormal, probability), 0.5, DRAWS, seed=1)
    assert scores.auroc.value == pytest.approx(oracle.roc_auc_score(abnormal, probability))
    assert scores.cohen_kappa.value == pytest.approx(oracle.cohen_kappa_score(abnormal, probability >= 0.5))
    assert scores.brier.value == pytest.approx(oracle.brier_score_loss(abnormal, probability))
    assert scores.confusion == metrics.confusion(abnormal, probability, 0.5)
    assert (scores.n_studies, scores.n_abnormal, scores.n_patients) == (120, abnormal.sum(), 120)


def test_intervals_are_those_of_a_plain_bootstrap():
    abnormal, probability = drawn(3, 150)
    scores = metrics.score(studies_of(abnormal, probability), 0.5, DRAWS, seed=1)
    random = np.random.default_rng(99)
    draws = [random.integers(0, 150, 150) for _ in range(1000)]
    plain = np.quantile([oracle.roc_auc_score(abnormal[i], probability[i]) for i in draws], (0.025, 0.975))
    assert (scores.auroc.low, scores.auroc.high) == pytest.approx(plain, abs=0.012)


def test_the_same_seed_gives_the_same_scores_and_another_seed_others():
    studies = studies_of(*drawn(0, 100))
    assert metrics.score(studies, 0.5, DRAWS, 1) == metrics.score(studies, 0.5, DRAWS, 1)
    assert metrics.score(studies, 0.5, DRAWS, 1) != metrics.score(studies, 0.5, DRAWS, 2)


def test_the_order_of_rows_does_not_matter():
    abnormal, probability = drawn(0, 100)
    keys = np.array([f"study{i:05}" for i in range(100)])
    patient = np.array([f"patient{i // 3}" for i in range(100)])
    order = np.random.default_rng(4).permutation(100)
    part = np.array(["hand"] * 100)
    one = Studies.of_images(keys, patient, part, abnormal, probability)
    two = Studies.of_images(keys[order], patient[order], part, abnormal[order], probability[order])
    assert metrics.score(one, 0.5, DRAWS, 1) == metrics.score(two, 0.5, DRAWS, 1)


def test_patients_with_several_like_studies_widen_the_interval():
    abnormal, probability = (np.repeat(column, 5) for column in drawn(0, 60))
    alone = metrics.score(studies_of(abnormal, probability), 0.5, DRAWS, 1)
    together = metrics.score(
        studies_of(abnormal, probability, patient=[f"patient{i // 5:03}" for i in range(300)]), 0.5, DRAWS, 1
    )
    assert together.auroc.value == alone.auroc.value
    # Five copies carry the evidence of one: the width grows by about the root of five.
    widths = [s.auroc.high - s.auroc.low for s in (together, alone)]
    assert 1.8 < widths[0] / widths[1] < 2.7


@pytest.mark.parametrize("name", ["auroc", "cohen_kappa", "sensitivity", "specificity", "ppv", "npv", "f1", "brier"])
def test_the_interval_holds_its_value(name):
    interval = getattr(metrics.score(studies_of(*drawn(8, 200)), 0.5, DRAWS, 1), name)
    assert interval.low < interval.value < interval.high


def test_nineteen_of_twenty_intervals_hold_the_truth():
    # AUROC of two normal distributions 1.2 deviations apart, of one variance: Phi(1.2 / sqrt 2).
    truth, held = 0.80193, 0
    for seed in range(100):
        abnormal, probability = drawn(1000 + seed, 200, merit=1.2)
        interval = metrics.score(studies_of(abnormal, probability), 0.5, 400, seed).auroc
        held += interval.low <= truth <= interval.high
    assert 89 <= held <= 100


def test_one_class_has_no_auroc_and_no_interval():
    scores = metrics.score(studies_of([1, 1, 1], [0.2, 0.6, 0.7]), 0.5, DRAWS, 1)
    assert scores.auroc.value is scores.auroc.low is scores.auroc.high is None
    assert scores.specificity.value is None
    assert metrics.score(studies_of([0, 0], [0.2, 0.6]), 0.5, DRAWS, 1).average_precision.value is None
    assert scores.sensitivity.value == pytest.approx(2 / 3)


def test_one_patient_has_values_but_no_intervals():
    scores = metrics.score(studies_of([0, 1], [0.2, 0.6], patient=["p", "p"]), 0.5, DRAWS, 1)
    assert scores.auroc.value == 1
    assert scores.auroc.low is scores.auroc.high is None


@pytest.mark.parametrize(("undefined", "low"), [(49, 0.5), (51, None)])
def test_an_interval_needs_half_of_the_draws(undefined, low):
    draws = np.array([np.nan] * undefined + [0.5] * (100 - undefined))
    assert metrics.percentile_interval(0.5, draws).low == low


def test_draws_in_which_a_metric_is_not_defined_are_left_out():
    # A third of the draws of these three patients holds one class only; the AUROC of all others is 1.
    scores = metrics.score(studies_of([0, 1, 1], [0.2, 0.6, 0.7]), 0.5, DRAWS, 1)
    assert (scores.auroc.low, scores.auroc.high) == (1, 1)


def test_no_study_cannot_be_scored():
    studies = studies_of([0, 1], [0.2, 0.6]).of_part("hand")
    with pytest.raises(ValueError, match="at least one study"):
        metrics.score(studies, 0.5, DRAWS, 1)


def test_draws_are_chunked_without_a_trace(monkeypatch):
    studies = studies_of(*drawn(0, 90))
    whole = metrics.score(studies, 0.5, DRAWS, 1)
    monkeypatch.setattr(metrics, "CHUNK", 1000)
    assert metrics.score(studies, 0.5, DRAWS, 1) == whole


# Errors


def test_the_farthest_errors_come_first():
    studies = studies_of([1, 1, 1, 0, 0, 0], [0.4, 0.1, 0.9, 0.6, 0.95, 0.2])
    missed, alarms = metrics.confident_errors(studies, 0.5, most=10)
    assert [error.study for error in missed] == ["study00001", "study00000"]
    assert [error.probability for error in alarms] == [0.95, 0.6]
    assert [len(errors) for errors in metrics.confident_errors(studies, 0.5, most=1)] == [1, 1]
