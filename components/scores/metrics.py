"""Metrics of studies with intervals.

Abnormal is the positive class. Each formula is written once, for draws of the bootstrap. The value itself is the draw
that has every patient once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from components.artifacts.evaluation import Confusion, Interval, SplitScores
from components.scores.studies import Array, Ranking, Studies, area_under_roc, checked, ratio

CONFIDENCE = 0.95
# Draws x studies held at once while bootstrapping: 8 MiB per float64 array.
CHUNK = 2**20


class Counts(NamedTuple):
    """Studies at an operating point, whole numbers or arrays of them; positive means abnormal."""

    tp: Any
    fp: Any
    tn: Any
    fn: Any


# Numerator and denominator of each rate. 0 / 0 is not defined.
# Kappa is (observed - chance) / (1 - chance) agreement (Cohen 1960), both times the squared number of studies.
RATES: Mapping[str, Callable[[Counts], tuple[Any, Any]]] = {
    "cohen_kappa": lambda n: (
        2 * (n.tp * n.tn - n.fp * n.fn),
        (n.tp + n.fp) * (n.fp + n.tn) + (n.tp + n.fn) * (n.fn + n.tn),
    ),
    "sensitivity": lambda n: (n.tp, n.tp + n.fn),
    "specificity": lambda n: (n.tn, n.tn + n.fp),
    "ppv": lambda n: (n.tp, n.tp + n.fp),
    "npv": lambda n: (n.tn, n.tn + n.fn),
    "f1": lambda n: (2 * n.tp, 2 * n.tp + n.fp + n.fn),
    "accuracy": lambda n: (n.tp + n.tn, n.tp + n.fp + n.tn + n.fn),
}
SCORED_RATES = ("cohen_kappa", "sensitivity", "specificity", "ppv", "npv", "f1")


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


def score(studies: Studies, threshold: float, draws: int, seed: int) -> SplitScores:
    """Compute all metrics of studies with 95 % intervals.

    Percentile bootstrap over patients (Field & Welsh 2007). Studies of one patient are not independent: patients are
    drawn with replacement, each with all its studies. The same patients and seed give the same draws for every model.
    One patient alone gives no intervals.

    Args:
        studies: at least one.
        threshold: `probability >= threshold` is called abnormal.
        draws: of patients; percentiles are stable from about 2,000.
        seed: of the draws.

    Raises:
        ValueError: there is no study.
    """
    if not len(studies):
        raise ValueError("expected at least one study to score, got none.")
    patients, patient = np.unique(studies.patient, return_inverse=True)
    sample = Sample.of(studies, threshold)
    value = {name: found[0] for name, found in sample.metrics(np.ones((1, len(studies)))).items()}
    drawn: dict[str, list[Array]] = {name: [] for name in value}
    random = np.random.default_rng(seed)
    left = draws if len(patients) > 1 else 0
    while left:
        now = min(left, max(1, CHUNK // len(studies)))
        counts = random.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=now)  # [D, P]
        for name, found in sample.metrics(counts[:, patient].astype(np.float64)).items():
            drawn[name].append(found)
        left -= now
    return SplitScores(
        **{name: percentile_interval(value[name], np.concatenate(drawn[name] or [np.empty(0)])) for name in value},
        confusion=confusion(studies.abnormal, studies.probability, threshold),
        n_studies=len(studies),
        n_abnormal=int(studies.abnormal.sum()),
        n_patients=len(patients),
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


@dataclass(frozen=True)
class Sample:
    """Studies at a threshold, to be measured in many draws."""

    ranking: Ranking
    cells: Array
    """float64 [S, 5]: true positive, false positive, true negative, false negative, squared error"""

    @classmethod
    def of(cls, studies: Studies, threshold: float) -> Self:
        """Prepare studies; `probability >= threshold` is called abnormal."""
        labels, scores = checked(studies.abnormal, studies.probability)
        called, abnormal = scores >= threshold, labels == 1
        cells = [called & abnormal, called & ~abnormal, ~called & ~abnormal, ~called & abnormal, (scores - labels) ** 2]
        return cls(Ranking.of(labels, scores), np.stack(cells, axis=1).astype(np.float64))

    def metrics(self, weight: Array) -> dict[str, Array]:
        """Every metric by name, float64 [D], NaN where it is not defined.

        Args:
            weight: float64 [D, S], how often each study occurs in each draw.
        """
        true, false = self.ranking.cumulative(weight)
        *counts, error = (weight @ self.cells).T
        rates = {name: ratio(*RATES[name](Counts(*counts))) for name in SCORED_RATES}
        return {
            "auroc": area_under_roc(true, false),
            "average_precision": _average_precision(true, false),
            **rates,
            "brier": ratio(error, weight.sum(axis=1)),
        }


def _average_precision(true: Array, false: Array) -> Array:
    """Precision averaged over the steps of recall, without interpolation, as scikit-learn defines it."""
    called = true + false
    precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
    return ratio(np.sum(np.diff(true, axis=1, prepend=0) * precision, axis=1), true[:, -1])


def percentile_interval(value: float, drawn: Array) -> Interval:
    """A value with the percentile interval of its draws.

    Draws that are not defined are left out. If they are more than half, there is no interval.

    Args:
        value: of all studies; NaN if it is not defined.
        drawn: float64 [D], the value of each draw, NaN where it is not defined.
    """
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(defined) or 2 * len(defined) < len(drawn):
        return Interval(value=None if np.isnan(value) else float(value), low=None, high=None)
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=float(value), low=float(low), high=float(high))
