"""Charts of candidates side by side, of the tuning or of the test split."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from components.artifacts.evaluation import Scores
from components.artifacts.manifest import TEST
from components.scores import charts


class Candidate(NamedTuple):
    """A model as the charts show it."""

    label: str
    scores: Scores
    strong: bool = False
    """Whether it is marked: the chosen one."""


def forest(candidates: Sequence[Candidate], split: str) -> Figure:
    """AUROC and kappa of each candidate, one line each, the first on top.

    Args:
        candidates: in the order to show.
        split: `tuning`, or `test`: then a hollow mark is the value on tuning.
    """
    rows = []
    for each in candidates:
        scores, tuning = each.scores.of(split), each.scores.tuning
        marks = (tuning.auroc.value, tuning.cohen_kappa.value) if split == TEST else (None, None)
        rows.append(charts.Row(each.label, scores.auroc, scores.cohen_kappa, each.strong, *marks))
    return charts.forest(rows)


def operating_points(candidates: Sequence[Candidate], split: str) -> Figure:
    """The threshold of each candidate, in the plane of a ROC curve.

    Args:
        candidates: in the order to show.
        split: `tuning` or `test`.
    """
    return charts.operating_points({each.label: each.scores.of(split) for each in candidates})
