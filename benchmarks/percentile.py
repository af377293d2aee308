"""The percentile bootstrap over patients, which the intervals of the program are compared with.

Patients are drawn with replacement, each with all its studies (Field & Welsh 2007). The interval holds the middle 95 %
of the draws. Most papers use it. It cannot see past the edge: if all studies are right, they are in every draw.
"""

from typing import Any

import numpy as np

from components.scores.rates import RATES, Counts
from components.scores.studies import Ranking, area_under_roc, ratio

# Draws x studies at once: 8 MiB per float64 array.
CHUNK = 2**20
RATES_SHOWN = ("cohen_kappa", "sensitivity", "specificity", "ppv", "npv", "f1")


def intervals(
    abnormal: Any, probability: Any, patient: Any, threshold: float, draws: int, random: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Low and high by metric; NaN where more than half of the draws are not defined.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        patient: int [S].
        threshold: `probability >= threshold` is called abnormal.
        draws: of patients.
        random: draws them.
    """
    patients, index = np.unique(patient, return_inverse=True)
    ranking = Ranking.of(abnormal, probability)
    called = probability >= threshold
    cells = [called & (abnormal == 1), called & (abnormal == 0), ~called & (abnormal == 0), ~called & (abnormal == 1)]
    table = np.stack([*cells, (probability - abnormal) ** 2], axis=1).astype(np.float64)
    drawn: dict[str, list[Any]] = {}
    while draws:
        now = min(draws, max(1, CHUNK // len(index)))
        counts = random.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=now)
        for name, values in _metrics(ranking, table, counts[:, index].astype(np.float64)).items():
            drawn.setdefault(name, []).append(values)
        draws -= now
    return {name: _middle(np.concatenate(values)) for name, values in drawn.items()}


def _metrics(ranking: Ranking, table: Any, weight: Any) -> dict[str, Any]:
    """Every metric of each draw, float64 [D]; `weight` says how often each study occurs, float64 [D, S]."""
    true, false = ranking.cumulative(weight)
    *counts, error = (weight @ table).T
    rates = {name: ratio(*RATES[name](Counts(*counts))) for name in RATES_SHOWN}
    called = true + false
    precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
    average = ratio(np.sum(np.diff(true, axis=1, prepend=0) * precision, axis=1), true[:, -1])
    brier = ratio(error, weight.sum(axis=1))
    return {"auroc": area_under_roc(true, false), "average_precision": average, **rates, "brier": brier}


def _middle(values: Any) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if 2 * len(defined) < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)
