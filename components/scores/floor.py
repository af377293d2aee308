"""What can be known without looking at the bones.

A logistic regression on body part, number of views and picture size is fitted on the training studies, and measured
as a model is. It is the floor under a model: one that is not better has learned nothing else from its pictures. A floor
far above an AUROC of 0.5 shows a leak: what should not tell the label does.

Size is the logarithm of width and of height as the archive has them, the mean over the views. The mode of the PNG is
not looked at. The estimates are Firth's (logistic.py), so they are finite where a body part has one label only.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import pandas as pd

from components.artifacts.evaluation import FloorScores
from components.artifacts.manifest import TRAIN
from components.scores import logistic, metrics, paired
from components.scores.studies import Array, Studies, sigmoid

MEASURES = ("views", "width", "height")
DEPENDENT = 1e-6
"""Share of its length that a column must have beside the others; with less it says what they say already."""


class Floor(NamedTuple):
    """A fitted regression, in logits."""

    body_part: dict[str, float]
    """The intercept of each body part that training has."""
    pooled: float
    """Their mean over the training studies: for a body part that training does not have."""
    slopes: Array
    """float64 [3], of `MEASURES`; 0 where training says nothing of one."""


def by_study(images: pd.DataFrame) -> "pd.Series[float]":
    """The probability that each study is abnormal, by what training shows without its pictures.

    Args:
        images: rows of a manifest, with the training split.

    Returns:
        float64, by study, ascending; of every split.

    Raises:
        ValueError: there is no training study.
    """
    studies = _studies(images)
    trained = studies[studies["split"] == TRAIN]
    if trained.empty:
        raise ValueError("expected training studies to fit the floor on, got none.")
    found = fit(trained)
    intercept = studies["body_part"].map(found.body_part).fillna(found.pooled).to_numpy(np.float64)
    return pd.Series(sigmoid(intercept + _measures(studies) @ found.slopes), studies.index)


def fit(studies: pd.DataFrame) -> Floor:
    """Fit the regression.

    Args:
        studies: one row per study, with `body_part`, `abnormal` and `MEASURES`.
    """
    parts, index = np.unique(studies["body_part"].to_numpy().astype(str), return_inverse=True)
    measures, centre = _measures(studies), _measures(studies).mean(axis=0)
    columns = [np.eye(len(parts))[index]]
    kept = []
    for place in range(len(MEASURES)):
        column = (measures[:, place] - centre[place])[:, None]
        others = np.concatenate(columns, axis=1)
        beside = column - others @ np.linalg.lstsq(others, column)[0]
        # Pictures of one size, or of one shape, give columns that the fit could not tell apart.
        if np.linalg.norm(beside) > DEPENDENT * np.linalg.norm(measures[:, place]):
            columns.append(column)
            kept.append(place)
    design = np.concatenate(columns, axis=1)
    found = logistic.coefficients(design, np.zeros(len(design)), studies["abnormal"].to_numpy(np.int64))
    slopes = np.zeros(len(MEASURES))
    slopes[kept] = found[len(parts) :]
    intercepts = found[: len(parts)] - centre @ slopes
    pooled = float(intercepts @ np.bincount(index) / len(index))
    return Floor(dict(zip(parts.tolist(), intercepts.tolist(), strict=True)), pooled, slopes)


def compare(model: Studies, probability: Array, thresholds: tuple[float, float]) -> FloorScores:
    """Measure the floor, and what a model has more.

    Args:
        model: studies with the probabilities of the model.
        probability: float64 [S], those of the floor for the same studies.
        thresholds: of the model and of the floor.
    """
    floor = dataclasses.replace(model, probability=probability)
    own = metrics.score(floor, thresholds[1])
    gain = paired.difference(model, floor, thresholds)
    return FloorScores(
        auroc=own.auroc,
        cohen_kappa=own.cohen_kappa,
        auroc_gain=gain["auroc"],
        cohen_kappa_gain=gain["cohen_kappa"],
    )


def _studies(images: pd.DataFrame) -> pd.DataFrame:
    """One row per study, ascending: split, body_part, abnormal, views, and the mean logarithms of width and height."""
    # Float addition is not associative: the order of rows must not matter.
    rows = images.sort_values("image")
    sizes = {name: np.log(rows[name].to_numpy(np.float64)) for name in ("width", "height")}
    grouped = rows[["study", "split", "body_part", "abnormal"]].assign(**sizes).groupby("study", sort=True)
    found = grouped.agg(
        split=("split", "first"), body_part=("body_part", "first"), abnormal=("abnormal", "first"),
        views=("split", "size"), width=("width", "mean"), height=("height", "mean"),
    )  # fmt: skip
    return pd.DataFrame(found)


def _measures(studies: pd.DataFrame) -> Array:
    return studies[list(MEASURES)].to_numpy(np.float64)
