"""Studies measured apart: by body part, number of views and whatever else a table of studies knows.

A slice is a line of `SLICES` and a name in `components.params.protocol.Slice`. A column that it needs of the manifest
is carried along by `evaluate` (`CARRIED`); where the manifest has no such column, the slice has no group.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from components.artifacts.evaluation import Groups, SplitScores
from components.artifacts.manifest import BODY_PARTS
from components.base.words import in_words
from components.params.protocol import Slice
from components.scores.studies import Array, Studies

MIXED, UNKNOWN = "mixed", "unknown"
MOST_VIEWS = 4
"""Studies with more views are one group with those of so many."""


class Grouping(NamedTuple):
    """How studies are divided."""

    title: str
    """As people write it."""
    column: str
    """Of the table of studies; without it nothing is known."""
    group: Callable[[pd.DataFrame], Array]
    """The group of each study, str [S]."""
    order: tuple[str, ...] = ()
    """Of the groups. Others follow, ascending."""
    carried: bool = False
    """Whether `column` is the manifest's, and reaches the studies by the predictions."""
    joined: bool = False
    """Whether a study with images of several values is in the group of them all, `AP and LATERAL`, not in `mixed`."""


def _column(name: str) -> Callable[[pd.DataFrame], Array]:
    return lambda studies: studies[name].to_numpy()


def _views(studies: pd.DataFrame) -> Array:
    views = studies["views"].to_numpy(np.int64)
    return np.where(views < MOST_VIEWS, views.astype(str), f"{MOST_VIEWS} or more")


def _opinion(studies: pd.DataFrame) -> Array:
    overlay = studies["overlay"].astype("Int64")
    confirmed = (overlay == studies["abnormal"]).fillna(value=False).astype(bool)
    return np.where(overlay.isna(), "none", np.where(confirmed, "confirmed", "changed"))


SLICES: Mapping[str, Grouping] = {
    "body_part": Grouping("Body part", "body_part", _column("body_part"), BODY_PARTS),
    "views": Grouping("Number of views", "views", _views),
    "mode": Grouping("PNG mode", "mode", _column("mode"), ("L", "RGB"), carried=True),
    "second_opinion": Grouping("Second opinion on the label", "overlay", _opinion, ("changed", "confirmed", "none")),
    "view_position": Grouping("View positions", "view_position", _column("view_position"), carried=True, joined=True),
    "manufacturer": Grouping("Manufacturer", "manufacturer", _column("manufacturer"), carried=True),
    "sex": Grouping("Sex", "sex", _column("sex"), ("female", "male"), carried=True),
    "age": Grouping("Age in years", "age", _column("age"), carried=True),
}
CARRIED = tuple(each.column for each in SLICES.values() if each.carried)
"""Columns that predictions have of the manifest, where it has them."""


_JOINED = {each.column for each in SLICES.values() if each.joined}
MOST_JOINED = 3
"""Values in words. A study with more is `mixed`."""


def of_studies(images: pd.DataFrame, studies: Sequence[str]) -> dict[str, Array]:
    """What the images of each study say in the carried columns that there are.

    Args:
        images: one row per image, with `study`.
        studies: in the order wanted.

    Returns:
        By column, str [S]: the value of all images of a study, `mixed` where they differ, `unknown` where none has one.
        In a joined column all its values in words, and those that are not known do not count.
    """
    found = {}
    for column in (name for name in CARRIED if name in images):
        values = images[column].astype(object).where(images[column].notna(), UNKNOWN).astype(str)
        grouped = values.groupby(images["study"].astype(str))
        if column in _JOINED:
            said = grouped.agg(_in_words)
        else:
            said = grouped.min().mask(grouped.min() != grouped.max(), MIXED)
        found[column] = said.loc[list(studies)].to_numpy().astype(str)
    return found


def _in_words(values: "pd.Series[str]") -> str:
    known = sorted(set(values) - {UNKNOWN})
    return MIXED if len(known) > MOST_JOINED else in_words(known) if known else UNKNOWN


def measure(
    names: Sequence[Slice], table: pd.DataFrame, studies: Studies, score: Callable[[Studies], SplitScores]
) -> dict[str, Groups]:
    """Measure the groups of each slice.

    Args:
        names: of the slices.
        table: one row per study, as an Evaluation has it.
        studies: the same studies, in the same order.
        score: measures the studies of a group.

    Returns:
        By slice and group. A slice whose column is not there has no group.
    """
    return {name: _groups(SLICES[name], table, studies, score) for name in names}


def _groups(
    slice_: Grouping, table: pd.DataFrame, studies: Studies, score: Callable[[Studies], SplitScores]
) -> dict[str, SplitScores]:
    if slice_.column not in table:
        return {}
    words = slice_.group(table).astype(str)
    found = sorted(set(words.tolist()) - set(slice_.order))
    return {group: score(studies.where(words == group)) for group in (*slice_.order, *found) if group in words}
