"""The receipt for model versions in the registry."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.differences import differences
from components.artifacts.evaluation import Calibration, Interval, Scores
from components.artifacts.trained_model import Offsets
from components.base.files import json_sha256
from components.base.names import Name

REPORT = "report.html"
FOREST = "candidates.png"


class GateFigures(Facts):
    """What the gate asks of the test split besides the scores."""

    abnormal_patients: int
    """Patients with an abnormal study."""
    normal_patients: int
    """Patients with a normal study. A patient may count in both."""
    parts: dict[Name, int]
    """Number of studies of each body part."""
    expected_error: float
    """Expected calibration error of the calibrated probabilities."""
    expected_error_by_chance: float
    """The same error that 1 in 20 draws exceed where the probabilities are exact."""


class RegisteredModel(Facts):
    """One model version and what is known of it."""

    model: str
    """Name of the registered model."""
    version: int
    run_id: Provenance[str]
    candidate: Name
    architecture: Name
    model_digest: str
    evaluation_digest: str
    data_digest: str
    body_parts: tuple[Name, ...] | None = None
    """The body parts that were chosen of the archive; None for all."""
    code_revision: Provenance[str]
    training_seconds: Provenance[float]
    """Of an ensemble, of its members' trainings together."""
    protocol: dict[str, Any] | None = None
    """The protocol that it was measured under; None for versions that were registered before there were protocols."""
    calibration: Calibration | None = None
    """From its answers to probabilities, which the threshold is for; None for versions from before calibration."""
    offsets: Offsets | None = None
    """Of the calibration, by body part; None for versions from before calibration."""
    flips: bool = False
    """Whether the calibration is for logits that are each the mean of those of the image and its mirror image."""
    gate: GateFigures | None = Field(default=None, exclude_if=lambda value: value is None)
    """None for versions that were registered before the gate asked for it."""
    scores: Scores

    def tuning(self, metric: str) -> Interval:
        """A metric on the tuning split."""
        value = getattr(self.scores.tuning, metric)
        assert isinstance(value, Interval)
        return value


class OtherProtocol(Facts):
    """Earlier versions that were measured on the same test split under another protocol."""

    versions: tuple[str, ...]
    """Such as `mura 3`, in the order of the registry."""
    differences: tuple[str, ...]
    """What was otherwise then, such as `min_auroc 0.8, now 0.75`."""


class Opened(Facts):
    """What the registry knows of the use of a test split."""

    models: int
    """Distinct models that were ever measured on it and came to this registry, those of the receipt included."""
    protocols: tuple[OtherProtocol, ...]
    """Other protocols than the one now, each once."""


class Difference(Facts):
    """What one version has more than another on the same studies, with 95 % intervals."""

    auroc: Interval
    cohen_kappa: Interval
    """Each version at its own operating point, as for the sensitivity."""
    sensitivity: Interval


class VersionComparison(Facts):
    """One version minus another, on the same studies of the same patients."""

    version: int
    other: int
    tuning: Difference | None
    """None if there is none: `missing` says why."""
    test: Difference | None
    missing: tuple[str, ...] = ()
    """Why a difference is missing, in sentences."""

    def of(self, split: str) -> Difference | None:
        """That of one split.

        Args:
            split: `tuning` or `test`.
        """
        return {"tuning": self.tuning, "test": self.test}[split]


class Comparison(VersionComparison):
    """The first of the candidates minus a version that held an alias when they were registered."""

    aliases: tuple[str, ...]
    """Of the other."""


class RegistrationFacts(Facts):
    """All candidates of one run of the pipeline."""

    versions: tuple[RegisteredModel, ...]
    opened: Provenance[Opened | None] = None
    """None of a trial."""
    comparisons: Provenance[tuple[Comparison, ...]] = ()
    """With each version that held an alias, by number; none with itself."""
    trial: str | None = None
    """DVC's name of the experiment, if this is one. Nothing is registered then, and there are no versions."""


class Registration(Artifact[RegistrationFacts]):
    """The result of `mura register`: the versions in the registry. A trial has none, and only a card.

    registration/
        card.json           the receipt
        <candidate>.json    one version each
        report.html         the comparison of the candidates on both splits, and how often the test split was opened
        candidates.png      the first chart of the report
    """

    FACTS = RegistrationFacts
    STEP = "register"
    CONTENT = ("*.json",)


def ranked(candidates: Sequence[RegisteredModel], metric: str) -> list[RegisteredModel]:
    """The candidates, best first: by a metric on the tuning split, never on test.

    Equal ones come by their Brier score on tuning, lowest first, then by name.

    Args:
        candidates: in any order.
        metric: a field of `SplitScores`.
    """

    def order(model: RegisteredModel) -> tuple[float, float, str, int]:
        value, brier = model.tuning(metric).value, model.scores.tuning.brier.value
        last = float("inf")
        return (last if value is None else -value, last if brier is None else brier, model.candidate, model.version)

    return sorted(candidates, key=order)


def other_protocols(earlier: Sequence[RegisteredModel], now: dict[str, Any]) -> tuple[OtherProtocol, ...]:
    """What versions were measured under another protocol, and in what it differs.

    Args:
        earlier: versions that were measured on the same test split.
        now: the protocol of today.
    """
    found: dict[str, list[RegisteredModel]] = {}
    for each in earlier:
        if each.protocol != now:
            found.setdefault(json_sha256(each.protocol), []).append(each)
    return tuple(
        OtherProtocol(
            versions=tuple(f"{each.model} {each.version}" for each in group),
            differences=tuple(_changes(group[0].protocol, now)),
        )
        for group in found.values()
    )


def _changes(before: dict[str, Any] | None, now: dict[str, Any]) -> Iterator[str]:
    if before is None:
        yield "no protocol was recorded"
        return
    for name, old, new in differences(before, now):
        yield f"{name} {_said(old)}, now {_said(new)}"


def _said(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "not there" if value is None else str(value)
