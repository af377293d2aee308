"""What each patient contributes to each metric: the base of all intervals.

The influence of a study is the derivative of a metric by the study's weight (Hampel 1974; the infinitesimal jackknife
of Jaeckel 1972). Studies of one patient are not independent, patients are: so influences are summed by patient.

Everything works on many samples at once, one a row. So the benchmark of coverage measures the code that measures
models. Shorter rows are filled up with studies of weight 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from components.scores.rates import RATES, SHARES, Counts, Rate
from components.scores.studies import Array, Studies, checked, ratio


@dataclass(frozen=True)
class Samples:
    """Samples of studies, each at a threshold."""

    abnormal: Array
    """float64 [D, S], 1 abnormal, 0 normal."""
    probability: Array
    """float64 [D, S]"""
    weight: Array
    """float64 [D, S], 1, or 0 of a filler."""
    patient: Array
    """int64 [D, S], from 0, below `n_patients`."""
    n_patients: int
    threshold: Array
    """float64 [D, 1], `probability >= threshold` is called abnormal."""

    @classmethod
    def of(cls, studies: Studies, threshold: float) -> Self:
        """One sample.

        Raises:
            ValueError: there is no study, or a label or probability is out of range.
        """
        labels, scores = checked(studies.abnormal, studies.probability)
        patients, patient = np.unique(studies.patient, return_inverse=True)
        return cls(
            abnormal=labels[None].astype(np.float64),
            probability=scores[None],
            weight=np.ones((1, len(studies))),
            patient=patient[None],
            n_patients=len(patients),
            threshold=np.array([[threshold]]),
        )

    @cached_property
    def positive(self) -> Array:
        """float64 [D, S], the weight of abnormal studies."""
        return self.weight * self.abnormal

    @cached_property
    def negative(self) -> Array:
        """float64 [D, S], the weight of normal studies."""
        return np.asarray(self.weight * (1 - self.abnormal))

    @cached_property
    def called(self) -> Array:
        """float64 [D, S], 1 where a study is called abnormal."""
        return np.asarray(self.probability >= self.threshold, np.float64)

    @cached_property
    def cells(self) -> Counts:
        """The studies of each patient in the two-by-two table, float64 [D, P] each."""
        passed = 1 - self.called
        return Counts(
            tp=self.by_patient(self.positive * self.called),
            fp=self.by_patient(self.negative * self.called),
            tn=self.by_patient(self.negative * passed),
            fn=self.by_patient(self.positive * passed),
        )

    @cached_property
    def studies(self) -> Array:
        """Number of studies of each patient, float64 [D, P]."""
        cells = self.cells
        return np.asarray(cells.tp + cells.fp + cells.tn + cells.fn)

    @cached_property
    def n_present(self) -> Array:
        """Number of patients with a study, int64 [D]."""
        return count(self.studies)

    @cached_property
    def ranks(self) -> "Ranks":
        """The studies by falling probability."""
        return Ranks.of(self)

    @cached_property
    def area(self) -> tuple[Array, Array, Array]:
        """What `auroc` finds."""
        return auroc(self)

    @cached_property
    def precision(self) -> tuple[Array, Array, Array]:
        """What `average_precision` finds."""
        return average_precision(self)

    @cached_property
    def metrics(self) -> "dict[str, Metric]":
        """Every metric by name, in the order of reports."""
        value, of_positive, of_negative = self.area
        return {
            "auroc": Metric(value, of_positive + of_negative),
            "average_precision": Metric(*self.precision[:2]),
            **{name: rate(self.cells, RATES[name]) for name in ("cohen_kappa", *SHARES, "f1")},
            "brier": brier(self),
        }

    def by_patient(self, studies: Array) -> Array:
        """Sum over the studies of each patient.

        Args:
            studies: float64 [D, S], 0 for a filler.

        Returns:
            float64 [D, P].
        """
        rows = len(studies)
        sums = np.bincount(self._place, studies.ravel(), minlength=rows * self.n_patients)
        return sums.reshape(rows, self.n_patients)

    @cached_property
    def _place(self) -> Array:
        """The patient of each study, counted through all samples; int64 [D * S]."""
        return (self.patient + self.n_patients * np.arange(len(self.patient))[:, None]).ravel()


@dataclass(frozen=True)
class Ranks:
    """Studies by falling probability. Equal probabilities are one step."""

    order: Array
    """int64 [D, S], the study at each place."""
    first: Array
    """int64 [D, S], first place of the step of each place."""
    end: Array
    """int64 [D, S], place after the last of the step of each place."""
    true: Array
    """float64 [D, S + 1], weight of the abnormal studies before each place."""
    false: Array
    """float64 [D, S + 1], weight of the normal studies before each place."""

    @classmethod
    def of(cls, samples: Samples) -> Self:
        """Sort."""
        order = np.argsort(-samples.probability, axis=1, kind="stable")
        falling = np.take_along_axis(samples.probability, order, axis=1)
        edge = np.ones((len(falling), 1), dtype=bool)
        new = np.concatenate([edge, falling[:, 1:] != falling[:, :-1], edge], axis=1)
        places = np.arange(falling.shape[1])
        first = np.maximum.accumulate(np.where(new[:, :-1], places, 0), axis=1)
        after = np.where(new[:, 1:], places + 1, falling.shape[1])
        end = np.minimum.accumulate(after[:, ::-1], axis=1)[:, ::-1]
        true, false = (
            _before(np.take_along_axis(weight, order, axis=1)) for weight in (samples.positive, samples.negative)
        )
        return cls(order, first, end, true, false)

    def sorted(self, studies: Array) -> Array:
        """Values of studies by place."""
        return np.take_along_axis(studies, self.order, axis=1)

    def unsorted(self, places: Array) -> Array:
        """Values of places by study."""
        studies = np.empty_like(places)
        np.put_along_axis(studies, self.order, places, axis=1)
        return studies


class Metric(NamedTuple):
    """A metric, and what each patient contributes to it."""

    value: Array
    """float64 [D], NaN where the metric is not defined."""
    patients: Array
    """float64 [D, P]. The sum of a row is 0."""


def count(studies: Array) -> Array:
    """Number of patients with a study of a kind, int64 [D], from the number of such studies of each, [D, P]."""
    return np.asarray(np.count_nonzero(studies > 0, axis=1))


def auroc(samples: Samples) -> tuple[Array, Array, Array]:
    """The AUROC, and what each study contributes: DeLong's structural components (1988), less their mean.

    Returns:
        The AUROC, float64 [D]; what each patient contributes by abnormal studies and by normal ones, float64 [D, P]
        each, NaN with one class only.
    """
    ranks = samples.ranks
    positive, negative = ranks.true[:, -1:], ranks.false[:, -1:]
    # A tie counts half.
    false = (np.take_along_axis(ranks.false, ranks.first, 1) + np.take_along_axis(ranks.false, ranks.end, 1)) / 2
    true = (np.take_along_axis(ranks.true, ranks.first, 1) + np.take_along_axis(ranks.true, ranks.end, 1)) / 2
    below, above = ranks.unsorted(negative - false), ranks.unsorted(true)
    pairs = positive * negative
    value = ratio(np.sum(samples.positive * below, axis=1, keepdims=True), pairs)
    of_positive = samples.by_patient(samples.positive * (below - value * negative))
    of_negative = samples.by_patient(samples.negative * (above - value * positive))
    return value[:, 0], _over(of_positive, pairs), _over(of_negative, pairs)


def average_precision(samples: Samples) -> tuple[Array, Array, Array]:
    """Average precision: the mean of the precision at each abnormal study, without interpolation.

    A study adds its own precision if it is abnormal. It also changes the precision at every place from its step on.

    Returns:
        The average precision, float64 [D]; what each patient contributes, float64 [D, P]; and the average precision
        with each study left out of its own precision, float64 [D]. Few studies make the first too high, since each
        abnormal study counts among those that are called abnormal with it.
    """
    ranks = samples.ranks
    true, false = np.take_along_axis(ranks.true, ranks.end, 1), np.take_along_axis(ranks.false, ranks.end, 1)
    called, weight, label = true + false, ranks.sorted(samples.weight), ranks.sorted(samples.positive)
    precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
    # Where nothing else is called abnormal, nothing else is wrong.
    of_others = np.divide(true - 1, called - 1, out=np.ones_like(true), where=called > 1)
    positive = ranks.true[:, -1:]
    value, left_out = (ratio(np.sum(label * each, axis=1, keepdims=True), positive) for each in (precision, of_others))
    reciprocal = np.divide(label, called, out=np.zeros_like(true), where=called > 0)
    gain, loss = (
        np.take_along_axis(_from(change), ranks.first, axis=1) for change in (reciprocal, reciprocal * precision)
    )
    studies = label * (precision - value + gain) - weight * loss
    return value[:, 0], _over(samples.by_patient(ranks.unsorted(studies)), positive), left_out[:, 0]


def rate(cells: Counts, formula: Rate) -> Metric:
    """A rate of the two-by-two table.

    Args:
        cells: of each patient, float64 [D, P] each.
        formula: one of `RATES`.
    """
    counts = Counts(*(cell.sum(axis=1, keepdims=True) for cell in cells))
    numerator, denominator = formula(counts)
    value = ratio(numerator, denominator)
    patients = np.zeros_like(cells.tp)
    for place, cell in enumerate(cells):
        # The central difference of a polynomial of degree 2 is its derivative.
        more, less = (formula(counts._replace(**{Counts._fields[place]: counts[place] + step})) for step in (1, -1))
        slope = (more[0] - less[0]) / 2 - value * (more[1] - less[1]) / 2
        patients += cell * ratio(slope, denominator)
    return Metric(value[:, 0], patients)


def brier(samples: Samples) -> Metric:
    """The mean squared distance of probability and label (Brier 1950)."""
    error = samples.weight * (samples.probability - samples.abnormal) ** 2
    total = samples.weight.sum(axis=1, keepdims=True)
    value = ratio(error.sum(axis=1, keepdims=True), total)
    return Metric(value[:, 0], _over(samples.by_patient(error - value * samples.weight), total))


def _before(values: Array) -> Array:
    """Sums of what comes before each place, float64 [D, S + 1]."""
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


def _from(values: Array) -> Array:
    """Sums from each place on, float64 [D, S]."""
    return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]


def _over(values: Array, total: Array) -> Array:
    """Quotients by one number a row."""
    return ratio(values, np.broadcast_to(total, values.shape))
