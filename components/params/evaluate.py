"""How a model is measured."""

from typing import Literal

from pydantic import Field

from components.params.section import Section

OperatingPoint = Literal["kappa", "youden", "sensitivity", "fixed"]


class EvaluateParams(Section):
    """How a model is measured."""

    operating_point: OperatingPoint = Field(
        description="How the threshold is chosen on the tuning split: highest kappa, highest "
        "sensitivity + specificity, highest threshold that reaches `target` sensitivity, or `target` itself"
    )
    target: float = Field(
        gt=0, lt=1, description="The sensitivity to reach (`sensitivity`), or the threshold (`fixed`)"
    )
    bootstrap_draws: int = Field(ge=2000, description="Draws of patients for the 95 % intervals")
    batch_size: int = Field(gt=0, description="Images at once")
