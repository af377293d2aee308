"""How good a model is, and how sure we are."""

from pathlib import Path
from typing import Any

from pydantic import Field

from components.artifacts.artifact import Artifact, Facts, Provenance

METRICS = "metrics.json"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.parquet"
REPORT = "report.html"


class Interval(Facts):
    """A value with its 95 % interval; None where it is not defined (one class only)."""

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class Confusion(Facts):
    """Study counts at the operating point; positive means abnormal."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class SplitScores(Facts):
    """One split, or one body part of it, at study level."""

    auroc: Interval = Field(title="AUROC")
    average_precision: Interval = Field(title="Average precision")
    cohen_kappa: Interval = Field(title="Cohen's kappa")
    sensitivity: Interval = Field(title="Sensitivity")
    specificity: Interval = Field(title="Specificity")
    ppv: Interval = Field(title="PPV")
    npv: Interval = Field(title="NPV")
    f1: Interval = Field(title="F1")
    brier: Interval = Field(title="Brier score")
    confusion: Confusion
    n_studies: int
    n_abnormal: int
    n_patients: int


METRIC_TITLES = {name: field.title for name, field in SplitScores.model_fields.items() if field.title}
"""Metrics as people write them, in the order of reports."""


class Scores(Facts):
    """The main scores of an evaluation; receipts and registry tags carry them."""

    tuning: SplitScores
    test: SplitScores
    threshold: float
    tuning_digest: str
    """Which tuning studies, with which labels and pixels."""
    test_digest: str
    """Which test studies, with which labels and pixels: results compare only if this is equal."""


class SecondOpinion(Facts):
    """The test split with the labels of the overlay: a sensitivity analysis. No decision uses it.

    Model, threshold, patients and draws are those of the official scores.
    """

    overlay_digest: str
    studies: int
    """Number of test studies with another label."""
    test: SplitScores


class EvaluationFacts(Facts):
    """Which model, on which data, with which scores."""

    candidate: str
    architecture: str
    model_digest: str
    data_digest: str
    shards_digest: str
    code_revision: Provenance[str]
    body_parts: tuple[str, ...] | None = None
    """The body parts that were chosen of the archive; None for all."""
    params: dict[str, Any]
    """The `evaluate` section it was measured with."""
    seed: int
    """Of the bootstrap."""
    scores: Scores
    """By the official labels."""
    second_opinion: SecondOpinion | None = None
    """None if there is no overlay."""


class Evaluation(Artifact[EvaluationFacts]):
    """Metrics with intervals, and the predictions they were computed from.

    evaluation/<candidate>/
        card.json
        metrics.json            test, tuning, body_part: {metric: {value, low, high}}; threshold; digests; with an
                                overlay `second_opinion`, the test split by its labels
        summary.json            the main scores as flat numbers, for `dvc metrics show`
        predictions.parquet     one row per image: image, study, patient, body_part, split, abnormal, overlay
                                (second opinion on the label, missing where there is none), logit, probability
        report.html             the same for people, in one file
        plots/                  roc.csv, calibration.csv, confusion.csv, for `dvc plots`; roc.png, calibration.png
    """

    FACTS = EvaluationFacts
    STEP = "evaluate"
    CONTENT = (METRICS, SUMMARY, PREDICTIONS, "plots/*.csv")

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / REPORT
