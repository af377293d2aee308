"""Metrics of studies with intervals, and the choice of the threshold. Abnormal is the positive class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from components.artifacts.evaluation import Confusion, SplitScores
from components.params.evaluate import OperatingPoint
from components.scores import intervals
from components.scores.influence import Samples
from components.scores.rates import RATES as RATES
from components.scores.rates import Counts as Counts
from components.scores.studies import Array, Ranking, Studies, checked


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


def choose_threshold(abnormal: ArrayLike, probability: ArrayLike, rule: OperatingPoint, target: float) -> float:
    """Choose the threshold by a rule.

    A threshold lies midway between two neighbouring scores, or midway between the lowest score and 0. So the last bit
    of a score decides nothing. Of several equally good thresholds the lowest is chosen: it misses the fewest abnormal
    studies. With a model that ranks at random or worse, everything is called abnormal.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        rule: `kappa`, highest Cohen's kappa; `youden`, highest sensitivity + specificity; `sensitivity`, the
            highest threshold whose sensitivity is at least `target`; `fixed`, `target` itself.
        target: for `sensitivity` and `fixed`.

    Raises:
        ValueError: there is only one class, and the rule looks at the studies.
    """
    if rule == "fixed":
        return float(target)
    ranking = Ranking.of(abnormal, probability)
    tp, fp = (counts[0] for counts in ranking.cumulative(np.ones((1, len(ranking.order)))))
    positive, negative = tp[-1], fp[-1]
    if not (positive and negative):
        raise ValueError(
            f"expected abnormal and normal studies to choose a threshold by {rule}, got {int(positive)} abnormal and "
            f"{int(negative)} normal."
        )
    if rule == "sensitivity":
        chosen = int(np.argmax(tp / positive >= target))
    else:
        # Quotients of whole numbers are rounded correctly, so what is equal compares equal.
        if rule == "kappa":
            numerator, denominator = RATES["cohen_kappa"](Counts(tp, fp, negative - fp, positive - tp))
            merit = numerator / denominator
        else:
            merit = tp * negative + (negative - fp) * positive
        chosen = len(merit) - 1 - int(np.argmax(merit[::-1]))
    upper = float(ranking.score[chosen])
    lower = float(ranking.score[chosen + 1]) if chosen + 1 < len(ranking.score) else 0.0
    middle = lower + (upper - lower) / 2
    # There is no float between neighbours; `>=` then wants the upper one.
    return middle if middle > lower else upper


def score(studies: Studies, threshold: float, draws: int | None = None, seed: int | None = None) -> SplitScores:
    """Compute all metrics of studies with 95 % intervals (`components.scores.intervals`).

    Args:
        studies: at least one.
        threshold: `probability >= threshold` is called abnormal.
        draws: not used: the intervals need no draws.
        seed: not used.

    Raises:
        ValueError: there is no study.
    """
    del draws, seed
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
