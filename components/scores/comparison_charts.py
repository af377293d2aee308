"""Charts of several models: curves with a band, differences, calibration, body parts, learning curves.

A model has one colour, line and marker in all of them: those of its place in the order given.
"""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from components.artifacts.evaluation import METRIC_TITLES, Interval, Reliability
from components.scores import charts
from components.scores.bands import Band
from components.scores.curves import CalibrationCurve
from components.scores.studies import Array

LINES = ("-", "--", "-.", ":")
WIDEST = 9.2
"""Of a chart, inches."""
LETTERS = 30
"""Of a line over a small chart."""


class Curve(NamedTuple):
    """A model's line in a plane."""

    label: str
    x: Array
    y: Array
    point: tuple[float | None, float | None]
    """The operating point."""
    band: Band | None = None


class Change(NamedTuple):
    """A line of a chart of differences."""

    label: str
    tuning: Mapping[str, Interval] | None
    """By metric; None if there is none."""
    test: Mapping[str, Interval] | None


class Epochs(NamedTuple):
    """How a network learned."""

    label: str
    curves: pd.DataFrame
    """Columns epoch and tuning_auroc."""
    best: int
    """The epoch that was kept."""


class Dots(NamedTuple):
    """The calibration of a model."""

    label: str
    curve: CalibrationCurve
    measured: Reliability


def look(number: int) -> dict[str, Any]:
    """Colour, line and marker of the model at a place."""
    colors, markers = charts.COLORS, charts.MARKERS
    return {
        "color": colors[number % len(colors)],
        "linestyle": LINES[number % len(LINES)],
        "marker": markers[number % len(markers)],
    }


@mpl.rc_context(charts.STYLE)
def roc_curves(curves: Sequence[Curve]) -> Figure:
    """ROC curves with operating points, and the bands that there are."""
    figure = _plane(curves)
    axes = charts.roc_plane(figure)
    _draw_curves(figure, axes, curves, "default", METRIC_TITLES["auroc"])
    return figure


@mpl.rc_context(charts.STYLE)
def precision_recall_curves(curves: Sequence[Curve], share: float) -> Figure:
    """Precision-recall curves as steps, with operating points, and the bands that there are.

    Args:
        curves: of the models.
        share: of abnormal studies.
    """
    figure = _plane(curves)
    axes = figure.subplots()
    axes.axhline(share, color=charts.GREY, linewidth=1, linestyle=":")
    charts.precision_recall_axes(axes)
    _draw_curves(figure, axes, curves, "steps-pre", METRIC_TITLES["average_precision"])
    return figure


@mpl.rc_context(charts.STYLE)
def differences(rows: Sequence[Change], metrics: Sequence[str]) -> Figure:
    """Differences on both splits, a panel for each metric, the first row on top.

    Args:
        rows: of the models.
        metrics: their names.
    """
    figure = _figure(WIDEST, 1.5 + 0.5 * len(rows))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, metrics, strict=True):
        axes.axvline(0, color=charts.INK, linewidth=1, linestyle=":")
        for y, row in enumerate(rows):
            for found, place, style in ((row.tuning, y - 0.15, _ON_TUNING), (row.test, y + 0.15, _ON_TEST)):
                if found is not None:
                    _draw_interval(axes, found[name], place, style)
        axes.set_title(METRIC_TITLES[name])
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    panels[0].set_yticks(range(len(rows)), [row.label for row in rows])
    panels[0].set_ylim(len(rows) - 0.45, -0.55)
    figure.legend(handles=_legend(), loc="outside lower left", ncols=3)
    return figure


@mpl.rc_context(charts.STYLE)
def reliabilities(models: Sequence[Dots]) -> Figure:
    """Predicted probability against the observed share, a small chart for each model."""
    columns = len(models) if len(models) <= 4 else 3
    rows = math.ceil(len(models) / columns)
    side = min(WIDEST / columns, 4.0)
    figure = _figure(side * columns, (side + 0.4) * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(grid.ravel()):
        if number >= len(models):
            axes.set_visible(False)
            continue
        label, curve, measured = models[number]
        axes.plot((0, 1), (0, 1), color=charts.GREY, linewidth=1, linestyle=":")
        errors = (curve.abnormal_share - curve.low, curve.high - curve.abnormal_share)
        style = look(number) | {"linestyle": "-", "linewidth": 1.2, "elinewidth": 1.2, "markersize": 5, "capsize": 2}
        axes.errorbar(curve.mean_probability, curve.abnormal_share, yerr=errors, **style)
        error = f"error {measured.expected_error:.3f}, by chance {measured.expected_error_by_chance:.3f}"
        axes.set_title(f"{fill(label, LETTERS)}\n{error}", fontsize=8.5)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
        axes.set_xticks((0, 0.5, 1))
        axes.set_yticks((0, 0.5, 1))
        axes.set_box_aspect(1)
        axes.grid()
    figure.supxlabel("Predicted probability of abnormality", fontsize=10)
    figure.supylabel("Share that is abnormal", fontsize=10)
    return figure


@mpl.rc_context(charts.STYLE)
def body_parts(parts: Mapping[str, Sequence[tuple[Interval, Interval]]], labels: Sequence[str]) -> Figure:
    """AUROC and kappa of every model in each body part.

    Args:
        parts: of each model in order, AUROC and kappa, by the name of the part to show.
        labels: of the models.
    """
    step = 0.8 / max(len(labels), 2)
    figure = _figure(WIDEST, 1.1 + 0.2 * math.ceil(len(labels) / 3) + len(parts) * max(0.4, 0.17 * len(labels)))
    panels = figure.subplots(1, 2, sharey=True)
    for place, (axes, name, chance) in enumerate(zip(panels, ("auroc", "cohen_kappa"), (0.5, 0.0), strict=True)):
        for row, models in enumerate(parts.values()):
            if row % 2:
                axes.axhspan(row - 0.5, row + 0.5, color="#F2F4F6", linewidth=0, zorder=0)
            for number, values in enumerate(models):
                style = look(number) | {"linestyle": "-", "markersize": 4.5, "linewidth": 1.4}
                _draw_interval(axes, values[place], row + step * (number - (len(labels) - 1) / 2), style)
        axes.axvline(chance, color=charts.GREY, linewidth=1, linestyle=":")
        axes.set_title(METRIC_TITLES[name])
        axes.margins(x=0.04)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    panels[0].set_yticks(range(len(parts)), list(parts))
    panels[0].set_ylim(len(parts) - 0.5, -0.5)
    handles = [Line2D([], [], label=label, **(look(number) | {"linestyle": "-", "markersize": 5}))
               for number, label in enumerate(labels)]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


@mpl.rc_context(charts.STYLE)
def learning_curves(models: Sequence[tuple[int, Epochs]]) -> Figure:
    """Tuning AUROC by epoch of several networks; a large mark is the epoch that was kept.

    Args:
        models: each with its place in the order of all, which gives its look.
    """
    figure = _figure(7.2, 4.2 + 0.2 * math.ceil(len(models) / 2))
    axes = figure.subplots()
    handles = []
    for number, (label, curves, best) in models:
        style = look(number)
        handles += axes.plot(
            curves["epoch"], curves["tuning_auroc"], label=label, **(style | {"markersize": 3.5, "linewidth": 1.4})
        )
        kept = curves.loc[curves["epoch"] == best]
        large = style | {"linestyle": "none", "markersize": 10, "markerfacecolor": "none", "markeredgewidth": 1.8}
        axes.plot(kept["epoch"], kept["tuning_auroc"], **large)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("AUROC on tuning")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.grid()
    figure.legend(handles=handles, loc="outside lower left", ncols=2, handlelength=3)
    return figure


_ON_TUNING: Any = {"color": charts.GREY, "marker": "o", "markerfacecolor": "white", "linestyle": "-", "linewidth": 1.4}
_ON_TEST: Any = {"color": charts.BLUE, "marker": "s", "linestyle": "-", "linewidth": 2.2}


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], markersize=6, label="tuning, which ranks", **_ON_TUNING),
        Line2D([], [], markersize=6, label="test", **_ON_TEST),
    ]


def _draw_interval(axes: Axes, value: Interval, place: float, style: Mapping[str, Any]) -> None:
    """A value with its interval as a line; a cross where there are too few patients for one."""
    if value.value is None:
        return
    if value.low is None or value.high is None:
        axes.plot(value.value, place, color=charts.GREY, marker="x", markersize=5, linestyle="none")
        return
    mark = {"markersize": 6} | {name: each for name, each in style.items() if name != "linestyle"}
    line = {name: style[name] for name in ("color", "linestyle", "linewidth")}
    axes.plot((value.low, value.high), (place, place), solid_capstyle="butt", **line)
    axes.plot(value.value, place, linestyle="none", **mark)


def _draw_curves(figure: Figure, axes: Axes, curves: Sequence[Curve], drawstyle: str, title: str) -> None:
    handles: list[Line2D | Patch] = []
    for number, (label, x, y, point, band) in enumerate(curves):
        style = look(number)
        line = {name: style[name] for name in ("color", "linestyle")}
        if band is not None:
            axes.fill_between(band.x, band.low, band.high, color=style["color"], alpha=0.16, linewidth=0)
            for edge in (band.low, band.high):
                axes.plot(band.x, edge, color=style["color"], linewidth=0.7)
        axes.plot(x, y, linewidth=1.6, drawstyle=drawstyle, **line)
        across, up = point
        if across is not None and up is not None:
            axes.plot(across, up, marker=style["marker"], color=style["color"], markersize=8, markeredgecolor="white")
        handles.append(Line2D([], [], label=label, linewidth=1.6, markersize=6, **style))
        if band is not None:
            handles.append(Patch(color=style["color"], alpha=0.16, label="its pointwise 95 % band"))
    figure.legend(handles=handles, title=title, alignment="left", loc="lower left", handlelength=3.4)


def _plane(curves: Sequence[Curve]) -> Figure:
    """A figure for a square of 4.7 inches over the legend of the curves.

    Its measures are known, and a layout that looks for them takes a third of the time of drawing.
    """
    lines = 1 + len(curves) + sum(curve.band is not None for curve in curves)
    width, side, left, top, legend = 5.6, 4.7, 0.72, 0.15, 0.2 * lines + 0.75
    height = legend + side + top
    figure = Figure(figsize=(width, height), dpi=charts.DPI)
    figure.subplots_adjust(left=left / width, right=(left + side) / width, bottom=legend / height, top=1 - top / height)
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=charts.DPI, layout="constrained")
