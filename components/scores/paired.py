"""How much better one model is than another on the same studies, with intervals.

Models make similar errors on the same studies. So the difference is measured study by study: its interval is shorter
than the intervals of both models let expect.
"""

import numpy as np
from scipy.special import ndtr, stdtrit

from components.artifacts.evaluation import Interval
from components.scores import intervals
from components.scores.influence import Samples
from components.scores.intervals import UPPER, Limits, Z
from components.scores.rates import SHARES
from components.scores.studies import Array, Studies, ratio

METHOD = (
    "Student's t on the patients' differences (DeLong 1988 and Obuchowski 1997 for the AUROC; infinitesimal jackknife)"
)


def difference(one: Studies, other: Studies, thresholds: tuple[float, float]) -> dict[str, Interval]:
    """What one model has more than another, by metric, with 95 % intervals.

    Args:
        one: the studies with the probabilities of the first model.
        other: the same studies with those of the second.
        thresholds: of the two; `probability >= threshold` is called abnormal.

    Raises:
        ValueError: the studies are not the same, or there is none.
    """
    for name in ("study", "patient", "body_part", "abnormal"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise ValueError(
                f"expected the same studies of both models, got others ({len(one)} and {len(other)}; they differ in "
                f"{name}). Evaluate both models on one data set."
            )
    found = limits(Samples.of(one, thresholds[0]), Samples.of(other, thresholds[1]))
    return {name: each.interval() for name, each in found.items()}


def power(found: Interval, margin: float) -> float | None:
    """How often a model that is as good as another passes a margin: its interval's lower end lies above minus that.

    The normal distribution is taken, with the standard error of the interval found.

    Args:
        found: the difference of two models, with its interval.
        margin: at least 0.

    Returns:
        A share; None if there is no interval.
    """
    if found.low is None or found.high is None:
        return None
    reach = (found.high - found.low) / 2
    return float(ndtr(Z * (margin / reach - 1)))


def limits(one: Samples, other: Samples) -> dict[str, Limits]:
    """The difference of every metric, by name, in the order of reports.

    There is an interval where both models have enough patients for theirs.

    Args:
        one: samples of studies, as the first model sees them.
        other: the same samples, as the second does.
    """
    found = {}
    present = one.n_present
    for name, method in intervals.METHODS.items():
        mine, theirs = one.metrics[name], other.metrics[name]
        patients = mine.patients - theirs.patients
        counted = np.minimum(method.patients(one), method.patients(other))
        least = np.maximum(_least_error(name, one), _least_error(name, other))
        error = np.maximum(np.sqrt(intervals.variance(patients, present)), least)
        degrees = np.maximum(counted - 1, 1) if name in SHARES else intervals.freedom(patients, present)
        value, reach = mine.value - theirs.value, stdtrit(degrees, UPPER) * error
        widest = 2 if name == "cohen_kappa" else 1
        each = Limits(value, np.maximum(value - reach, -widest), np.minimum(value + reach, widest))
        if name in _RANKINGS:
            each = _at_the_edge(name, one, other, each)
        found[name] = each.where(counted)
    return found


_RANKINGS = ("auroc", "average_precision")


def _least_error(name: str, samples: Samples) -> Array:
    """The least standard error of a difference, float64 [D]: an interval has a width, even of a model and itself.

    A rate changes by whole studies, an AUROC by half pairs.
    """
    tp, fp, tn, fn = (cell.sum(axis=1) for cell in samples.cells)
    if name in _RANKINGS:
        return ratio(np.full_like(tp, 0.5), (tp + fn) * (fp + tn))
    if name == "brier":
        return np.full_like(tp, 1e-6)
    studies = {
        "sensitivity": tp + fn,
        "specificity": fp + tn,
        "ppv": tp + fp,
        "npv": tn + fn,
        "f1": tp + fp + fn,
        "cohen_kappa": tp + fp + tn + fn,
    }
    return ratio(np.ones_like(tp), studies[name])


def _at_the_edge(name: str, one: Samples, other: Samples, found: Limits) -> Limits:
    """The limits where a ranking is perfect: its patients then do not vary, and their variance says nothing.

    Square and add (Newcombe 1998, method 10) takes both models' own intervals. It does not know that they were measured
    on the same patients, so its intervals are rather too long.
    """
    mine, theirs = one.metrics[name].value, other.metrics[name].value
    perfect = (mine == 1) | (theirs == 1)
    if not perfect.any():
        return found
    a, b = (intervals.METHODS[name].limits(each) for each in (one, other))
    down, up = np.hypot(mine - a.low, b.high - theirs), np.hypot(a.high - mine, theirs - b.low)
    return Limits(
        found.value,
        np.where(perfect, np.maximum(found.value - down, -1), found.low),
        np.where(perfect, np.minimum(found.value + up, 1), found.high),
    )
