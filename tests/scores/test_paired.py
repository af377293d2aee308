"""Differences of two models on the same studies."""

import dataclasses

import numpy as np
import pytest
from scored_studies import drawn, studies_of

from components.artifacts.evaluation import METRIC_TITLES, Interval
from components.scores import metrics, paired

HALVES = (0.5, 0.5)


def pair(seed=1, n=150, noise=0.3):
    """The same studies as two models see them; the second adds noise to the logits of the first."""
    abnormal, probability = drawn(seed, n)
    logit = np.log(probability / (1 - probability)) + noise * np.random.default_rng(seed).normal(size=n)
    patient = [f"patient{i // 2:03}" for i in range(n)]
    return studies_of(abnormal, probability, patient), studies_of(abnormal, 1 / (1 + np.exp(-logit)), patient)


def test_a_difference_is_that_of_the_values_and_lies_in_its_interval():
    one, other = pair()
    found = paired.difference(one, other, (0.4, 0.6))
    assert list(found) == list(METRIC_TITLES)
    mine, theirs = metrics.score(one, 0.4), metrics.score(other, 0.6)
    for name, interval in found.items():
        assert interval.value == pytest.approx(getattr(mine, name).value - getattr(theirs, name).value, abs=1e-15)
        assert interval.low < interval.value < interval.high


def test_the_other_way_round_the_signs_change():
    one, other = pair()
    there, back = paired.difference(one, other, HALVES), paired.difference(other, one, HALVES)
    for name in METRIC_TITLES:
        turned = (-back[name].value, -back[name].high, -back[name].low)
        assert (there[name].value, there[name].low, there[name].high) == pytest.approx(turned, abs=1e-15)


def test_models_that_err_alike_are_told_apart_better_than_their_intervals_let_expect():
    one, other = pair(noise=0.1)
    for name in ("auroc", "cohen_kappa", "sensitivity"):
        alone, difference = getattr(metrics.score(one, 0.5), name), paired.difference(one, other, HALVES)[name]
        assert difference.high - difference.low < 0.6 * (alone.high - alone.low)


def test_the_variance_of_a_difference_of_aurocs_is_delongs():
    abnormal, probability = drawn(5, 120)
    other = np.clip(probability + 0.2 * np.random.default_rng(3).normal(size=120), 0, 1)
    found = paired.difference(studies_of(abnormal, probability), studies_of(abnormal, other), HALVES)["auroc"]
    parts = []
    for scores in (probability, other):
        positive, negative = scores[abnormal == 1], scores[abnormal == 0]
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        parts.append((wins.mean(axis=1), wins.mean(axis=0)))
    # Biometrics 44 (1988).
    variance = sum(np.var(parts[0][i] - parts[1][i], ddof=1) / len(parts[0][i]) for i in (0, 1))
    assert (found.high - found.low) / 2 == pytest.approx(1.98 * variance**0.5, rel=0.02)


def test_the_difference_of_sensitivities_is_that_of_the_studies_that_only_one_model_finds():
    abnormal = np.ones(40, np.int64)
    abnormal[20:] = 0
    one, other = np.full(40, 0.1), np.full(40, 0.1)
    one[:15], other[5:17] = 0.9, 0.9
    found = paired.difference(studies_of(abnormal, one), studies_of(abnormal, other), HALVES)["sensitivity"]
    assert found.value == pytest.approx((15 - 12) / 20)
    # Five found by the first only, two by the second only.
    error = np.sqrt((5 + 2 - 9 / 20) / 20**2 * 40 / 39)
    assert (found.high - found.low) / 2 == pytest.approx(2.093 * error, rel=1e-3)


def test_a_model_and_itself_differ_by_nothing_within_a_width():
    one, _ = pair()
    for interval in paired.difference(one, one, HALVES).values():
        assert interval.value == 0
        assert interval.low < 0 < interval.high


def test_two_perfect_models_may_differ():
    abnormal = (np.arange(60) < 12).astype(int)
    one, other = (studies_of(abnormal, 0.1 + scale * abnormal) for scale in (0.6, 0.8))
    alone = metrics.score(one, 0.5).auroc
    found = paired.difference(one, other, HALVES)["auroc"]
    assert (found.low, found.value, found.high) == pytest.approx((alone.low - 1, 0, 1 - alone.low))


def test_a_perfect_ranking_may_be_less_so_than_it_looks():
    abnormal = (np.arange(60) < 12).astype(int)
    perfect, constant = studies_of(abnormal, 0.1 + 0.6 * abnormal), studies_of(abnormal, np.full(60, 0.5))
    low = metrics.score(perfect, 0.5).auroc.low
    found = paired.difference(perfect, constant, HALVES)["auroc"]
    assert found.value == 0.5
    assert found.low == pytest.approx(low - 0.5, abs=0.02)
    assert found.low < 0.49
    mirrored = paired.difference(constant, perfect, HALVES)["auroc"]
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_too_few_patients_of_either_model_give_no_interval():
    abnormal = (np.arange(60) < 9).astype(int)
    probability = np.random.default_rng(0).random(60)
    found = paired.difference(studies_of(abnormal, probability), studies_of(abnormal, 1 - probability), HALVES)
    assert {name for name, interval in found.items() if interval.too_few} == {
        "auroc", "average_precision", "cohen_kappa", "sensitivity", "f1", "brier"
    }  # fmt: skip


@pytest.mark.parametrize("column", ["study", "patient", "abnormal"])
def test_other_studies_are_refused(column):
    one, other = pair()
    changed = getattr(other, column).copy()
    changed[3] = changed[4] if column == "patient" else (1 - changed[3] if column == "abnormal" else "study99999")
    with pytest.raises(ValueError, match=f"the same studies of both models.*differ in {column}"):
        paired.difference(one, dataclasses.replace(other, **{column: changed}), HALVES)


def test_fewer_studies_are_refused():
    one, other = pair()
    with pytest.raises(ValueError, match="150 and 149"):
        paired.difference(
            one,
            dataclasses.replace(other, **{name: getattr(other, name)[1:] for name in vars(other)}),
            HALVES,
        )


@pytest.mark.parametrize(("reach", "share"), [(0.02, 0.5), (0.0145, 0.77), (0.05, 0.12)])
def test_the_power_of_a_margin_is_that_of_the_interval(reach, share):
    found = Interval(value=0.3, low=0.3 - reach, high=0.3 + reach)
    assert paired.power(found, 0.02) == pytest.approx(share, abs=0.005)
    assert paired.power(Interval(value=0.3, low=None, high=None), 0.02) is None
