"""The chart of the drops."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.artifacts.evaluation import Interval
from components.scores import charts

# From the weakest strength to the strongest.
COLORS = (charts.GREEN, charts.BLUE, charts.PURPLE, charts.VERMILION)
MARKERS = ("o", "s", "^", "D")


class Bar(NamedTuple):
    """A disturbance at one strength."""

    group: str
    """The disturbance. Bars of one group follow each other, the weakest strength first."""
    label: str
    auroc_drop: Interval
    cohen_kappa_drop: Interval


@mpl.rc_context(charts.STYLE)
def drops(bars: Sequence[Bar]) -> Figure:
    """AUROC and kappa side by side: a line for each disturbance and strength, in the order given, the first on top."""
    figure = Figure(figsize=(9.2, 1.1 + 0.27 * len(bars)), dpi=charts.DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = _places(bars)
    _panel(left, places, [bar.auroc_drop for bar in bars])
    _panel(right, places, [bar.cohen_kappa_drop for bar in bars])
    left.set_title("Drop of AUROC")
    right.set_title("Drop of Cohen's kappa")
    left.set_yticks([place for place, _ in places], [bar.label for bar in bars])
    left.set_ylim(places[-1][0] + 0.7, -0.7)
    return figure


def _places(bars: Sequence[Bar]) -> list[tuple[float, int]]:
    """Of each bar its height, with a gap before each group, and its number in the group."""
    found, height = [], 0.0
    for _, group in groupby(bars, key=lambda bar: bar.group):
        for number, _ in enumerate(group):
            found.append((height, number))
            height += 1
        height += 0.5
    return found


def _panel(axes: Axes, places: Sequence[tuple[float, int]], values: Sequence[Interval]) -> None:
    axes.axvline(0, color=charts.GREY, linewidth=1, linestyle=":")
    for (height, number), value in zip(places, values, strict=True):
        look: Any = {"color": COLORS[min(number, len(COLORS) - 1)]}
        if value.low is not None and value.high is not None:
            axes.plot((value.low, value.high), (height, height), linewidth=2, solid_capstyle="butt", **look)
        if value.value is not None:
            axes.plot(value.value, height, marker=MARKERS[min(number, len(MARKERS) - 1)], markersize=5.5, **look)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Undisturbed minus disturbed; right is worse")
