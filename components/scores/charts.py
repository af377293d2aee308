"""Charts of an evaluation, as matplotlib figures. The same numbers give the same bytes.

No pyplot: it would keep every figure in memory. The colours are Okabe and Ito's, which people with any colour vision
tell apart. Markers and line styles tell series apart as well.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from components.artifacts.evaluation import METRIC_TITLES, Interval, SplitScores
from components.scores.curves import PrecisionRecallCurve, RocCurve

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#AA4499"
INK, GREY, PALE = "#222222", "#6E6E6E", "#D9D9D9"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, INK)
# Not as many as there are colours: so colour and marker repeat together only after 35 series.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 144

# Matplotlib's own defaults below ours: a matplotlibrc changes no chart. The backend is not a style, and not used.
STYLE: Any = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"} | {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Row:
    """One line of a forest plot."""

    label: str
    auroc: Interval
    cohen_kappa: Interval
    strong: bool = False
    """Draw a diamond: all studies, or the chosen version."""
    tuning_auroc: float | None = None
    """Draw a hollow mark too."""
    tuning_cohen_kappa: float | None = None


@mpl.rc_context(STYLE)
def roc(curve: RocCurve, scores: SplitScores) -> Figure:
    """The ROC curve with the operating point and its intervals."""
    figure = _figure(5.6, 5.6)
    axes = roc_plane(figure)
    axes.plot(curve.false_positive_rate, curve.sensitivity, color=BLUE, label=f"AUROC {scores.auroc}")
    label = f"Operating point: sensitivity {_short(scores.sensitivity)}, specificity {_short(scores.specificity)}"
    _cross(axes, (_false_positive_rate(scores), scores.sensitivity), VERMILION, "o", label)
    axes.legend(loc="lower right")
    return figure


@mpl.rc_context(STYLE)
def operating_points(versions: Mapping[str, SplitScores]) -> Figure:
    """Operating points of several models with their intervals, in the corner of the ROC plane that they reach.

    Args:
        versions: scores by the name to show.
    """
    figure = _figure(5.6, 5.9 + 0.2 * len(versions))
    axes = roc_plane(figure)
    handles = []
    for (name, scores), color, marker in zip(versions.items(), cycle(COLORS), cycle(MARKERS), strict=False):
        _cross(axes, (_false_positive_rate(scores), scores.sensitivity), color, marker, name)
        label = f"{name}: AUROC {scores.auroc}"
        handles.append(Line2D([], [], color=color, linestyle="none", marker=marker, label=label))
    _zoom_to_best_corner(axes, versions.values())
    figure.legend(handles=handles, loc="outside lower left", handlelength=3)
    return figure


@mpl.rc_context(STYLE)
def precision_recall(curve: PrecisionRecallCurve, scores: SplitScores) -> Figure:
    """The precision-recall curve as steps, with the operating point and the share of abnormal studies."""
    figure = _figure(5.6, 5.6)
    axes = figure.subplots()
    share = scores.n_abnormal / scores.n_studies
    axes.axhline(share, color=GREY, linewidth=1, linestyle=":", label=f"Everything called abnormal: {share:.3f}")
    label = f"Average precision {scores.average_precision}"
    axes.step(curve.sensitivity, curve.ppv, where="pre", color=BLUE, linewidth=1.5, label=label)
    _cross(axes, (scores.sensitivity, scores.ppv), VERMILION, "o", "Operating point")
    precision_recall_axes(axes)
    axes.legend(loc="lower left")
    return figure


def groups(overall: SplitScores, found: Mapping[str, SplitScores]) -> Figure:
    """AUROC and kappa of each group of studies with their intervals, under those of all studies."""
    rows = [
        Row(f"All ({overall.n_studies:,})", overall.auroc, overall.cohen_kappa, strong=True),
        *(Row(f"{name} ({group.n_studies:,})", group.auroc, group.cohen_kappa) for name, group in found.items()),
    ]
    # A page has several of them.
    return forest(rows, 0.3)


@mpl.rc_context(STYLE)
def forest(rows: Sequence[Row], line: float = 0.42) -> Figure:
    """AUROC and kappa side by side, one line per row, the first on top.

    Args:
        rows: what to show.
        line: height of a row, inches.
    """
    figure = _figure(9.2, 1.3 + line * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    _forest_panel(left, [(row.strong, row.auroc, row.tuning_auroc) for row in rows], 0.5)
    _forest_panel(right, [(row.strong, row.cohen_kappa, row.tuning_cohen_kappa) for row in rows], 0.0)
    left.set_title(METRIC_TITLES["auroc"])
    right.set_title(METRIC_TITLES["cohen_kappa"])
    left.set_yticks(range(len(rows)), [row.label for row in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    if any(row.tuning_auroc is not None for row in rows):
        mark: Any = {"color": BLUE, "marker": "o"}
        test = Line2D([], [], markersize=6, label="test, 95 % interval", **mark)
        tuning = Line2D([], [], markersize=5, markerfacecolor="none", linestyle="none", label="tuning", **mark)
        figure.legend(handles=[test, tuning], loc="outside lower left", ncols=2)
    return figure


@mpl.rc_context(STYLE)
def learning_curves(curves: pd.DataFrame, best_epoch: int) -> Figure:
    """Loss, tuning AUROC and learning rate by epoch.

    Args:
        curves: columns epoch, phase, learning_rate, loss, tuning_loss, tuning_auroc.
        best_epoch: its weights were kept.
    """
    figure = _figure(9.2, 3.4)
    loss, area, rate = figure.subplots(1, 3)
    # A run of one or two epochs is two dots, not a line.
    marker: Any = {"marker": ".", "markersize": 6} if len(curves) <= 40 else {}
    loss.plot(curves["epoch"], curves["loss"], color=GREY, linestyle="--", label="training", **marker)
    loss.plot(curves["epoch"], curves["tuning_loss"], color=BLUE, label="tuning", **marker)
    loss.set_title("Loss")
    loss.legend(loc="best")
    area.plot(curves["epoch"], curves["tuning_auroc"], color=BLUE, **marker)
    best = curves.loc[curves["epoch"] == best_epoch]
    kept: Any = {"color": VERMILION, "marker": "o", "linestyle": "none", "markersize": 7}
    area.plot(best["epoch"], best["tuning_auroc"], label=f"kept: epoch {best_epoch}", **kept)
    area.set_title("AUROC on tuning")
    area.legend(loc="lower right")
    rate.plot(curves["epoch"], curves["learning_rate"], color=BLUE, **marker)
    rate.set_title("Learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    # The exponent would stand on the left-aligned title.
    rate.yaxis.get_offset_text().set_position((1, 0))
    rate.yaxis.get_offset_text().set_horizontalalignment("right")
    phases = curves.groupby("phase", sort=False)["epoch"].min()
    for axes in (loss, area, rate):
        for start in list(phases)[1:]:
            axes.axvline(start - 0.5, color=GREY, linewidth=1, linestyle=":")
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.grid()
    return figure


@mpl.rc_context(STYLE)
def words(text: str) -> Figure:
    """A line of text where there is no chart."""
    figure = _figure(7.0, 1.0)
    figure.text(0.5, 0.5, text, ha="center", va="center", parse_math=False)
    return figure


@mpl.rc_context(STYLE)
def png(figure: Figure) -> bytes:
    """Encode a figure."""
    buffer = io.BytesIO()
    # matplotlib would write its version into the file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _forest_panel(axes: Axes, rows: Sequence[tuple[bool, Interval, float | None]], chance: float) -> None:
    """Draw one metric: of each row whether it is strong, its value on test and its value on tuning."""
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for y, (strong, value, tuning) in enumerate(rows):
        color, marker = (VERMILION, "D") if strong else (BLUE, "o")
        if value.too_few:
            color = GREY
        if value.low is not None and value.high is not None:
            axes.plot((value.low, value.high), (y, y), color=color, linewidth=2.2, solid_capstyle="butt")
        if value.value is not None:
            axes.plot(value.value, y, color=color, marker=marker, markersize=6, clip_on=False)
        if tuning is not None:
            axes.plot(tuning, y + 0.25, color=color, marker=marker, markersize=5, markerfacecolor="none", clip_on=False)
        weight = "bold" if strong else "normal"
        axes.text(1.03, y, str(value), transform=beside, va="center", fontsize=9, fontweight=weight)
    ends = [end for _, value, tuning in rows for end in (value.low, value.value, value.high, tuning)]
    low, high = _range([end for end in ends if end is not None], chance)
    axes.set_xlim(low, high)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if low <= chance:
        axes.axvline(chance, color=GREY, linewidth=1, linestyle=":")


def _range(ends: Sequence[float], chance: float) -> tuple[float, float]:
    """Axis limits: whole tenths around all ends, at least one tenth; from chance on if it is near."""
    ends = ends or [chance, 1.0]
    low, high = np.floor(min(ends) * 10) / 10, np.ceil(max(ends) * 10) / 10
    if 0 < low - chance < 0.15:
        low = chance
    # A perfect model has all ends at 1.
    return float(min(low, high - 0.1)), float(high)


def _false_positive_rate(scores: SplitScores) -> Interval:
    value, low, high = (
        None if end is None else 1 - end
        for end in (scores.specificity.value, scores.specificity.high, scores.specificity.low)
    )
    return Interval(value=value, low=low, high=high)


def _cross(axes: Axes, point: tuple[Interval, Interval], color: str, marker: str, label: str) -> None:
    """A point (x, y) with its intervals as arms; nothing if it is not defined."""
    x, y = point
    if x.value is None or y.value is None:
        return
    if x.low is not None and x.high is not None:
        axes.plot((x.low, x.high), (y.value, y.value), color=color, linewidth=1.4)
    if y.low is not None and y.high is not None:
        axes.plot((x.value, x.value), (y.low, y.high), color=color, linewidth=1.4)
    mark: Any = {"markersize": 8, "markeredgecolor": "white", "linestyle": "none", "zorder": 3}
    axes.plot(x.value, y.value, color=color, marker=marker, label=label, **mark)


def _short(value: Interval) -> str:
    return "n/a" if value.value is None else f"{value.value:.3f}{' (too few)' if value.too_few else ''}"


def _zoom_to_best_corner(axes: Axes, scores: Iterable[SplitScores]) -> None:
    lowest = [
        end for s in scores for x in (s.sensitivity, s.specificity) for end in (x.low, x.value) if end is not None
    ]
    corner = min(np.floor(min(lowest, default=0) * 10) / 10, 0.9)
    if corner > 0.05:
        margin = 0.01 * (1 - corner)
        ticks = np.linspace(0, 1 - corner, round((1 - corner) * 10) + 1)
        axes.set_xticks(ticks)
        axes.set_yticks(corner + ticks)
        axes.set(xlim=(-margin, 1 - corner + margin), ylim=(corner - margin, 1 + margin))


def roc_plane(figure: Figure) -> Axes:
    """The axes of a ROC curve."""
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=":")
    _unit_axes(axes, "False-positive rate (1 - specificity)", "Sensitivity")
    return axes


def precision_recall_axes(axes: Axes) -> None:
    """Make axes those of a precision-recall curve."""
    _unit_axes(axes, "Recall: share of abnormal studies found", "Precision: share of called studies that is abnormal")


def _unit_axes(axes: Axes, x: str, y: str) -> None:
    # A little beyond the unit square: a curve along its edge would be cut in half.
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_box_aspect(1)
    axes.grid()


def _figure(width: float, height: float) -> Figure:
    """A figure of so many inches that makes room for its labels."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")
