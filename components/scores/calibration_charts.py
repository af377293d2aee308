"""Charts of calibration: reliability before and after, and the decision curve."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.artifacts.evaluation import RawAndCalibrated, Reliability
from components.scores.charts import BLUE, DPI, GREY, STYLE, VERMILION
from components.scores.curves import CalibrationCurve, DecisionCurve


@mpl.rc_context(STYLE)
def reliability(raw: CalibrationCurve, calibrated: CalibrationCurve, measured: RawAndCalibrated) -> Figure:
    """Predicted probability against the observed share, raw and calibrated, over histograms of both.

    Args:
        raw: the split before calibration.
        calibrated: the same studies after it.
        measured: of both, for the legend.
    """
    figure = Figure(figsize=(5.6, 7.0), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1.3))
    upper.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=":", label="Perfect calibration")
    _dots(upper, raw, GREY, {"marker": "s", "linestyle": "--", "markerfacecolor": "white"}, _label("Raw", measured.raw))
    _dots(upper, calibrated, BLUE, {"marker": "o"}, _label("Calibrated", measured.calibrated))
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), ylabel="Share of studies that is abnormal")
    upper.set_xticks(np.linspace(0, 1, 6))
    upper.set_yticks(np.linspace(0, 1, 6))
    upper.grid()
    # Beside the dots there is no place that is free in every chart.
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper left")
    bars: Any = {"align": "edge"}
    lower.bar(calibrated.lower, calibrated.studies, width=calibrated.upper - calibrated.lower, color=BLUE,
              edgecolor="white", label="Calibrated", **bars)  # fmt: skip
    lower.bar(raw.lower, raw.studies, width=raw.upper - raw.lower, fill=False, edgecolor=GREY, linestyle="--",
              linewidth=1.2, label="Raw", **bars)  # fmt: skip
    lower.set_xlabel("Predicted probability of abnormality")
    lower.set_ylabel("Studies")
    return figure


@mpl.rc_context(STYLE)
def decisions(raw: DecisionCurve, calibrated: DecisionCurve, threshold: float) -> Figure:
    """Net benefit of the model, raw and calibrated, against calling all studies or none abnormal.

    Args:
        raw: of the raw probabilities.
        calibrated: of the calibrated ones.
        threshold: the operating point.
    """
    figure = Figure(figsize=(5.6, 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":", label="Call no study abnormal")
    axes.plot(raw.threshold, raw.treat_all, color=VERMILION, linewidth=1.2, linestyle="-.",
              label="Call every study abnormal")  # fmt: skip
    axes.plot(raw.threshold, raw.model, color=GREY, linewidth=1.4, linestyle="--", label="Model, raw")
    axes.plot(calibrated.threshold, calibrated.model, color=BLUE, label="Model, calibrated")
    axes.axvline(threshold, color=GREY, linewidth=1, label=f"Operating point: {threshold:.3f}")
    # Near 1 a false alarm costs 99 finds, and everything but doing nothing falls out of the picture.
    top = float(max(raw.treat_all[0], calibrated.model.max(), raw.model.max(), 0.05))
    axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.1 * top))
    axes.set_xlabel("Threshold probability")
    axes.set_ylabel("Net benefit per study")
    axes.grid()
    axes.legend(loc="upper right")
    return figure


def _dots(axes: Axes, curve: CalibrationCurve, color: str, style: dict[str, Any], label: str) -> None:
    axes.errorbar(
        curve.mean_probability,
        curve.abnormal_share,
        yerr=(curve.abnormal_share - curve.low, curve.high - curve.abnormal_share),
        color=color,
        markersize=6,
        linewidth=1.2,
        elinewidth=1.2,
        capsize=3,
        label=label,
        **style,
    )


def _label(name: str, measured: Reliability) -> str:
    return f"{name}: calibration error {measured.expected_error:.3f}"
