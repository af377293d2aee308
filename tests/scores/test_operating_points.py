"""The thresholds that tuning chooses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored_studies import columns, quick, scored

from components.scores import metrics
from components.scores.operating_points import choose_threshold

ABNORMAL = [0, 0, 1, 0, 1, 1]
PROBABILITY = [0.1, 0.2, 0.3, 0.4, 0.6, 0.8]


@pytest.mark.parametrize(
    ("rule", "target", "threshold"),
    [
        # Calling the top 2 and the top 4 both agree on 5 of 6, with equal kappa: the lower one is taken.
        ("kappa", 0.5, 0.25),
        ("sensitivity", 0.6, 0.5),
        ("sensitivity", 2 / 3, 0.5),
        ("sensitivity", 0.7, 0.25),
        ("sensitivity", 0.1, 0.7),
        ("half", 0.123, 0.5),
    ],
)
def test_rules_choose_their_threshold(rule, target, threshold):
    assert choose_threshold(ABNORMAL, PROBABILITY, rule, target) == pytest.approx(threshold)


@quick
@given(scored)
def test_no_other_threshold_has_a_higher_kappa(rows):
    abnormal, probability = columns(rows)

    def merit(threshold):
        return metrics.rate("cohen_kappa", metrics.confusion(abnormal, probability, threshold))

    chosen = merit(choose_threshold(abnormal, probability, "kappa", 0.5))
    assert all(chosen >= merit(other) - 1e-12 for other in [*probability, 2.0])


@quick
@given(scored, st.floats(0.01, 0.99))
def test_the_sensitivity_rule_reaches_its_target_and_no_more(rows, target):
    abnormal, probability = columns(rows)
    threshold = choose_threshold(abnormal, probability, "sensitivity", target)
    assert metrics.rate("sensitivity", metrics.confusion(abnormal, probability, threshold)) >= target
    higher = probability[probability >= threshold].min()
    above = metrics.confusion(abnormal, probability, np.nextafter(higher, 2))
    assert metrics.rate("sensitivity", above) < target


def test_a_threshold_does_not_sit_on_a_score_unless_scores_are_neighbours():
    assert choose_threshold([0, 1], [0.2, 0.4], "kappa", 0.5) == pytest.approx(0.3)
    upper = np.nextafter(0.2, 1)
    assert choose_threshold([0, 1], [0.2, upper], "kappa", 0.5) == upper


def test_a_model_without_merit_calls_everything_abnormal():
    threshold = choose_threshold([1, 0], [0.2, 0.8], "kappa", 0.5)
    assert threshold == pytest.approx(0.1)


@pytest.mark.parametrize("rule", ["kappa", "sensitivity"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_threshold_cannot_be_learned_from_one_class(rule, label):
    with pytest.raises(ValueError, match="expected abnormal and normal studies"):
        choose_threshold([label, label], [0.2, 0.8], rule, 0.5)
