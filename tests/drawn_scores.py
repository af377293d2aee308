"""Scores of an evaluation that nobody measured."""

from typing import Any

from components.artifacts.evaluation import Confusion, Interval, Scores, SplitScores


def around(value: float, margin: float = 0.05) -> Interval:
    """A value with an interval of 0.05 either way."""
    return Interval(value=value, low=value - margin, high=value + margin)


def make_scores(auroc: float = 0.8, **scores: Any) -> Scores:
    """Scores that are the same on both splits, unless one of them is given."""
    split = SplitScores(
        auroc=around(auroc),
        average_precision=around(auroc - 0.05),
        cohen_kappa=around(auroc - 0.2),
        sensitivity=around(0.8),
        specificity=around(0.7),
        ppv=around(0.7),
        npv=around(0.8),
        f1=around(0.75),
        brier=around(0.2),
        confusion=Confusion(true_positive=40, false_positive=15, true_negative=35, false_negative=10),
        n_studies=100,
        n_abnormal=50,
        n_patients=90,
    )
    known = {"tuning": split, "test": split, "threshold": 0.5, "tuning_digest": "71" * 32, "test_digest": "7e" * 32}
    return Scores(**known | scores)
