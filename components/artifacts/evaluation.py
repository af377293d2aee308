"""How good a model is, and how sure we are."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from components.artifacts.artifact import Artifact, Facts, Provenance

METRICS = "metrics.json"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.parquet"
REPORT = "report.html"


FEWEST_PATIENTS = 10
"""With fewer patients of a class there is no interval. `components.scores.intervals` says which class counts."""


class Interval(Facts):
    """A value with its 95 % interval.

    There are three states: value and interval; a value from too few patients for an interval; not defined (0 / 0, such
    as the AUROC of one class). An interval has a width, and its value inside.
    """

    value: float | None
    """None where it is not defined."""
    low: float | None
    high: float | None
    too_few: bool = False
    """Whether there is a value, and fewer than `FEWEST_PATIENTS` patients of a class: no interval can be trusted."""

    @model_validator(mode="before")
    @classmethod
    def _say_too_few(cls, fields: Any) -> Any:
        """A value without an interval comes from too few patients; nobody need say it twice."""
        if isinstance(fields, dict) and "too_few" not in fields:
            return fields | {"too_few": fields.get("value") is not None and fields.get("low") is None}
        return fields

    @model_validator(mode="after")
    def _check(self) -> Self:
        ends = (self.low, self.high)
        if self.low is None or self.high is None:
            if ends != (None, None) or self.too_few != (self.value is not None):
                raise ValueError(f"expected both ends of an interval, or neither and why, got {self!r}.")
        elif self.value is None or self.too_few or not self.low <= self.value <= self.high or self.low == self.high:
            raise ValueError(f"expected an interval with a width and its value inside, got {self!r}.")
        return self

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (too few)"
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

    Model, threshold and patients are those of the official scores.
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
        metrics.json            test, tuning, body_part: {metric: {value, low, high, too_few}}; threshold; digests;
                                with an overlay `second_opinion`, the test split by its labels
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
