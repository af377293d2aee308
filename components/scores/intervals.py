"""95 % intervals of metrics, with patients as clusters. No draws: equal studies give equal intervals.

The variance of a metric is that of the patients' contributions (`influence`). It holds for any number of studies of a
patient, and any correlation between them. The scale makes the difference: near 0 and 1 a metric is skewed, and there a
symmetric interval, or a percentile bootstrap, is too short. `benchmarks.coverage` measures how often the intervals hold
the truth.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtrit

from components.artifacts.evaluation import FEWEST_PATIENTS, Interval
from components.scores.influence import Samples, count
from components.scores.studies import Array, ratio

UPPER = 0.975  # of the two quantiles of a 95 % interval
Z = 1.959963984540054  # the normal quantile
# Halvings of [0, 1] until an end of an interval is found, to 1e-15.
HALVINGS = 50


class Limits(NamedTuple):
    """A metric of many samples, with its interval."""

    value: Array
    """float64 [D], NaN where it is not defined."""
    low: Array
    """float64 [D], NaN where there is no interval."""
    high: Array
    """float64 [D]"""

    def interval(self) -> Interval:
        """The one of the first sample."""
        value, low, high = (None if np.isnan(each[0]) else float(each[0]) for each in self)
        return Interval(value=value, low=low, high=high)

    def where(self, patients: Array) -> "Limits":
        """The same, without the intervals that rest on fewer than `FEWEST_PATIENTS` patients.

        Args:
            patients: int64 [D].
        """
        missing = (patients < FEWEST_PATIENTS) | np.isnan(self.value)
        # The ends are computed by other sums than the value, and may lie 1e-17 on its wrong side.
        low = np.where(missing, np.nan, np.minimum(self.low, self.value))
        return Limits(self.value, low, np.where(missing, np.nan, np.maximum(self.high, self.value)))


class Method(NamedTuple):
    """How the interval of a metric is made."""

    limits: Callable[[Samples], Limits]
    """For any number of patients."""
    patients: Callable[[Samples], Array]
    """Number of patients that counts, int64 [D]; `FEWEST_PATIENTS` are needed."""
    needs: str
    """The same in words."""
    words: str
    source: str


def limits(samples: Samples) -> dict[str, Limits]:
    """Every metric with its interval, by name, in the order of reports."""
    return {name: method.limits(samples).where(method.patients(samples)) for name, method in METHODS.items()}


def share(chosen: Array, patient: Array) -> Interval:
    """The share of studies that are chosen, with its interval: Wilson's, with the effective number of studies.

    Args:
        chosen: bool [S].
        patient: str [S].

    Raises:
        ValueError: there is no study.
    """
    if not len(chosen):
        raise ValueError("expected at least one study, got none.")
    _, index = np.unique(patient, return_inverse=True)
    studies, right = (np.bincount(index, each)[None].astype(np.float64) for each in (None, chosen))
    return _share(right, studies).where(np.array([studies.shape[1]])).interval()


def freedom(patients: Array, present: Array) -> Array:
    """Degrees of freedom of the variance of a sum over patients, float64 [D].

    A variance that rests on a few large contributions is itself uncertain. By fourth moments its degrees of freedom are
    twice its square over its own variance (Satterthwaite 1946). They are at least those of the fewest patients: of a
    few contributions the fourth moments are not known either.

    Args:
        patients: float64 [D, P], the contribution of each patient, of mean 0.
        present: int64 [D], number of patients.
    """
    squares = patients * patients
    square, fourth = squares.sum(axis=1), np.sum(squares * squares, axis=1)
    spread = fourth - square**2 / present
    found = np.divide(2 * square**2, spread, out=np.full_like(square, np.inf), where=spread > 0)
    degrees: Array = np.clip(found, FEWEST_PATIENTS - 1, np.maximum(present - 1, FEWEST_PATIENTS - 1))
    return degrees


def variance(patients: Array, present: Array) -> Array:
    """Variance of a sum over patients, float64 [D], from the contribution of each, float64 [D, P], of mean 0."""
    found: Array = np.sum(patients * patients, axis=1) * present / np.maximum(present - 1, 1)
    return found


def clustered_auroc(samples: Samples) -> tuple[Array, Array, Array]:
    """The AUROC, its variance with patients as clusters, and the degrees of freedom of that; float64 [D] each.

    The variance is Obuchowski's (1997), the degrees of freedom are those that Brunner and Munzel (2000) take for the
    same number: Satterthwaite's, from the patients of either class.
    """
    value, abnormal, normal = samples.area
    m, n = (count(_abnormal(samples)), count(_normal(samples)))
    one, other, present = variance(abnormal, m), variance(normal, n), samples.n_present
    found = one + other + 2 * present / np.maximum(present - 1, 1) * np.sum(abnormal * normal, axis=1)
    spread = one**2 / np.maximum(m - 1, 1) + other**2 / np.maximum(n - 1, 1)
    degrees = np.divide((one + other) ** 2, spread, out=np.asarray(np.minimum(m, n) - 1.0), where=spread > 0)
    return value, np.maximum(found, 0), np.clip(degrees, 1, np.maximum(present - 1, 1))


def wilson(share: Array, n: Array) -> tuple[Array, Array]:
    """Wilson's interval (1927) of a share of n; it holds the share, whatever rounding does."""
    centre = share + Z**2 / (2 * n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)
    return np.clip(low, 0, share), np.clip(high, share, 1)


def hanley_mcneil(auroc: Array, m: Array, n: Array) -> Array:
    """Variance of an AUROC of m abnormal and n normal studies, float64 [D] (Hanley & McNeil 1982)."""
    of_one, of_other = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (m - 1) * (of_one - auroc**2) + (n - 1) * (of_other - auroc**2)
    return np.maximum(ratio(spread, m * n), 0)


def _auroc(samples: Samples) -> Limits:
    """All AUROCs from which the one found is not too far, by the variance that each of them would have.

    The variance falls to 0 as an AUROC rises to 1: its course is Hanley and McNeil's, its size Obuchowski's. So a
    perfect ranking has an interval, too.
    """
    value, found, degrees = clustered_auroc(samples)
    m, n = _abnormal(samples).sum(axis=1), _normal(samples).sum(axis=1)
    # At the edge both variances are 0. There half a discordant pair decides, with the studies of a patient all alike.
    half = ratio(np.full_like(m, 0.5), m * n)
    alike = np.maximum(largest_effect(_abnormal(samples)), largest_effect(_normal(samples)))
    size = ratio(found + half * alike, hanley_mcneil(value, m, n) + half)
    reach = stdtrit(degrees, UPPER) ** 2 * size
    low, high = (
        _farthest(value, edge, lambda end: (value - end) ** 2 <= reach * hanley_mcneil(end, m, n)) for edge in (0, 1)
    )
    return Limits(value, low, high)


def _average_precision(samples: Samples) -> Limits:
    """On the logit scale; a perfect ranking by Wilson, each patient as one abnormal study that was found."""
    value, patients, centre = samples.precision
    low, high = _on_scale(samples, centre, patients, _LOGIT)
    edge, _ = wilson(value, np.maximum(count(_abnormal(samples)), 1))
    perfect = value == 1
    return Limits(value, np.where(perfect, edge, low), np.where(perfect, 1, high))


def _kappa(samples: Samples) -> Limits:
    """On Fisher's scale. If all studies agree, or none does, by Wilson on the share that disagrees.

    Kappa is 1 - disagreement / disagreement by chance.
    """
    value, patients = samples.metrics["cohen_kappa"]
    low, high = _on_scale(samples, value, patients, _FISHER)
    n = samples.studies.sum(axis=1)
    share = _abnormal(samples).sum(axis=1) / n
    _, few = wilson(np.zeros_like(n), n / largest_effect(samples.studies))
    by_chance = 2 * share * (1 - share)
    low = np.where(value == 1, np.maximum(1 - ratio(few, by_chance), -1), low)
    high = np.where(value == -1, np.minimum(1 - ratio(1 - few, by_chance), 1), high)
    return Limits(value, np.where(value == -1, -1, low), np.where(value == 1, 1, high))


def _share(right: Array, all_: Array) -> Limits:
    """Wilson's interval of a share, with the number of studies divided by the design effect (Rao & Scott 1992).

    The design effect is between 1, all studies independent, and that of studies of a patient that are all alike.

    Args:
        right: float64 [D, P], studies of each patient that count above and below the line.
        all_: float64 [D, P], those that count below it.
    """
    n, patients = all_.sum(axis=1), count(all_)
    share = ratio(right.sum(axis=1), n)
    contributions = right - np.nan_to_num(share)[:, None] * all_
    independent = n * share * (1 - share)
    effect = np.divide(variance(contributions, patients), independent, out=np.ones_like(n), where=independent > 0)
    alike = largest_effect(all_)
    return Limits(share, *wilson(share, ratio(n, np.clip(design_effect(effect, share, n, alike), 1, alike))))


def _f1(samples: Samples) -> Limits:
    """F1 is 2 J / (1 + J), with J the share of true positives among all that is abnormal or called so."""
    cells = samples.cells
    shares = _share(cells.tp, cells.tp + cells.fp + cells.fn)
    low, high = (2 * share / (1 + share) for share in (shares.low, shares.high))
    return Limits(samples.metrics["f1"].value, low, high)


def _brier(samples: Samples) -> Limits:
    """On the logarithmic scale; if there is no error at all, by Wilson, each patient as one study."""
    value, patients = samples.metrics["brier"]
    low, high = _on_scale(samples, value, patients, _LOGARITHM)
    _, edge = wilson(np.zeros_like(value), samples.n_present)
    none = value == 0
    return Limits(value, np.where(none, 0, low), np.where(none, edge, np.minimum(high, 1)))


class _Scale(NamedTuple):
    """A scale on which a metric is nearly normal."""

    there: Callable[[Array], Array]
    back: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    """Of `there`."""


_LOGIT = _Scale(logit, expit, lambda x: 1 / (x * (1 - x)))
_FISHER = _Scale(np.arctanh, np.tanh, lambda x: 1 / (1 - x**2))
_LOGARITHM = _Scale(np.log, np.exp, lambda x: 1 / x)


def _on_scale(samples: Samples, centre: Array, patients: Array, scale: _Scale) -> tuple[Array, Array]:
    """Student's interval on a scale, by the delta method.

    Args:
        samples: the studies.
        centre: float64 [D]; at an edge of the scale the caller knows better.
        patients: float64 [D, P], contributions.
        scale: of the metric.
    """
    present = samples.n_present
    reach = stdtrit(freedom(patients, present), UPPER) * np.sqrt(variance(patients, present))
    # Equal contributions of all leave rounding only. An interval has a width.
    reach = np.maximum(reach, 1e-6)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        middle, half = scale.there(centre), reach * np.abs(scale.slope(centre))
        return scale.back(middle - half), scale.back(middle + half)


def design_effect(found: Array, share: Array, n: Array, alike: Array) -> Array:
    """A design effect, as far as it can be learned; shapes of one sort.

    It is learned from the rarer of right and wrong, and one such study more is taken to be of a patient whose studies
    are all alike.

    Args:
        found: the effect in these studies.
        share: of those that are right.
        n: number of studies.
        alike: the effect if the studies of a patient are all alike.
    """
    rarer = n * np.minimum(share, 1 - share)
    return np.asarray((rarer * found + alike) / (rarer + 1))


def largest_effect(studies: Array) -> Array:
    """Design effect if the studies of a patient are all alike, float64 [D].

    Args:
        studies: float64 [D, P], number of studies of each patient.
    """
    total = studies.sum(axis=1)
    return np.asarray(np.divide(np.sum(studies**2, axis=1), total, out=np.ones_like(total), where=total > 0))


def _farthest(start: Array, edge: float, holds: Callable[[Array], Array]) -> Array:
    """How far from a start towards an edge something holds, float64 [D], by bisection."""
    near, far = np.nan_to_num(start), np.full_like(start, edge)
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        inside = holds(middle)
        near, far = np.where(inside, middle, near), np.where(inside, far, middle)
    return near


def _abnormal(samples: Samples) -> Array:
    return np.asarray(samples.cells.tp + samples.cells.fn)


def _normal(samples: Samples) -> Array:
    return np.asarray(samples.cells.fp + samples.cells.tn)


def _called(samples: Samples) -> Array:
    return np.asarray(samples.cells.tp + samples.cells.fp)


def _passed(samples: Samples) -> Array:
    return np.asarray(samples.cells.tn + samples.cells.fn)


class _Needs(NamedTuple):
    """Which patients a metric needs."""

    patients: Callable[[Samples], Array]
    needs: str


_ABNORMAL = _Needs(lambda each: count(_abnormal(each)), f"{FEWEST_PATIENTS} patients with abnormal studies")
_NORMAL = _Needs(lambda each: count(_normal(each)), f"{FEWEST_PATIENTS} patients with normal studies")
_CALLED = _Needs(lambda each: count(_called(each)), f"{FEWEST_PATIENTS} patients with studies called abnormal")
_PASSED = _Needs(lambda each: count(_passed(each)), f"{FEWEST_PATIENTS} patients with studies called normal")
_BOTH = _Needs(
    lambda each: np.minimum(_ABNORMAL.patients(each), _NORMAL.patients(each)),
    f"{_ABNORMAL.needs}, and {FEWEST_PATIENTS} with normal ones",
)
_WILSON = ("Wilson's interval with the effective number of studies", "Wilson 1927; Rao & Scott 1992")

METHODS: Mapping[str, Method] = {
    "auroc": Method(
        _auroc,
        *_BOTH,
        "score interval from the variance by patient, which falls towards 1 as Hanley and McNeil's does",
        "Obuchowski 1997; Hanley & McNeil 1982; Newcombe 2006",
    ),
    "average_precision": Method(
        _average_precision,
        *_BOTH,
        "Student's t on the logit scale, from the influence of each patient",
        "Boyd, Eng & Page 2013; Jaeckel 1972",
    ),
    "cohen_kappa": Method(
        _kappa,
        *_BOTH,
        "Student's t on Fisher's z scale, from the influence of each patient",
        "Fleiss, Cohen & Everitt 1969; Jaeckel 1972",
    ),
    "sensitivity": Method(lambda each: _share(each.cells.tp, _abnormal(each)), *_ABNORMAL, *_WILSON),
    "specificity": Method(lambda each: _share(each.cells.tn, _normal(each)), *_NORMAL, *_WILSON),
    "ppv": Method(lambda each: _share(each.cells.tp, _called(each)), *_CALLED, *_WILSON),
    "npv": Method(lambda each: _share(each.cells.tn, _passed(each)), *_PASSED, *_WILSON),
    "f1": Method(
        _f1,
        *_ABNORMAL,
        "Wilson's interval of the share of true positives among all that is abnormal or called so, turned into F1",
        _WILSON[1],
    ),
    "brier": Method(
        _brier,
        *_BOTH,
        "Student's t on the logarithmic scale, from the influence of each patient",
        "Satterthwaite 1946; Jaeckel 1972",
    ),
}
"""By metric, in the order of reports."""
