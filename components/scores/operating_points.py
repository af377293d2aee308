"""The thresholds at which a model is measured. They are chosen on tuning and frozen."""

from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from components.params.protocol import OperatingPoint
from components.scores.rates import RATES, Counts
from components.scores.studies import Ranking

HALF = 0.5
NAMES: tuple[OperatingPoint, ...] = get_args(OperatingPoint)


def choose_threshold(abnormal: ArrayLike, probability: ArrayLike, rule: OperatingPoint, target: float) -> float:
    """Choose the threshold by a rule.

    A threshold lies midway between two neighbouring scores, or midway between the lowest score and 0. So the last bit
    of a score decides nothing. Of several equally good thresholds the lowest is chosen: it misses the fewest abnormal
    studies. With a model that ranks at random or worse, everything is called abnormal.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        rule: `kappa`, highest Cohen's kappa; `sensitivity`, the highest threshold whose sensitivity is at least
            `target`; `half`, 0.5 whatever the studies are: abnormal is what is more probable than not.
        target: for `sensitivity`.

    Raises:
        ValueError: there is only one class, and the rule looks at the studies.
    """
    if rule == "half":
        return HALF
    ranking = Ranking.of(abnormal, probability)
    tp, fp = (counts[0] for counts in ranking.cumulative(np.ones((1, len(ranking.order)))))
    positive, negative = tp[-1], fp[-1]
    if not (positive and negative):
        raise ValueError(
            f"expected abnormal and normal studies to choose a threshold by {rule}, got {int(positive)} abnormal and "
            f"{int(negative)} normal."
        )
    if rule == "sensitivity":
        chosen = int(np.argmax(tp / positive >= target))
    else:
        # Quotients of whole numbers are rounded correctly, so what is equal compares equal.
        numerator, denominator = RATES["cohen_kappa"](Counts(tp, fp, negative - fp, positive - tp))
        merit = numerator / denominator
        chosen = len(merit) - 1 - int(np.argmax(merit[::-1]))
    upper = float(ranking.score[chosen])
    lower = float(ranking.score[chosen + 1]) if chosen + 1 < len(ranking.score) else 0.0
    middle = lower + (upper - lower) / 2
    # There is no float between neighbours; `>=` then wants the upper one.
    return middle if middle > lower else upper
