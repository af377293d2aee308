"""What is fixed before the test split is opened."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from components.base.errors import DataRefused
from components.base.files import json_sha256
from components.base.words import in_words
from components.params.section import Section

Metric = Literal["auroc", "average_precision", "cohen_kappa"]
OperatingPoint = Literal["kappa", "sensitivity", "half"]
Slice = Literal[
    "body_part", "views", "mode", "second_opinion", "view_position", "manufacturer", "sex", "age"
]  # fmt: skip


class ProtocolParams(Section):
    """What is fixed before the test split is opened.

    Each evaluation carries it, and its pages show it. `promote` decides by the protocol that its candidates were
    measured under. The pages of `register` and `promote` say what of it differs from the protocols of earlier models.
    """

    primary_metric: Metric = Field(description="What candidates are ranked by, on the tuning split")
    operating_point: OperatingPoint = Field(
        description="The operating point that decides; all are measured. The threshold of highest kappa on tuning, the "
        "highest threshold that reaches the sensitivity `target` on tuning, or a probability of one half"
    )
    target: float = Field(gt=0, lt=1, description="The sensitivity that `sensitivity` reaches on tuning")
    slices: tuple[Slice, ...] = Field(
        description="By what studies are also measured apart: body_part, views (how many), mode (the PNG's), "
        "second_opinion; of an archive of one's own also view_position, manufacturer, sex, age; [] for nothing"
    )
    test_role: Literal["veto", "report"] = Field(
        description="What the test split does: it may refuse a promotion by the numbers from `min_patients` on, or is "
        "only reported. It never ranks"
    )
    min_gain: float = Field(
        ge=0, description="How much better than the champion, in `primary_metric` on the tuning split"
    )
    min_patients: int = Field(
        ge=0, description="Test patients with an abnormal study, and as many with a normal one, at least"
    )
    min_auroc: float = Field(
        ge=0, le=1, description="Lower end of the test AUROC's 95 % interval, at least; 0 for no such floor"
    )
    min_sensitivity: float = Field(
        ge=0,
        le=1,
        description="Lower end of the 95 % interval of the test sensitivity at the operating point that decides, at "
        "least; 0 for no such floor",
    )
    max_calibration_excess: float = Field(
        ge=0,
        le=1,
        description="What the expected calibration error on test may have more than the error that 1 in 20 draws "
        "exceed where probabilities are exact; 1 for no such ceiling",
    )
    max_loss: float = Field(
        ge=0,
        description="The lower end of the 95 % interval of the difference in test AUROC, on the same patients, must be "
        "above minus this: against the champion, and against the first champion",
    )

    @field_validator("slices")
    @classmethod
    def _each_once(cls, slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
        if len(set(slices)) < len(slices):
            raise ValueError(f"expected each slice once, found {', '.join(slices)}")
        return slices

    @classmethod
    def of_card(cls, found: Any, card: Path) -> Self:
        """The protocol that a model was measured under.

        Raises:
            DataRefused: it is no protocol, or one from before the gate asked for all that it asks for now. Numbers that
                were not fixed before the test split was opened are not made up afterwards.
        """
        missing = [name for name in cls.model_fields if isinstance(found, dict) and name not in found]
        if missing:
            raise DataRefused(
                f"{card}: expected a protocol with all that the gate asks, got one without {in_words(missing)}: an "
                "older version of this program measured. Evaluate the model again, then register it."
            )
        return super().of_card(found, card)

    @property
    def digest(self) -> str:
        """sha256 (hex) of all choices."""
        return json_sha256(self.model_dump(mode="json"))
