"""A network's answer to a study, and the AUROC of studies: all that training needs of the scores."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Studies:
    """One row per study, ascending by study."""

    study: Array
    """str [S]"""
    patient: Array
    """str [S]"""
    body_part: Array
    """str [S]"""
    abnormal: Array
    """int64 [S], 1 abnormal, 0 normal."""
    probability: Array
    """float64 [S], of abnormality, in [0, 1]."""

    def __len__(self) -> int:
        return len(self.study)

    def where(self, chosen: Array) -> Self:
        """Some of the studies, in their order.

        Args:
            chosen: bool [S].
        """
        return type(self)(
            self.study[chosen],
            self.patient[chosen],
            self.body_part[chosen],
            self.abnormal[chosen],
            self.probability[chosen],
        )


@dataclass(frozen=True)
class StudyLogits:
    """A network's answers, one row per study, ascending by study. They are no probabilities yet: calibration.py."""

    study: Array
    """str [S]"""
    patient: Array
    """str [S]"""
    body_part: Array
    """str [S]"""
    abnormal: Array
    """int64 [S], 1 abnormal, 0 normal."""
    views: Array
    """int64 [S], number of images."""
    logit: Array
    """float64 [S], of the mean probability of the views; finite."""

    def __len__(self) -> int:
        return len(self.study)

    @classmethod
    def of_images(
        cls, study: ArrayLike, patient: ArrayLike, body_part: ArrayLike, abnormal: ArrayLike, logit: ArrayLike
    ) -> Self:
        """Reduce one row per image to one row per study.

        Args:
            study: str [N], the study each image belongs to.
            patient: str [N].
            body_part: str [N].
            abnormal: int [N], the study's label, 0 or 1.
            logit: float [N], the network's answers.

        Raises:
            ValueError: lengths differ, a label is out of range, a logit is not finite, or two views of a study
                disagree in patient, body part or label.
        """
        keys = _words(study)
        distinct, first = _first_views(keys, patient, body_part, abnormal)
        mean, views = study_logit(logit, keys)
        labels, _ = checked(np.asarray(abnormal)[first], sigmoid(mean))
        return cls(distinct, _words(patient)[first], _words(body_part)[first], labels, views, mean)

    def raw(self) -> Studies:
        """The same studies with the mean probability of their views."""
        return self.with_probability(sigmoid(self.logit))

    def with_probability(self, probability: Array) -> Studies:
        """The same studies with a probability, float64 [S]."""
        return Studies(self.study, self.patient, self.body_part, self.abnormal, probability)


def sigmoid(logit: ArrayLike) -> Array:
    """Probabilities of logits.

    Args:
        logit: float [N].

    Returns:
        float64 [N] in [0, 1].
    """
    values = np.asarray(logit, np.float64)
    # exp overflows where its reciprocal does not.
    small = np.exp(-np.abs(values))
    probability: Array = np.where(values >= 0, 1, small) / (1 + small)
    return probability


def study_logit(logit: ArrayLike, study: ArrayLike) -> tuple[Array, Array]:
    """Logit of the mean probability of abnormality over the views of each study.

    The arithmetic mean is what MURA's authors use (arXiv:1712.06957). The order of the views does not matter,
    to the last bit.

    It is finite where the mean itself would be 0 or 1 to the last bit. With p = sigmoid(x), the logit of the mean is
    log(sum p) - log(sum (1 - p)), and log p and log(1 - p) are known from x without ever computing p.

    Args:
        logit: float [N], one per image, finite.
        study: str [N], the study each image belongs to.

    Returns:
        Of the distinct studies in ascending order: the logits, float64 [S], and the numbers of views, int64 [S].

    Raises:
        ValueError: lengths differ, there is no image, or a logit is not finite.
    """
    values, keys = np.asarray(logit, dtype=np.float64), np.asarray(study)
    if values.ndim != 1 or values.shape != keys.shape:
        raise ValueError(f"expected one logit per image, got shapes {values.shape} and {keys.shape} (studies).")
    if not len(values):
        raise ValueError("expected at least one image, got none.")
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite logits, got {values[~np.isfinite(values)][0]}.")
    # Summed in ascending order: float addition is not associative.
    order = np.lexsort((values, keys))
    _, first, count = np.unique(keys[order], return_index=True, return_counts=True)
    abnormal, normal = (
        np.logaddexp.reduceat(-np.logaddexp(0, -each), first) for each in (values[order], -values[order])
    )
    return abnormal - normal, count.astype(np.int64)


def auroc(abnormal: ArrayLike, probability: ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that an abnormal study scores above a normal one. A tie counts half.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S], the probabilities themselves, never 0/1 decisions.

    Returns:
        None if there is only one class.
    """
    ranking = Ranking.of(abnormal, probability)
    area = area_under_roc(*ranking.cumulative(np.ones((1, len(ranking.order)))))[0]
    return None if np.isnan(area) else float(area)


@dataclass(frozen=True)
class Ranking:
    """Studies by falling probability. Equal probabilities are one step. Sorted once for all samples."""

    order: Array
    """int64 [S], row of each study"""
    ends: Array
    """int64 [G], last study of each step"""
    abnormal: Array
    """float64 [S], in order"""
    score: Array
    """float64 [G], probability of each step, falling"""

    @classmethod
    def of(cls, abnormal: ArrayLike, probability: ArrayLike) -> Self:
        """Sort studies.

        Args:
            abnormal: int [S], 0 or 1.
            probability: float [S].
        """
        labels, scores = checked(abnormal, probability)
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        return cls(order, ends, labels[order].astype(np.float64), falling[ends])

    def cumulative(self, weight: Array) -> tuple[Array, Array]:
        """Count true and false positives, float64 [D, G], if everything down to each step is called abnormal.

        Args:
            weight: float64 [D, S], how often each study occurs in each draw.
        """
        ordered = weight[:, self.order]
        called = np.cumsum(ordered, axis=1)[:, self.ends]
        true = np.cumsum(ordered * self.abnormal, axis=1)[:, self.ends]
        return true, called - true


def area_under_roc(true: Array, false: Array) -> Array:
    """AUROC of each draw, float64 [D], NaN where there is one class only.

    Args:
        true: float64 [D, G], true positives as `Ranking.cumulative` counts them.
        false: float64 [D, G], false positives.
    """
    positive, negative = true[:, -1], false[:, -1]
    gained = np.diff(true, axis=1, prepend=0)
    # Half of the step's own normal studies count as below: ties are worth 1/2.
    above = negative[:, None] - false + np.diff(false, axis=1, prepend=0) / 2
    return ratio(np.sum(gained * above, axis=1), positive * negative)


def ratio(numerator: Array, denominator: Array) -> Array:
    """Quotients, NaN where the denominator is 0."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=undefined, where=denominator != 0))


def checked(abnormal: ArrayLike, probability: ArrayLike) -> tuple[Array, Array]:
    """Labels as int64 [S] and probabilities as float64 [S].

    Raises:
        ValueError: lengths differ, there is no study, or a label or probability is out of range.
    """
    labels, scores = np.asarray(abnormal), np.asarray(probability, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"expected one label per probability, got shapes {labels.shape} and {scores.shape}.")
    if not len(labels):
        raise ValueError("expected at least one study, got none.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"expected labels 0 (normal) and 1 (abnormal), got {np.unique(labels)[:5].tolist()}.")
    _check_probability(scores)
    return labels.astype(np.int64), scores


def _check_probability(values: Array) -> None:
    wrong = values[~((values >= 0) & (values <= 1))]
    if len(wrong):
        raise ValueError(f"expected probabilities in [0, 1], got {wrong[0]} ({len(wrong)} of {len(values)} are wrong).")


def _first_views(study: Array, patient: ArrayLike, body_part: ArrayLike, abnormal: ArrayLike) -> tuple[Array, Array]:
    """The distinct studies, str [S], ascending, and the row of a view of each, int64 [S].

    Raises:
        ValueError: lengths differ, or two views of a study disagree.
    """
    distinct, first, index = np.unique(study, return_index=True, return_inverse=True)
    columns = {"patient": _words(patient), "body_part": _words(body_part), "abnormal": np.asarray(abnormal)}
    for name, column in columns.items():
        if column.shape != study.shape:
            raise ValueError(f"{name}: expected {len(study)} values, one per image, got shape {column.shape}.")
        strays = np.flatnonzero(column != column[first][index])
        if strays.size:
            row = strays[0]
            raise ValueError(
                f"{study[row]}: expected one {name} for all its views, got {column[first][index][row]} and "
                f"{column[row]}."
            )
    return distinct, first


def _words(values: ArrayLike) -> Array:
    return np.asarray(values).astype(str)
