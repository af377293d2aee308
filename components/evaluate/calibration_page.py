"""The part of the report that is about probabilities: calibration, operating points, decisions."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from components.artifacts.evaluation import Calibration, EvaluationFacts, Reliability, SplitScores
from components.artifacts.trained_model import Offsets
from components.pages.render import picture
from components.params.protocol import ProtocolParams
from components.scores import calibration_charts, charts, curves
from components.scores.studies import sigmoid

TEMPLATE = Path(__file__).with_name("calibration.html")
"""A part of the report's template: it takes `calibrated`, a CalibrationSection."""
RULES = {
    "kappa": "highest Cohen's kappa",
    "sensitivity": "highest threshold with a sensitivity of at least {target:g}",
    "half": "abnormal is more probable than normal",
}


class CalibrationFigures(NamedTuple):
    """The charts of one split, PNG."""

    reliability: bytes
    decisions: bytes


class Point(NamedTuple):
    """A row of the table of operating points."""

    rule: str
    threshold: float
    scores: SplitScores
    decides: bool


class CalibrationSection(NamedTuple):
    """What calibration.html shows of one split."""

    split: str
    facts: Calibration
    raw: Reliability
    after: Reliability
    bins: int
    offsets: list[tuple[str, float]]
    """By body part, as the studies of both splits have them."""
    pooled: float
    points: list[Point]
    reliability: Markup
    decisions: Markup


def draw_calibration(facts: EvaluationFacts, studies: pd.DataFrame, split: str) -> CalibrationFigures:
    """Draw the charts of a split.

    Args:
        facts: what was measured.
        studies: the table of the evaluation.
        split: `tuning` or `test`.
    """
    rows = studies[studies["split"] == split]
    abnormal, raw, calibrated = rows["abnormal"], sigmoid(rows["logit"]), rows["probability"]
    measured = facts.reliability.of(split)
    return CalibrationFigures(
        reliability=charts.png(
            calibration_charts.reliability(
                curves.calibration_curve(abnormal, raw), curves.calibration_curve(abnormal, calibrated), measured
            )
        ),
        decisions=charts.png(
            calibration_charts.decisions(
                curves.decision_curve(abnormal, raw),
                curves.decision_curve(abnormal, calibrated),
                facts.scores.threshold,
            )
        ),
    )


def calibration_section(
    facts: EvaluationFacts, learned: Offsets, protocol: ProtocolParams, split: str, figures: CalibrationFigures
) -> CalibrationSection:
    """Say what is to be shown of a split.

    Args:
        facts: what was measured.
        learned: the offsets of the model.
        protocol: which operating point decides.
        split: `tuning` or `test`.
        figures: of the split.
    """
    measured = facts.reliability.of(split)
    return CalibrationSection(
        split=split,
        facts=facts.calibration,
        raw=measured.raw,
        after=measured.calibrated,
        bins=curves.CALIBRATION_BINS,
        offsets=[*learned.body_part.items(), *((part, learned.pooled) for part in facts.calibration.pooled_parts)],
        pooled=learned.pooled,
        points=[
            Point(rule(name, protocol), point.threshold, point.of(split), name == protocol.operating_point)
            for name, point in facts.operating_points.items()
        ],
        reliability=picture(figures.reliability, f"Calibration of the {split} studies, raw and calibrated"),
        decisions=picture(figures.decisions, f"Decision curve of the {split} studies"),
    )


def rule(name: str, protocol: ProtocolParams) -> str:
    """How the threshold of an operating point is chosen, in words."""
    return RULES[name].format(target=protocol.target)
