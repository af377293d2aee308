"""Metrics of studies with intervals. Abnormal is the positive class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from components.artifacts.evaluation import Confusion, SplitScores
from components.scores import intervals
from components.scores.influence import Samples
from components.scores.rates import RATES, Counts
from components.scores.studies import Array, Studies, checked


def confusion(abnormal: ArrayLike, probability: ArrayLike, threshold: float) -> Confusion:
    """Counts at an operating point; `probability >= threshold` is called abnormal.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        threshold: the operating point.
    """
    labels, scores = checked(abnormal, probability)
    called = scores >= threshold
    return Confusion(
        true_positive=int(np.sum(called & (labels == 1))),
        false_positive=int(np.sum(called & (labels == 0))),
        true_negative=int(np.sum(~called & (labels == 0))),
        false_negative=int(np.sum(~called & (labels == 1))),
    )


def rate(name: str, counts: Confusion) -> float | None:
    """One of `RATES` from the counts; None where it is 0 / 0."""
    numerator, denominator = RATES[name](
        Counts(counts.true_positive, counts.false_positive, counts.true_negative, counts.false_negative)
    )
    return numerator / denominator if denominator else None


def predictive_values(
    sensitivity: float | None, specificity: float | None, prevalence: float
) -> tuple[float | None, float | None]:
    """PPV and NPV at a prevalence, from sensitivity and specificity (Bayes' rule).

    Predictive values depend on the share of abnormal studies, and a data set has another share than a clinic.
    """
    if sensitivity is None or specificity is None:
        return None, None
    called, passed = sensitivity * prevalence, specificity * (1 - prevalence)
    false_alarm, missed = (1 - specificity) * (1 - prevalence), (1 - sensitivity) * prevalence
    return (
        called / (called + false_alarm) if called + false_alarm else None,
        passed / (passed + missed) if passed + missed else None,
    )


def score(studies: Studies, threshold: float) -> SplitScores:
    """Compute all metrics of studies with 95 % intervals (`components.scores.intervals`).

    Args:
        studies: at least one.
        threshold: `probability >= threshold` is called abnormal.

    Raises:
        ValueError: there is no study.
    """
    if not len(studies):
        raise ValueError("expected at least one study to score, got none.")
    samples = Samples.of(studies, threshold)
    return SplitScores(
        **{name: found.interval() for name, found in intervals.limits(samples).items()},
        confusion=confusion(studies.abnormal, studies.probability, threshold),
        n_studies=len(studies),
        n_abnormal=int(studies.abnormal.sum()),
        n_patients=samples.n_patients,
    )


@dataclass(frozen=True)
class StudyError:
    """A study on the wrong side of the threshold."""

    study: str
    body_part: str
    probability: float


def confident_errors(studies: Studies, threshold: float, most: int) -> tuple[list[StudyError], list[StudyError]]:
    """The errors that lie farthest from the threshold.

    Returns:
        Missed abnormal studies, lowest probability first, and false alarms, highest first; at most `most` of each.
        Equal ones come in ascending order of study.
    """
    called, abnormal = studies.probability >= threshold, studies.abnormal == 1
    missed, alarms = np.flatnonzero(~called & abnormal), np.flatnonzero(called & ~abnormal)
    missed = missed[np.argsort(studies.probability[missed], kind="stable")][:most]
    alarms = alarms[np.argsort(-studies.probability[alarms], kind="stable")][:most]

    def rows(chosen: Array) -> list[StudyError]:
        return [
            StudyError(str(studies.study[i]), str(studies.body_part[i]), float(studies.probability[i])) for i in chosen
        ]

    return rows(missed), rows(alarms)
