"""What is fixed before the test split is opened."""

from typing import Literal

from pydantic import Field, field_validator

from components.base.files import json_sha256
from components.params.section import Section

Metric = Literal["auroc", "average_precision", "cohen_kappa"]
OperatingPoint = Literal["kappa", "sensitivity", "half"]
Slice = Literal["body_part"]


class ProtocolParams(Section):
    """What is fixed before the test split is opened.

    Each evaluation carries it, and `promote` decides by the protocol that its candidates were measured under. Where
    test numbers are shown, it is said what of it differs from the protocols of earlier models.
    """

    primary_metric: Metric = Field(description="What candidates are ranked by, on the tuning split")
    operating_point: OperatingPoint = Field(
        description="The operating point that decides; all are measured. The threshold of highest kappa on tuning, the "
        "highest threshold that reaches the sensitivity `target` on tuning, or a probability of one half"
    )
    target: float = Field(gt=0, lt=1, description="The sensitivity that `sensitivity` reaches on tuning")
    slices: tuple[Slice, ...] = Field(description="By what studies are also measured apart: [body_part], or []")
    test_role: Literal["veto", "report"] = Field(
        description="What the test split does: it may refuse a promotion by `min_auroc` and `max_loss`, or is only "
        "reported. It never ranks"
    )
    min_gain: float = Field(
        ge=0, description="How much better than the champion, in `primary_metric` on the tuning split"
    )
    min_auroc: float = Field(
        ge=0, le=1, description="Lower end of the test AUROC's 95 % interval, at least; 0 for no such floor"
    )
    max_loss: float = Field(ge=0, description="Largest allowed drop of test AUROC below the champion")

    @field_validator("slices")
    @classmethod
    def _each_once(cls, slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
        if len(set(slices)) < len(slices):
            raise ValueError(f"expected each slice once, found {', '.join(slices)}")
        return slices

    @property
    def digest(self) -> str:
        """sha256 (hex) of all choices."""
        return json_sha256(self.model_dump(mode="json"))
