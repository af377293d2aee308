"""How far two sets of values lie apart, and whether chance alone would part them so.

An alarm needs both: an effect, because among 40,000 images every difference is significant, and significance,
because among a hundred a large one is an accident. Images of a study are alike, so that p-values of images are too
small; the effect is what decides then.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Chance parts equal sets this seldom; one report makes some twenty comparisons.
ALPHA = 0.001
# Of a category that one side has not: its logarithm would be infinite.
FLOOR = 1e-4


class Difference(NamedTuple):
    """How far apart, and how likely so by chance."""

    effect: float
    p: float

    @property
    def beyond_chance(self) -> float:
        """The effect, or 0 if chance may explain it."""
        return self.effect if self.p < ALPHA else 0.0


def categories(old: Sequence[int], new: Sequence[int]) -> Difference:
    """Population stability index, with the p-value of Pearson's chi-square test of homogeneity.

    The sum over categories of (q - p) ln(q / p), p and q the shares before and now. Below 0.1 is taken for stable,
    above 0.25 for a shift (Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        old: counts by category.
        new: counts of the same categories.
    """
    from scipy import stats

    counts = np.array([old, new], dtype=np.float64)
    counts = counts[:, counts.sum(axis=0) > 0]
    if not counts.sum(axis=1).all() or counts.shape[1] < 2:
        return Difference(0.0, 1.0)
    p, q = np.maximum(counts / counts.sum(axis=1, keepdims=True), FLOOR)
    return Difference(float(np.sum((q - p) * np.log(q / p))), float(stats.chi2_contingency(counts).pvalue))


def values(old: NDArray[np.float64], new: NDArray[np.float64]) -> Difference:
    """Kolmogorov and Smirnov's distance of two samples, the largest between their distribution functions.

    Args:
        old: float64 [N].
        new: float64 [M].
    """
    from scipy import stats

    if not len(old) or not len(new):
        return Difference(0.0, 1.0)
    found = stats.ks_2samp(old, new, method="asymp")
    return Difference(float(found.statistic), float(found.pvalue))


def shares(old: tuple[int, int], new: tuple[int, int]) -> Difference:
    """Cohen's h, how far two shares lie apart, with the p-value of Fisher's exact test.

    h = |2 asin sqrt p - 2 asin sqrt q|; 0.2 is called small, 0.5 medium, 0.8 large (Cohen, Statistical Power Analysis
    for the Behavioral Sciences, 1988, chapter 6).

    Args:
        old: how many of how many.
        new: the same of the other side.
    """
    from scipy import stats

    (some, of), (others, of_others) = old, new
    if not of or not of_others:
        return Difference(0.0, 1.0)
    h = abs(2 * math.asin(math.sqrt(some / of)) - 2 * math.asin(math.sqrt(others / of_others)))
    table = [[some, of - some], [others, of_others - others]]
    return Difference(h, float(stats.fisher_exact(table).pvalue))
