"""Pictures of an evaluation, as PNG bytes: same numbers, same bytes.

Figures are made without pyplot, which would keep them all. The colours are Okabe and Ito's, which people with
any colour vision tell apart; shapes and line styles say the same once more.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from components.artifacts.evaluation import Interval, SplitScores
from components.scores.metrics import CalibrationCurve, PrecisionRecallCurve, RocCurve

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#AA4499"
INK, GREY, PALE = "#222222", "#6E6E6E", "#D9D9D9"
LINES: tuple[tuple[str, Any, str], ...] = (
    (BLUE, "-", "o"),
    (VERMILION, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, (0, (1, 1.2)), "D"),
    (INK, (0, (6, 1, 1, 1, 1, 1)), "v"),
)
DPI = 144

STYLE: Any = {
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
    """Drawn as a filled diamond: the whole, or the chosen one."""
    tuning_auroc: float | None = None
    """Drawn as a hollow mark, if given."""
    tuning_cohen_kappa: float | None = None


def roc(curve: RocCurve, scores: SplitScores) -> bytes:
    """The ROC curve with the operating point and its intervals."""
    with _style():
        figure, axes = _square()
        _chance(axes)
        axes.plot(curve.false_positive_rate, curve.sensitivity, color=BLUE, label=f"AUROC {scores.auroc}")
        _operating_point(axes, scores, VERMILION, "o", f"Operating point: {_point(scores)}")
        _roc_axes(axes)
        axes.legend(loc="lower right")
        return _png(figure)


def roc_overlay(candidates: Mapping[str, SplitScores], curves: Mapping[str, RocCurve]) -> bytes:
    """Operating points of several models, with their intervals, in one ROC plane.

    Without a curve only the best corner is shown, as far as the points reach.

    Args:
        candidates: scores by the name to show.
        curves: for any of these names, the curve to draw as well.
    """
    from matplotlib.lines import Line2D

    with _style():
        figure = _figure(5.6, 5.6 + 0.3 + 0.2 * len(candidates))
        axes = figure.subplots()
        _chance(axes)
        handles = []
        for (name, scores), (color, line, marker) in zip(candidates.items(), cycle(LINES), strict=False):
            if name in curves:
                curve = curves[name]
                axes.plot(curve.false_positive_rate, curve.sensitivity, color=color, linestyle=line, linewidth=1.5)
            _operating_point(axes, scores, color, marker, "")
            shown: Any = line if name in curves else "none"
            label = f"{name}: AUROC {scores.auroc}"
            handles.append(Line2D([], [], color=color, linestyle=shown, marker=marker, linewidth=1.5, label=label))
        _roc_axes(axes)
        if not curves:
            _zoom_to_best_corner(axes, candidates.values())
        figure.legend(handles=handles, loc="outside lower left", handlelength=3)
        return _png(figure)


def precision_recall(curve: PrecisionRecallCurve, scores: SplitScores) -> bytes:
    """The precision-recall curve as steps, with the operating point and the share that is abnormal."""
    with _style():
        figure, axes = _square()
        share = scores.n_abnormal / scores.n_studies
        axes.axhline(share, color=GREY, linewidth=1, linestyle=":", label=f"Everything called abnormal: {share:.3f}")
        axes.step(
            curve.sensitivity,
            curve.ppv,
            where="pre",
            color=BLUE,
            linewidth=1.5,
            label=f"Average precision {scores.average_precision}",
        )
        _cross(axes, scores.sensitivity, scores.ppv, VERMILION, "o", "Operating point")
        _unit_axes(
            axes, "Recall: share of abnormal studies found", "Precision: share of called studies that is abnormal"
        )
        axes.legend(loc="lower left")
        return _png(figure)


def calibration(curve: CalibrationCurve, scores: SplitScores) -> bytes:
    """Predicted probability against the observed share, over a histogram of the predictions."""
    with _style():
        figure = _figure(5.6, 6.2)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1.1))
        upper.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=":", label="Perfect calibration")
        upper.errorbar(
            curve.mean_probability,
            curve.abnormal_share,
            yerr=(curve.abnormal_share - curve.low, curve.high - curve.abnormal_share),
            color=BLUE,
            marker="o",
            markersize=6,
            linewidth=1.2,
            elinewidth=1.4,
            capsize=3,
            label=f"Expected calibration error {curve.expected_error:.3f}\nBrier score {scores.brier}",
        )
        _unit_axes(upper, "", "Share of studies that is abnormal")
        upper.set_box_aspect(None)
        upper.legend(loc="upper left")
        lower.bar(
            curve.lower, curve.studies, width=curve.upper - curve.lower, align="edge", color=BLUE, edgecolor="white"
        )
        for left, right, count in zip(curve.lower, curve.upper, curve.studies, strict=True):
            lower.annotate(
                f"{count:,}",
                ((left + right) / 2, count),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=GREY,
            )
        lower.margins(y=0.25)
        lower.set_xlabel("Predicted probability of abnormality")
        lower.set_ylabel("Studies")
        return _png(figure)


def body_parts(overall: SplitScores, parts: Mapping[str, SplitScores]) -> bytes:
    """AUROC and kappa of each body part with their intervals, under those of all studies."""
    rows = [
        Row(f"All ({overall.n_studies:,})", overall.auroc, overall.cohen_kappa, strong=True),
        *(Row(f"{name} ({part.n_studies:,})", part.auroc, part.cohen_kappa) for name, part in parts.items()),
    ]
    return forest(rows)


def forest(rows: Sequence[Row]) -> bytes:
    """AUROC and kappa side by side, one line per row, the first on top."""
    with _style():
        figure = _figure(9.2, 1.3 + 0.42 * len(rows))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, title, values, tuning, chance in (
            (panels[0], "AUROC", [r.auroc for r in rows], [r.tuning_auroc for r in rows], 0.5),
            (panels[1], "Cohen's kappa", [r.cohen_kappa for r in rows], [r.tuning_cohen_kappa for r in rows], 0.0),
        ):
            _forest_panel(axes, rows, values, tuning)
            low, high = _range([*values, *(Interval(value=t, low=None, high=None) for t in tuning)], chance)
            axes.set_xlim(low, high)
            axes.set_title(title)
            axes.grid(axis="x")
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            if low <= chance:
                axes.axvline(chance, color=GREY, linewidth=1, linestyle=":")
        panels[0].set_yticks(range(len(rows)), [row.label for row in rows])
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        if any(row.tuning_auroc is not None for row in rows):
            _forest_legend(figure)
        return _png(figure)


def learning_curves(curves: "pandas.DataFrame", best_epoch: int) -> bytes:
    """Loss, tuning AUROC and learning rate by epoch.

    Args:
        curves: columns epoch, phase, learning_rate, loss, tuning_loss, tuning_auroc.
        best_epoch: the one whose weights were kept.
    """
    from matplotlib.ticker import MaxNLocator

    with _style():
        figure = _figure(9.2, 3.4)
        loss, area, rate = figure.subplots(1, 3)
        # A run of one or two epochs is two dots, not a line.
        marker = {"marker": ".", "markersize": 6} if len(curves) <= 40 else {}
        loss.plot(curves["epoch"], curves["loss"], color=GREY, linestyle="--", label="training", **marker)
        loss.plot(curves["epoch"], curves["tuning_loss"], color=BLUE, label="tuning", **marker)
        loss.set_title("Loss")
        loss.legend(loc="best")
        area.plot(curves["epoch"], curves["tuning_auroc"], color=BLUE, **marker)
        best = curves.loc[curves["epoch"] == best_epoch]
        area.plot(
            best["epoch"],
            best["tuning_auroc"],
            color=VERMILION,
            marker="o",
            linestyle="none",
            markersize=7,
            label=f"kept: epoch {best_epoch}",
        )
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
        return _png(figure)


def _forest_panel(
    axes: "Axes", rows: Sequence[Row], values: Sequence[Interval], tuning: Sequence[float | None]
) -> None:
    from matplotlib.transforms import blended_transform_factory

    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for y, (row, value, other) in enumerate(zip(rows, values, tuning, strict=True)):
        color, marker = (VERMILION, "D") if row.strong else (BLUE, "o")
        if value.low is not None and value.high is not None:
            axes.plot((value.low, value.high), (y, y), color=color, linewidth=2.2, solid_capstyle="butt")
        if value.value is not None:
            axes.plot(value.value, y, color=color, marker=marker, markersize=6, clip_on=False)
        if other is not None:
            axes.plot(other, y + 0.25, color=color, marker=marker, markersize=5, markerfacecolor="none", clip_on=False)
        weight = "bold" if row.strong else "normal"
        axes.text(1.03, y, str(value), transform=beside, va="center", fontsize=9, fontweight=weight)


def _forest_legend(figure: "Figure") -> None:
    from matplotlib.lines import Line2D

    test = Line2D([], [], color=BLUE, marker="o", markersize=6, label="test, 95 % interval")
    tuning = Line2D(
        [], [], color=BLUE, marker="o", markersize=5, markerfacecolor="none", linestyle="none", label="tuning"
    )
    marks = [test, tuning]
    figure.legend(handles=marks, loc="outside lower left", ncols=2)


def _range(values: Iterable[Interval], chance: float) -> tuple[float, float]:
    """Axis limits: whole tenths around everything that is drawn, at least one; chance if it lies near."""
    ends = [end for value in values for end in (value.low, value.value, value.high) if end is not None] or [chance, 1.0]
    low, high = np.floor(min(ends) * 10) / 10, np.ceil(max(ends) * 10) / 10
    if 0 < low - chance < 0.15:
        low = chance
    # A perfect model has all ends at 1.
    return float(min(low, high - 0.1)), float(high)


def _operating_point(axes: "Axes", scores: SplitScores, color: str, marker: str, label: str) -> None:
    specificity = scores.specificity
    fpr = Interval(
        value=None if specificity.value is None else 1 - specificity.value,
        low=None if specificity.high is None else 1 - specificity.high,
        high=None if specificity.low is None else 1 - specificity.low,
    )
    _cross(axes, fpr, scores.sensitivity, color, marker, label)


def _cross(axes: "Axes", x: Interval, y: Interval, color: str, marker: str, label: str) -> None:
    """A point with an interval either way; nothing where it is not defined."""
    if x.value is None or y.value is None:
        return
    if x.low is not None and x.high is not None:
        axes.plot((x.low, x.high), (y.value, y.value), color=color, linewidth=1.4)
    if y.low is not None and y.high is not None:
        axes.plot((x.value, x.value), (y.low, y.high), color=color, linewidth=1.4)
    axes.plot(
        x.value,
        y.value,
        color=color,
        marker=marker,
        markersize=8,
        markeredgecolor="white",
        linestyle="none",
        label=label,
        zorder=3,
    )


def _point(scores: SplitScores) -> str:
    return f"sensitivity {_short(scores.sensitivity)}, specificity {_short(scores.specificity)}"


def _short(value: Interval) -> str:
    return "n/a" if value.value is None else f"{value.value:.3f}"


def _chance(axes: "Axes") -> None:
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=":")


def _zoom_to_best_corner(axes: "Axes", scores: Iterable[SplitScores]) -> None:
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


def _roc_axes(axes: "Axes") -> None:
    _unit_axes(axes, "False-positive rate (1 - specificity)", "Sensitivity")


def _unit_axes(axes: "Axes", x: str, y: str) -> None:
    # A little beyond the unit square: a curve along its edge would be cut in half.
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_box_aspect(1)
    axes.grid()


def _style() -> AbstractContextManager[None]:
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def _figure(width: float, height: float) -> "Figure":
    """A figure of so many inches that makes room for its labels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _square() -> tuple["Figure", "Axes"]:
    figure = _figure(5.6, 5.6)
    return figure, figure.subplots()


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    # matplotlib would write its version into the file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
