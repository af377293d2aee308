"""The part of a page that is about groups of studies. Its template, subgroups.html, takes `subgroups`."""

from collections.abc import Mapping
from typing import NamedTuple

from markupsafe import Markup

from components.artifacts.evaluation import Groups, SplitScores
from components.pages.render import picture
from components.scores import charts
from components.scores.slices import SLICES


class Subgroups(NamedTuple):
    """What subgroups.html shows of a slice."""

    title: str
    column: str
    """That the data must have for it."""
    groups: Groups
    chart: Markup | None
    """None where there is nothing to compare."""


def draw_subgroups(overall: SplitScores, slices: Mapping[str, Groups]) -> dict[str, bytes]:
    """Draw the chart of each slice that has two groups or more, PNG.

    Args:
        overall: of all studies of the split.
        slices: the groups of the split, by slice.
    """
    return {name: charts.png(charts.groups(overall, found)) for name, found in slices.items() if len(found) > 1}


def subgroups(slices: Mapping[str, Groups], figures: Mapping[str, bytes]) -> list[Subgroups]:
    """Say what is to be shown.

    Args:
        slices: the groups of the split, by slice.
        figures: the charts of `draw_subgroups`.
    """
    shown = []
    for name, found in slices.items():
        known = SLICES[name]
        said = f"AUROC and Cohen's kappa by {known.title[0].lower()}{known.title[1:]}, with 95 % intervals"
        chart = picture(figures[name], said) if name in figures else None
        shown.append(Subgroups(known.title, known.column, found, chart))
    return shown
