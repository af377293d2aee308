"""Whether probabilities can be taken at their word: calibration error, slope and intercept of a split."""

import numpy as np
from scipy import stats

from components.artifacts.evaluation import FEWEST_PATIENTS, Interval, Reliability
from components.scores import logistic
from components.scores.curves import CALIBRATION_BINS, calibration_curve
from components.scores.studies import Array, Studies

DRAWS = 1000
"""Of labels, for the calibration error by chance."""
SAME = 1e-9
"""Logits that differ by less are the same."""
EXTREME = 37.0
"""Logits of probabilities are cut off here: that of the float below 1 is 36.7, that of 1 itself is infinite."""


def measure(studies: Studies, brier: Interval, seed: int) -> Reliability:
    """Measure the probabilities of studies.

    The calibration error has no interval: it is 0 at least, and too high by an amount that depends on the number of
    studies. It stands beside the error that exact probabilities would show on as many studies (Vaicenavicius et al.
    2019), studies taken as independent.

    Args:
        studies: at least one.
        brier: their Brier score.
        seed: of the draws of labels.
    """
    slope, intercept = recalibration(studies)
    return Reliability(
        brier=brier,
        expected_error=calibration_curve(studies.abnormal, studies.probability).expected_error,
        expected_error_by_chance=error_by_chance(studies.probability, seed),
        slope=slope,
        intercept=intercept,
    )


def recalibration(studies: Studies) -> tuple[Interval, Interval]:
    """Slope and intercept of calibration: what would have to be done to the logits of the probabilities.

    They are Cox's (Biometrika 1958; Van Calster et al., BMC Medicine 2019): the slope of a logistic regression of the
    label on the logit of the probability, and the intercept of one in which that slope is 1. Both are fitted with
    Firth's penalty. Their intervals are of a jackknife over patients in one step (CR3: Bell & McCaffrey 2002), with
    the t distribution. The slope is not defined where all probabilities are the same.
    """
    with np.errstate(divide="ignore"):
        logit = np.log(studies.probability) - np.log1p(-studies.probability)
    logit = np.clip(logit, -EXTREME, EXTREME)
    one = np.ones((len(logit), 1))
    intercept = _interval(studies, logistic.fit(one, logit, studies.abnormal), 0)
    if np.ptp(logit) < SAME:
        return Interval(value=None, low=None, high=None), intercept
    fitted = logistic.fit(np.hstack([one, logit[:, None]]), np.zeros_like(logit), studies.abnormal)
    return _interval(studies, fitted, 1), intercept


def error_by_chance(probability: Array, seed: int) -> float:
    """The calibration error that 1 in 20 draws of labels exceed, if the probabilities are exact.

    Args:
        probability: float64 [S].
        seed: of the draws.
    """
    bins = CALIBRATION_BINS
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    held = np.eye(bins)[index]  # [S, bins]
    random = np.random.default_rng(seed)
    error = []
    # As many draws at once as take 64 MiB.
    left, most = DRAWS, max(1, 2**23 // max(1, len(probability)))
    while left:
        drawn = random.random((min(left, most), len(probability))) < probability
        error.append(np.abs((drawn - probability) @ held).sum(axis=1) / len(probability))
        left -= len(drawn)
    return float(np.quantile(np.concatenate(error), 0.95))


def _interval(studies: Studies, found: logistic.Fit, place: int) -> Interval:
    """A coefficient with its 95 % interval; none if there are fewer than ten patients with either label."""
    value = float(found.coefficients[place])
    patients, index = np.unique(studies.patient, return_inverse=True)
    fewest = min(len(np.unique(index[studies.abnormal == label])) for label in (0, 1))
    if fewest < FEWEST_PATIENTS:
        return Interval(value=value, low=None, high=None)
    half = float(stats.t.ppf(0.975, len(patients) - 1)) * _jackknife_error(found, index)[place]
    return Interval(value=value, low=value - half, high=value + half)


def _jackknife_error(found: logistic.Fit, patient: Array) -> Array:
    """Standard errors, float64 [K]: how far one step of Newton's moves without each patient in turn.

    Without patient g the score is -U_g and the information I - I_g, so the coefficients move by (I - I_g)^-1 U_g.
    """
    count, width = int(patient.max()) + 1, len(found.coefficients)
    score, information = np.zeros((count, width)), np.zeros((count, width, width))
    np.add.at(score, patient, found.scores)
    np.add.at(information, patient, found.information)
    moved = np.linalg.solve(np.linalg.inv(found.covariance) - information, score[:, :, None])[:, :, 0]
    moved = moved - moved.mean(axis=0)
    error: Array = np.sqrt((count - 1) / count * np.sum(moved**2, axis=0))
    return error
