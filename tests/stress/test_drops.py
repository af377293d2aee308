"""What a disturbance costs is the difference on the same patients."""

import dataclasses

import numpy as np
import pytest
from scored_studies import drawn, studies_of

from components.scores.metrics import confusion, rate
from components.scores.studies import Studies, auroc
from components.stress.drops import MIN_PATIENTS, Paired

THRESHOLD = 0.5


def disturbed(studies: Studies, noise: float, seed: int = 9) -> Studies:
    random = np.random.default_rng(seed)
    probability = np.clip(studies.probability + random.normal(0, noise, len(studies)), 0, 1)
    return dataclasses.replace(studies, probability=probability)


@pytest.fixture(scope="module")
def studies() -> Studies:
    abnormal, probability = drawn(3, 120)
    return studies_of(abnormal, probability, patient=[f"patient{i // 2:03}" for i in range(120)])


def test_the_drop_is_undisturbed_minus_disturbed_with_the_interval_of_paired_draws(studies: Studies) -> None:
    other = disturbed(studies, 0.4)
    found = Paired(studies, THRESHOLD, 2000, 1).drop(other)
    kappas = [rate("cohen_kappa", confusion(s.abnormal, s.probability, THRESHOLD)) for s in (studies, other)]
    assert found.auroc == auroc(other.abnormal, other.probability)
    assert found.cohen_kappa == pytest.approx(kappas[1])
    assert found.auroc_drop.value == pytest.approx(auroc(studies.abnormal, studies.probability) - found.auroc)
    assert found.cohen_kappa_drop.value == pytest.approx(kappas[0] - kappas[1])
    # Drawn anew, one patient after the other.
    random, names = np.random.default_rng(5), np.unique(studies.patient)
    differences = []
    for _ in range(300):
        rows = np.concatenate([np.flatnonzero(studies.patient == name) for name in random.choice(names, len(names))])
        differences.append(
            auroc(studies.abnormal[rows], studies.probability[rows])
            - auroc(other.abnormal[rows], other.probability[rows])
        )
    ends = (found.auroc_drop.low, found.auroc_drop.high)
    assert ends == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.02)


def test_what_changes_nothing_costs_nothing(studies: Studies) -> None:
    found = Paired(studies, THRESHOLD, 2000, 1).drop(studies)
    assert (found.auroc_drop.value, found.cohen_kappa_drop.value) == (0, 0)
    # An interval from 0 to 0 would promise that other patients are not harmed either.
    assert (found.auroc_drop.low, found.auroc_drop.high) == (None, None)


def test_the_threshold_is_kept(studies: Studies) -> None:
    """A shift of all probabilities ranks as before, and calls other studies abnormal."""
    shifted = dataclasses.replace(studies, probability=studies.probability / 2)
    found = Paired(studies, THRESHOLD, 2000, 1).drop(shifted)
    assert found.auroc_drop.value == 0
    assert found.cohen_kappa == 0


def test_too_few_patients_have_no_interval() -> None:
    few = MIN_PATIENTS - 1
    abnormal = np.array([1] * few + [0] * 40)
    found = Paired(one := studies_of(abnormal, np.linspace(0.9, 0.1, few + 40)), THRESHOLD, 2000, 1)
    assert not found.has_intervals
    drop = found.drop(disturbed(one, 0.5)).auroc_drop
    assert drop.value is not None
    assert (drop.low, drop.high) == (None, None)


def test_other_studies_are_no_pair(studies: Studies) -> None:
    abnormal, probability = drawn(3, 80)
    with pytest.raises(AssertionError, match="the same studies"):
        Paired(studies, THRESHOLD, 2000, 1).drop(studies_of(abnormal, probability))
