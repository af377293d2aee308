"""ROC, precision-recall, calibration and decision curves of studies.

Not scikit-learn's: it is no dependency of the program, and these curves are thinned to a size that a page can show.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from components.scores.intervals import wilson
from components.scores.studies import Array, Ranking, checked

POINTS = 200
"""Of a thinned curve, at most."""
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class RocCurve:
    """Points from (0, 0) to (1, 1); the first threshold is infinite, no study reaches it."""

    false_positive_rate: Array
    sensitivity: Array
    threshold: Array


def roc_curve(abnormal: ArrayLike, probability: ArrayLike, points: int = POINTS) -> RocCurve:
    """The ROC curve, thinned to at most `points`. The flattest corners go first.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        points: at least 2.

    Raises:
        ValueError: there is only one class.
    """
    ranking = Ranking.of(abnormal, probability)
    tp, fp = (np.concatenate(([0.0], counts)) for counts in _cumulative(ranking))
    if not (tp[-1] and fp[-1]):
        raise ValueError("expected abnormal and normal studies for a ROC curve, got one class only.")
    threshold = np.concatenate(([np.inf], ranking.score))
    x, y = fp / fp[-1], tp / tp[-1]
    kept = _thinned(x, y, points)
    return RocCurve(x[kept], y[kept], threshold[kept])


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Points by falling threshold, so by rising sensitivity (recall)."""

    sensitivity: Array
    ppv: Array
    threshold: Array


def precision_recall_curve(abnormal: ArrayLike, probability: ArrayLike, points: int = POINTS) -> PrecisionRecallCurve:
    """Precision (PPV) against recall (sensitivity), thinned like `roc_curve`; to be drawn as steps.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        points: at least 2.

    Raises:
        ValueError: nothing is abnormal.
    """
    ranking = Ranking.of(abnormal, probability)
    tp, fp = _cumulative(ranking)
    if not tp[-1]:
        raise ValueError("expected abnormal studies for a precision-recall curve, got none.")
    x, y = tp / tp[-1], tp / (tp + fp)
    kept = _thinned(x, y, points)
    return PrecisionRecallCurve(x[kept], y[kept], ranking.score[kept])


@dataclass(frozen=True)
class CalibrationCurve:
    """One entry per bin that holds studies."""

    lower: Array
    """Bin edges; the upper one belongs to the next bin, 1 to the last."""
    upper: Array
    mean_probability: Array
    abnormal_share: Array
    low: Array
    """Wilson's 95 % interval of the share, studies taken as independent."""
    high: Array
    studies: Array

    @property
    def expected_error(self) -> float:
        """Expected calibration error (Guo et al. 2017): mean distance of share and probability over the studies."""
        gap = np.abs(self.abnormal_share - self.mean_probability)
        return float(np.sum(self.studies * gap) / np.sum(self.studies))


def calibration_curve(abnormal: ArrayLike, probability: ArrayLike, bins: int = CALIBRATION_BINS) -> CalibrationCurve:
    """Predicted probability against the share that is abnormal, in bins of equal width over [0, 1].

    Equal width and not equal count: a bin then reads "of the studies given 20 to 30 %", and equal scores
    never fall on two sides of an edge.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        bins: their number.
    """
    labels, scores = checked(abnormal, probability)
    index = np.minimum((scores * bins).astype(np.int64), bins - 1)
    n = np.bincount(index, minlength=bins)
    held = np.flatnonzero(n)
    n = n[held]
    mean = np.bincount(index, scores, minlength=bins)[held] / n
    share = np.bincount(index, labels, minlength=bins)[held] / n
    low, high = wilson(share, n)
    return CalibrationCurve(held / bins, (held + 1) / bins, mean, share, low, high, n)


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit by the threshold probability at which somebody would act."""

    threshold: Array
    model: Array
    treat_all: Array
    """Of calling every study abnormal. That of calling none is 0."""


def decision_curve(abnormal: ArrayLike, probability: ArrayLike) -> DecisionCurve:
    """Net benefit (Vickers & Elkin 2006): true positives less false ones, which count t / (1 - t), per study.

    Who acts at a probability of t holds a false alarm for t / (1 - t) times as bad as a find is good. A threshold
    means that only where the probability can be taken at its word.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
    """
    labels, scores = checked(abnormal, probability)
    threshold = np.arange(1, 100) / 100
    called = scores >= threshold[:, None]  # [T, S]
    true, false = called @ labels / len(labels), called @ (1 - labels) / len(labels)
    cost, share = threshold / (1 - threshold), labels.mean()
    return DecisionCurve(threshold, true - cost * false, share - cost * (1 - share))


def _cumulative(ranking: Ranking) -> tuple[Array, Array]:
    """True and false positives, float64 [G], if everything down to each step is called abnormal."""
    true, false = ranking.cumulative(np.ones((1, len(ranking.order))))
    return true[0], false[0]


def _thinned(x: Array, y: Array, points: int) -> Array:
    """Which points of a line to keep: the ends, and the corners that matter most (Visvalingam & Whyatt 1993)."""
    kept = np.arange(len(x))
    while len(kept) > 2:
        dx, dy = np.diff(x[kept]), np.diff(y[kept])
        area = np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1])
        flattest = int(np.argmin(area))
        # Points on a straight line go in any case.
        if len(kept) <= points and area[flattest] > 1e-12:
            break
        kept = np.delete(kept, flattest + 1)
    return kept
