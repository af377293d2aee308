"""How good a model is, and how sure we are."""

import math
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError, model_validator

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.trained_model import ENSEMBLE
from components.base import documents
from components.base.errors import DataRefused, first_line
from components.base.files import json_sha256
from components.base.names import Name

METRICS = "metrics.json"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.parquet"
STUDIES = "studies.parquet"
REPORT = "report.html"
# Of the test split. Nothing shows them but the steps that register and promote, and whoever opens them.
TEST_METRICS = "test.json"
TEST_REPORT = "test.html"
FAMILIARITY = "familiarity.json"
CARD_TEXT = "model_card.md"
CARD_PAGE = "model_card.html"

T = TypeVar("T")

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
    """One split, or a group of its studies, at study level."""

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


class PointScores(Facts):
    """An operating point: a threshold that tuning chose, and what it gives."""

    tuning: SplitScores
    test: SplitScores
    threshold: float

    def of(self, split: str) -> SplitScores:
        """Those of one split.

        Args:
            split: `tuning` or `test`.
        """
        return {"tuning": self.tuning, "test": self.test}[split]


class Scores(PointScores):
    """The main scores of an evaluation; receipts and registry tags carry them."""

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


class Calibration(Facts):
    """How the answer to a study becomes its probability: sigmoid(intercept + slope * logit - offset).

    The offset is that of the study's body part, on the card of the model.
    """

    intercept: float
    slope: float
    """0 if the network ranks backwards on tuning: its answers have no weight."""
    folds: int
    """Of the tuning patients. The probabilities of tuning studies come from the other folds."""
    pooled_parts: tuple[str, ...] = ()
    """Body parts of the studies that did not train the network. They have the pooled offset."""


class Reliability(Facts):
    """How well probabilities of a split agree with what was observed."""

    brier: Interval
    expected_error: float
    """Expected calibration error in bins of equal width (Guo et al. 2017)."""
    expected_error_by_chance: float
    """The expected calibration error that 1 in 20 draws exceed where the probabilities are exact."""
    slope: Interval
    """Of the labels on the logit of the probability; 1 is best. Below 1 the probabilities are too extreme."""
    intercept: Interval
    """Of the same, with the slope 1; 0 is best. Above 0 the probabilities are too low on the whole."""


class RawAndCalibrated(Facts):
    """A split before and after calibration. Raw is the mean probability of the views."""

    raw: Reliability
    calibrated: Reliability


class BothReliabilities(Facts):
    """Both splits."""

    tuning: RawAndCalibrated
    test: RawAndCalibrated

    def of(self, split: str) -> RawAndCalibrated:
        """That of one split.

        Args:
            split: `tuning` or `test`.
        """
        return {"tuning": self.tuning, "test": self.test}[split]


class Both(Facts, Generic[T]):
    """Something of both splits."""

    tuning: T
    test: T

    def of(self, split: str) -> T:
        """That of one split.

        Args:
            split: `tuning` or `test`.
        """
        return {"tuning": self.tuning, "test": self.test}[split]


Groups = dict[str, SplitScores]
"""The groups of a slice, in the order to show. There is none where the data do not know the groups."""


class FloorScores(Facts):
    """A split without looking at the bones: what body part, number of views and picture size tell of the label."""

    auroc: Interval
    cohen_kappa: Interval
    auroc_gain: Interval
    """What the model has more, on the same patients."""
    cohen_kappa_gain: Interval


class Floor(Both[FloorScores]):
    """What a model must be better than (components/scores/floor.py). It is the same for all models of a data set."""

    threshold: float
    """Chosen on tuning, as the model's own."""


class Numbers(Facts):
    """An array of numbers, float32."""

    shape: tuple[NonNegativeInt, ...]
    base64: str
    """Little-endian, row by row."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Four characters of base64 are three bytes.
        if len(self.base64) != (4 * math.prod(self.shape) + 2) // 3 * 4:
            raise ValueError(f"expected numbers of shape {self.shape}, got {len(self.base64)} characters")
        return self


class Depth(Facts):
    """How the maps of a network at one depth are reduced: C channels to P."""

    rows: NonNegativeInt
    """Means over cells of the map, and the deviation over all of it."""
    scale: Numbers
    """[C], the size of what is seen in training pictures."""
    centre: Numbers
    """[C], after scaling."""
    basis: Numbers
    """[C, P]"""
    weight: float
    """Of this depth beside the others."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_shapes(self.basis.shape, (self.scale.shape[0], None))
        _check_shapes(self.centre.shape, self.scale.shape)
        return self


class Comparison(Facts):
    """What a view is compared with: the training pictures, and pictures that show nothing of their kind.

    A kernel density ratio on reduced features (components/scores/familiarity.py).
    """

    depths: tuple[Depth, ...]
    centre: Numbers
    """[R], of the reduced features of all depths."""
    basis: Numbers
    """[R, K]"""
    references: Numbers
    """[N, K], the pictures."""
    weights: Numbers
    """[N], how much each of them speaks for being like the training pictures."""
    width: float = Field(gt=0)
    """Of the kernel."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        reduced = sum(each.rows * each.basis.shape[1] for each in self.depths)
        _check_shapes(self.centre.shape, (reduced,))
        _check_shapes(self.basis.shape, (reduced, None))
        _check_shapes(self.references.shape, (None, self.basis.shape[1]))
        _check_shapes(self.weights.shape, (self.references.shape[0],))
        return self


class Familiarity(Facts):
    """Whether a view is like those that a network learned from."""

    threshold: float
    """Distance above which it is not."""
    pictures: int
    """Number of training pictures that it is compared with."""
    comparison: Comparison


def _check_shapes(found: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    if len(found) != len(expected) or any(e not in (None, f) for f, e in zip(found, expected, strict=True)):
        raise ValueError(f"expected numbers of shape {expected}, got {found}")


class FalseAlarms(Both[Interval]):
    """Shares of studies like the training data that are called unlike it (components/scores/familiarity.py)."""

    threshold: float
    """Distance of a view above which its study is unlike. Tuning chose it: its own share is no surprise."""
    pictures: int
    """Number of training pictures that distances are from."""


class EvaluationFacts(Facts):
    """Which model, on which data, with which scores."""

    candidate: Name
    architecture: Name
    model_digest: str
    data_digest: str
    shards_digest: str
    code_revision: Provenance[str]
    body_parts: tuple[Name, ...] | None = None
    """The body parts that were chosen of the archive; None for all."""
    params: dict[str, Any]
    """The `evaluate` section it was measured with."""
    protocol: dict[str, Any]
    """The section `protocol`, which was fixed before the test split was measured."""
    seed: int
    """Of the folds of the calibration, and of the draws that its error is compared with."""
    calibration: Calibration
    scores: Scores
    """By the official labels, at the operating point that decides."""
    operating_points: dict[str, PointScores]
    """Every one by name, also that which decides."""
    reliability: BothReliabilities
    slices: Both[dict[str, Groups]]
    """By the slices of the protocol and their groups, at the operating point that decides."""
    floor: Floor
    second_opinion: SecondOpinion | None = None
    """None if there is no overlay."""
    false_alarms: FalseAlarms | None = None
    """None if there are too few tuning studies to know what is unlike."""

    @property
    def flips(self) -> bool:
        """Whether each logit is the mean of those that the network gives to the image and its mirror image.

        An ensemble has its own choice of that inside.
        """
        return bool(self.params.get("flips")) and self.architecture != ENSEMBLE

    @property
    def protocol_digest(self) -> str:
        """sha256 (hex) of the protocol."""
        return json_sha256(self.protocol)


class Evaluation(Artifact[EvaluationFacts]):
    """Metrics with intervals, and the predictions they were computed from.

    What tools and people look at at every experiment is of the tuning split. What was measured on the test split lies
    in files of its own.

    evaluation/<candidate>/
        card.json               the scores of both splits, which `register` and `promote` read
        metrics.json            of the tuning split: tuning: {metric: {value, low, high, too_few}}; slices:
                                {slice: {group: the same}}, no group where the data do not know them; floor: what is
                                known without looking at the bones, and what the model has more; unlike: share of
                                studies that are called unlike the training data, null if that is not known; threshold;
                                operating_points; calibration; digests
        summary.json            of the tuning split: the main scores as flat numbers, for `dvc metrics show`
        report.html             the page of the tuning split, in one file
        plots/                  of the tuning split: roc.csv, calibration.csv, confusion.csv, for `dvc plots`; roc.png,
                                calibration.png
        test.json               of the test split: test, slices, floor, unlike, operating_points, calibration, as above;
                                roc, the curve; digests; with an overlay `second_opinion`, the test split by its labels
        test.html               the page of the test split, in one file
        model_card.md           what the model is for, what it is not for, and what it reaches on the test split
        model_card.html         the same with charts, in one file
        familiarity.json        what the network saw in the training pictures, and from which distance on a view is
                                unlike them; null if there are too few tuning studies to know
        predictions.parquet     of both, one row per image: image, study, patient, body_part, split, abnormal, overlay
                                (second opinion on the label, missing where there is none), mode (of the PNG), floor
                                (the study's probability without looking at the bones), sha256 (of the picture's file),
                                logit, distance (to the training pictures; missing where it is not known)
        studies.parquet         of both, one row per study: study, patient, body_part, split, abnormal, overlay, views,
                                mode (`mixed` where views differ), floor, logit (of the mean probability of the views),
                                offset, fold (of a tuning study, missing on test), probability (calibrated; on tuning
                                by the other folds)
    """

    FACTS = EvaluationFacts
    STEP = "evaluate"
    CONTENT = (METRICS, TEST_METRICS, SUMMARY, PREDICTIONS, STUDIES, FAMILIARITY, "plots/*.csv")

    def familiarity(self) -> Familiarity | None:
        """What tells whether a view is like those of the training; None if there were too few tuning studies.

        Raises:
            DataRefused: the file is damaged.
        """
        file = self.path / FAMILIARITY
        if not file.is_file():
            return None
        try:
            return TypeAdapter(Familiarity | None).validate_json(documents.content(file))
        except (ValidationError, documents.TooLarge) as error:
            raise DataRefused(f"{file}: cannot be read ({first_line(error)}). Evaluate the model again.") from error

    @property
    def report(self) -> Path:
        """The page of the tuning split."""
        return self.path / REPORT

    @property
    def test_report(self) -> Path:
        """The page of the test split."""
        return self.path / TEST_REPORT

    @property
    def model_cards(self) -> tuple[Path, Path]:
        """The model card as Markdown and as a page. Both have test numbers."""
        return self.path / CARD_TEXT, self.path / CARD_PAGE
