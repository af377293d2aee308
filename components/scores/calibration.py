"""From a network's answer to the probability that a study is abnormal.

    p = sigmoid(a + b z - o)

z is the logit of the mean probability of the study's views. o is what the weights of the loss added to it
(offsets.py). a and b are Platt's (1999): a network that is too sure of itself has a b below 1, one that was trained too
briefly a b above 1. They are the same for all body parts, and are fitted on the tuning split with o given
(`logistic.fit`).

A slope that is not above 0 says that the network ranks backwards on tuning, or not at all. Then its answers are given
no weight: b is 0, and p is what a and o say, the share of abnormal studies to be expected of the body part. Turned
round it would be a model that nobody trained. Where all answers are the same, or there are none, nothing can be
fitted: a is 0 and b is 1.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from components.artifacts.evaluation import Calibration
from components.artifacts.manifest import TEST, TUNING
from components.artifacts.trained_model import Offsets
from components.scores import logistic, offsets
from components.scores.studies import Array, Studies, StudyLogits, sigmoid

FOLDS = 10
"""Of patients, for the figures on tuning; fewer where there are fewer patients."""
SAME = 1e-6
"""Answers that differ by less, as a share of the largest, are the same: networks compute in float32."""


class Line(NamedTuple):
    """a and b."""

    intercept: float
    slope: float


class Calibrated(NamedTuple):
    """A network's answers to both splits as probabilities."""

    line: Line
    tuning: Studies
    """Cross-fitted: the probability of a study comes from a line that did not see its patient. Figures are of these."""
    fold: Array
    """int64 [S], the fold of each tuning study."""
    frozen: Array
    """float64 [S], the tuning studies by the line itself, as all other studies. Thresholds are chosen on these."""
    test: Studies
    """By the line itself."""
    offset: dict[str, Array]
    """float64 [S] by split, the offset of each study."""

    def facts(self, learned: Offsets) -> Calibration:
        """What an evaluation says of it.

        Args:
            learned: the offsets that were used.
        """
        parts = np.concatenate([self.tuning.body_part, self.test.body_part])
        return Calibration(
            intercept=self.line.intercept,
            slope=self.line.slope,
            folds=int(self.fold.max()) + 1,
            pooled_parts=offsets.unknown(learned, parts),
        )


def calibrate(tuning: StudyLogits, test: StudyLogits, learned: Offsets, seed: int) -> Calibrated:
    """Fit on tuning, and give the studies of both splits their probability.

    Args:
        tuning: answers to fit on, of at least one study.
        test: answers that are not fitted on.
        learned: offsets by body part, of the model's card.
        seed: of the folds.
    """
    offset = {
        "tuning": offsets.of_studies(learned, tuning.body_part),
        "test": offsets.of_studies(learned, test.body_part),
    }
    line = fit(tuning.logit, offset[TUNING], tuning.abnormal)
    fold = folds(tuning.patient, tuning.abnormal, seed)
    fitted = cross_fitted(tuning, offset[TUNING], fold)
    return Calibrated(
        line=line,
        tuning=tuning.with_probability(fitted),
        fold=fold,
        frozen=probability(line, tuning.logit, offset[TUNING]),
        test=test.with_probability(probability(line, test.logit, offset[TEST])),
        offset=offset,
    )


def fit(logit: Array, offset: Array, abnormal: Array) -> Line:
    """Fit a and b.

    Args:
        logit: float64 [S], z.
        offset: float64 [S], o.
        abnormal: int64 [S], 0 or 1.
    """
    if not len(logit) or np.ptp(logit) <= SAME * max(1.0, float(np.abs(logit).max())):
        return Line(0.0, 1.0)
    one = np.ones_like(logit)
    intercept, slope = logistic.fit(np.stack([one, logit], axis=1), -offset, abnormal).coefficients
    if slope * np.ptp(logit) > SAME:
        return Line(float(intercept), float(slope))
    return Line(float(logistic.fit(one[:, None], -offset, abnormal).coefficients[0]), 0.0)


def probability(line: Line, logit: Array, offset: Array) -> Array:
    """The probability of each study, float64 [S].

    Args:
        line: a and b.
        logit: float64 [S], z.
        offset: float64 [S], o.
    """
    return sigmoid(line.intercept + line.slope * logit - offset)


def folds(patient: Array, abnormal: Array, seed: int) -> Array:
    """The fold of each study, int64 [S], from 0. All studies of a patient are in one.

    Patients are ordered by whether a study of theirs is abnormal, and then by a seeded hash of their name, and dealt
    out in turn. So each fold has its share of both: with folds of unequal shares the pooled figures of a cross-fitting
    are too low (Airola et al. 2011). The order of studies does not matter.

    Args:
        patient: str [S].
        abnormal: int64 [S], 0 or 1.
        seed: decides the order of patients.
    """
    distinct, index = np.unique(patient, return_inverse=True)
    diseased = np.bincount(index, abnormal) > 0
    hashed = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in distinct.tolist()]
    order = sorted(range(len(distinct)), key=lambda place: (diseased[place], hashed[place]))
    fold = np.empty(len(distinct), np.int64)
    fold[order] = np.arange(len(distinct)) % FOLDS
    return fold[index]


def cross_fitted(answers: StudyLogits, offset: Array, fold: Array) -> Array:
    """The probability of each study by a line that did not see its fold, float64 [S].

    Args:
        answers: to fit on, and to give a probability to.
        offset: float64 [S], o.
        fold: int64 [S].
    """
    found = np.empty(len(fold))
    for held_out in np.unique(fold).tolist():
        mine = fold == held_out
        line = fit(answers.logit[~mine], offset[~mine], answers.abnormal[~mine])
        found[mine] = probability(line, answers.logit[mine], offset[mine])
    return found
