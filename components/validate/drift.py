"""How different two sets of values are, and whether chance may explain it.

An alarm needs both a large effect and a small p-value. Among 40,000 images every difference is significant; among a
hundred a large difference may be chance. Images of a study are similar, so p-values of images are too small, and the
effect decides.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Probability of a false alarm in one comparison. A report makes about twenty comparisons.
ALPHA = 0.001
# Share of an empty category, because its logarithm would be infinite.
FLOOR = 1e-4


class Difference(NamedTuple):
    """Effect size and p-value."""

    effect: float
    p: float

    @property
    def beyond_chance(self) -> float:
        """The effect, or 0 if chance may explain it."""
        return self.effect if self.p < ALPHA else 0.0


def categories(old: Sequence[int], new: Sequence[int]) -> Difference:
    """Population stability index, with the p-value of Pearson's chi-square test of homogeneity.

    The sum over categories of (q - p) ln(q / p), with p and q the shares before and now. Below 0.1 counts as stable,
    above 0.25 as a shift (Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        old: counts by category.
        new: counts of the same categories.
    """
    counts = np.array([old, new], dtype=np.float64)
    counts = counts[:, counts.sum(axis=0) > 0]
    if not counts.sum(axis=1).all() or counts.shape[1] < 2:
        return Difference(0.0, 1.0)
    p, q = np.maximum(counts / counts.sum(axis=1, keepdims=True), FLOOR)
    return Difference(float(np.sum((q - p) * np.log(q / p))), float(stats.chi2_contingency(counts).pvalue))


def values(old: NDArray[np.float64], new: NDArray[np.float64]) -> Difference:
    """Kolmogorov-Smirnov distance: the largest difference between the distribution functions of two samples.

    Args:
        old: float64 [N].
        new: float64 [M].
    """
    if not len(old) or not len(new):
        return Difference(0.0, 1.0)
    found = stats.ks_2samp(old, new, method="asymp")
    return Difference(float(found.statistic), float(found.pvalue))


def shares(old: tuple[int, int], new: tuple[int, int]) -> Difference:
    """Cohen's h, the difference of two shares, with the p-value of Fisher's exact test.

    h = |2 asin sqrt p - 2 asin sqrt q|; 0.2 is called small, 0.5 medium, 0.8 large (Cohen, Statistical Power Analysis
    for the Behavioral Sciences, 1988, chapter 6).

    Args:
        old: number of hits, number of all.
        new: the same for the other side.
    """
    (some, of), (others, of_others) = old, new
    if not of or not of_others:
        return Difference(0.0, 1.0)
    h = abs(2 * math.asin(math.sqrt(some / of)) - 2 * math.asin(math.sqrt(others / of_others)))
    table = [[some, of - some], [others, of_others - others]]
    return Difference(h, float(stats.fisher_exact(table).pvalue))
