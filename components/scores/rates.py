"""Rates of a two-by-two table: what follows from the counts at an operating point."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Counts(NamedTuple):
    """Studies at an operating point, whole numbers or arrays of them; positive means abnormal."""

    tp: Any
    fp: Any
    tn: Any
    fn: Any


Rate = Callable[[Counts], tuple[Any, Any]]
"""Numerator and denominator. Both are polynomials of one degree, 1 or 2."""

# 0 / 0 is not defined.
# Kappa is (observed - chance) / (1 - chance) agreement (Cohen 1960), both times the squared number of studies.
RATES: Mapping[str, Rate] = {
    "cohen_kappa": lambda n: (
        2 * (n.tp * n.tn - n.fp * n.fn),
        (n.tp + n.fp) * (n.fp + n.tn) + (n.tp + n.fn) * (n.fn + n.tn),
    ),
    "sensitivity": lambda n: (n.tp, n.tp + n.fn),
    "specificity": lambda n: (n.tn, n.tn + n.fp),
    "ppv": lambda n: (n.tp, n.tp + n.fp),
    "npv": lambda n: (n.tn, n.tn + n.fn),
    "f1": lambda n: (2 * n.tp, 2 * n.tp + n.fp + n.fn),
    "accuracy": lambda n: (n.tp + n.tn, n.tp + n.fp + n.tn + n.fn),
}
SHARES = ("sensitivity", "specificity", "ppv", "npv")
"""Rates that are a share of some of the studies."""
