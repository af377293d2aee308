"""Pointwise 95 % bands around ROC and precision-recall curves, with patients as clusters.

The value of a curve is a share of studies at a point that these studies set themselves: the sensitivity at the
threshold of a false-positive rate, the precision at that of a sensitivity. So the threshold is uncertain, too, and the
variance has no formula without densities (Pepe 2003, section 5.2). It is found by drawing patients with replacement.
From it follow the effective number of studies, and with that Wilson's interval, which has a width at 0 and 1 where
percentiles of the draws have none. Zhou and Qin (2005) do the same with Agresti and Coull's interval.

`python -m benchmarks.bands` measures how often the bands hold the true curve.
"""

from typing import NamedTuple

import numpy as np

from components.artifacts.evaluation import FEWEST_PATIENTS
from components.scores.intervals import design_effect, largest_effect, wilson
from components.scores.studies import Array, Ranking, Studies

METHOD = "Wilson's interval with the effective number of studies by {draws:,} draws of patients (after Zhou & Qin 2005)"
DRAWS = 1000
POINTS = 101
# Of the cumulated counts of all draws, float64: 40 MB at once.
CHUNK = 5_000_000
# Moves a point up a vertical part of a curve, or to the beginning of a horizontal one.
NUDGE = 1e-9


class Band(NamedTuple):
    """The intervals of a curve."""

    x: Array
    """float64 [G], rising from 0 to 1: of the class that sets the threshold, the share that is called abnormal."""
    low: Array
    """float64 [G], NaN where that is not one study at least, or all but one at most: there a single study decides."""
    high: Array
    """float64 [G], NaN with `low`."""


class Bands(NamedTuple):
    """Those of a model on a split."""

    roc: Band
    """Of the sensitivity, by false-positive rate."""
    precision_recall: Band
    """Of the precision (PPV), by sensitivity."""


def bands(studies: Studies, seed: int, draws: int = DRAWS) -> Bands | None:
    """The bands; None with fewer than `FEWEST_PATIENTS` patients of either class.

    Args:
        studies: of both classes.
        seed: of the draws.
        draws: their number.
    """
    patients, patient = np.unique(studies.patient, return_inverse=True)
    positive = studies.abnormal == 1
    of_positive, of_negative, of_all = (
        np.bincount(patient[mine], minlength=len(patients)).astype(np.float64)
        for mine in (positive, ~positive, np.ones(len(studies), bool))
    )
    if min(np.count_nonzero(of_positive), np.count_nonzero(of_negative)) < FEWEST_PATIENTS:
        return None
    ranking = Ranking.of(studies.abnormal, studies.probability)
    sensitivity, precision = _curves(ranking, np.ones((1, len(studies))))
    drawn = _drawn_curves(ranking, patient, len(patients), np.random.default_rng(seed), draws)
    m, n = of_positive.sum(), of_negative.sum()
    x = np.linspace(0, 1, POINTS)
    called = m * x / np.maximum(precision[0], 1 / len(studies))
    roc = _interval(sensitivity[0], np.full(POINTS, m), _variance(drawn[0]), largest_effect(of_positive[None]))
    of_precision = _interval(precision[0], np.maximum(called, 1), _variance(drawn[1]), largest_effect(of_all[None]))
    return Bands(_band(x, *roc, n), _band(x, *of_precision, m))


def _band(x: Array, low: Array, high: Array, studies: float) -> Band:
    """A band where there is one.

    Args:
        x: float64 [G]
        low: float64 [G]
        high: float64 [G]
        studies: of the class that sets the threshold.
    """
    there = (x * studies >= 1 - NUDGE) & (x * studies <= studies - 1 + NUDGE)
    return Band(x, np.where(there, low, np.nan), np.where(there, high, np.nan))


def _variance(drawn: Array) -> Array:
    """Of each column, without draws of one class."""
    found: Array = np.nanvar(drawn, axis=0, ddof=1)
    return found


def _interval(share: Array, n: Array, variance: Array, alike: Array) -> tuple[Array, Array]:
    """Wilson's interval of shares with this variance.

    Args:
        share: float64 [G].
        n: float64 [G], number of studies.
        variance: float64 [G], of the shares.
        alike: float64 [1], the design effect if the studies of a patient are all alike.
    """
    independent = share * (1 - share) / n
    found = np.divide(variance, independent, out=np.ones_like(n), where=independent > 0)
    return wilson(share, n / design_effect(np.maximum(found, 1), share, n, alike))


def _drawn_curves(
    ranking: Ranking, patient: Array, patients: int, random: np.random.Generator, draws: int
) -> tuple[Array, Array]:
    """The curves of drawn patients, as `_curves` gives them."""
    found = []
    most = max(1, CHUNK // len(patient))
    for start in range(0, draws, most):
        times = random.multinomial(patients, np.full(patients, 1 / patients), size=min(most, draws - start))
        found.append(_curves(ranking, times[:, patient].astype(np.float64)))
    sensitivity, precision = (np.concatenate(each) for each in zip(*found, strict=True))
    return sensitivity, precision


def _curves(ranking: Ranking, weight: Array) -> tuple[Array, Array]:
    """Sensitivity by false-positive rate, and precision by sensitivity, float64 [D, POINTS] each.

    Between two steps counts are interpolated (Davis & Goadrich 2006). NaN in draws of one class.

    Args:
        ranking: of the studies.
        weight: float64 [D, S], how often each study occurs in each draw.
    """
    x = np.linspace(0, 1, POINTS)
    true, false = (np.pad(counts, ((0, 0), (1, 0))) for counts in ranking.cumulative(weight))
    sensitivity, precision = (np.full((len(weight), POINTS), np.nan) for _ in range(2))
    for row in range(len(weight)):
        positive, negative = true[row, -1], false[row, -1]
        if not (positive and negative):
            continue  # of one class
        up, right = true[row] / positive, false[row] / negative
        sensitivity[row] = np.interp(x + NUDGE, right + NUDGE * up, up)
        found, alarms = positive * x, negative * np.interp(x, up + NUDGE * right, right)
        precision[row] = np.divide(found, found + alarms, out=np.ones(POINTS), where=found > 0)
    return sensitivity, precision
