"""What a disturbance costs: the difference of a metric on the same patients, with its interval."""

from typing import NamedTuple

import numpy as np

from components.artifacts.evaluation import Interval
from components.scores.metrics import RATES, Counts, Sample, percentile_interval
from components.scores.studies import Array, Studies, area_under_roc, ratio

MIN_PATIENTS = 10
"""With fewer patients of a class there is no interval: a bootstrap of so few says too little."""
# Draws x studies held at once: 8 MiB per float64 array.
CHUNK = 2**20


class Measured(NamedTuple):
    """AUROC and kappa, in each draw."""

    auroc: Array
    """float64 [D], NaN where it is not defined."""
    cohen_kappa: Array
    """float64 [D]"""


class Drops(NamedTuple):
    """A disturbed set of studies, compared with itself undisturbed."""

    auroc: float | None
    cohen_kappa: float | None
    auroc_drop: Interval
    cohen_kappa_drop: Interval


class Paired:
    """Studies that are measured again and again with other probabilities, on the same draws of patients."""

    def __init__(self, studies: Studies, threshold: float, draws: int, seed: int) -> None:
        """Draw the patients with replacement, each with all its studies (Field & Welsh 2007).

        Args:
            studies: undisturbed.
            threshold: `probability >= threshold` is called abnormal, disturbed or not.
            draws: of patients.
            seed: of the draws.
        """
        self._studies, self._threshold = studies, threshold
        patients, self._patient = np.unique(studies.patient, return_inverse=True)
        share = np.full(len(patients), 1 / len(patients))
        self._counts = np.random.default_rng(seed).multinomial(len(patients), share, size=draws)  # [D, P]
        by_class = [len(set(studies.patient[studies.abnormal == label].tolist())) for label in (0, 1)]
        self.has_intervals = min(by_class) >= MIN_PATIENTS
        """Whether each class has enough patients."""
        self.value, self._drawn = self._measure(studies)
        """Undisturbed: one value each."""

    def drop(self, disturbed: Studies) -> Drops:
        """Undisturbed minus disturbed. Percentiles of the paired differences.

        Args:
            disturbed: the same studies in the same order, with other probabilities.
        """
        assert np.array_equal(disturbed.study, self._studies.study), "the same studies"
        value, drawn = self._measure(disturbed)
        drops = [
            self._interval(float(one[0] - other[0]), before - after)
            for one, other, before, after in zip(self.value, value, self._drawn, drawn, strict=True)
        ]
        return Drops(defined(value.auroc), defined(value.cohen_kappa), *drops)

    def _interval(self, value: float, drawn: Array) -> Interval:
        """A difference with its percentile interval. Where no draw differs, the draws cannot tell how sure that is."""
        varies = self.has_intervals and np.nanmin(drawn) < np.nanmax(drawn)
        return percentile_interval(value, drawn if varies else np.empty(0))

    def _measure(self, studies: Studies) -> tuple[Measured, Measured]:
        """The values, and those of each draw."""
        sample = Sample.of(studies, self._threshold)
        size = max(1, CHUNK // len(studies))
        drawn = [
            _measured(sample, self._counts[start : start + size, self._patient].astype(np.float64))
            for start in range(0, len(self._counts), size)
        ]
        joined = Measured(*(np.concatenate(columns) for columns in zip(*drawn, strict=True)))
        return _measured(sample, np.ones((1, len(studies)))), joined


def defined(value: Array) -> float | None:
    """The one number of an array [1]; None if it is NaN."""
    return None if np.isnan(value[0]) else float(value[0])


def _measured(sample: Sample, weight: Array) -> Measured:
    counts = Counts(*(weight @ sample.cells[:, :4]).T)
    return Measured(area_under_roc(*sample.ranking.cumulative(weight)), ratio(*RATES["cohen_kappa"](counts)))
