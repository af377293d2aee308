"""How a model is measured."""

from typing import Literal

from pydantic import Field

from components.params.section import Section

OperatingPoint = Literal["kappa", "sensitivity", "half"]


class EvaluateParams(Section):
    """How a model is measured."""

    operating_point: OperatingPoint = Field(
        description="The operating point that decides; all are reported. The threshold of highest kappa on tuning, the "
        "highest threshold that reaches the sensitivity `target` on tuning, or a probability of one half"
    )
    target: float = Field(gt=0, lt=1, description="The sensitivity that `sensitivity` reaches on tuning")
    bootstrap_draws: int = Field(ge=2000, description="Draws of patients for the 95 % intervals")
    batch_size: int = Field(gt=0, description="Images at once")
