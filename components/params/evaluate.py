"""How a model is measured."""

from typing import Literal

from pydantic import Field

from components.params.section import Section

OperatingPoint = Literal["kappa", "youden", "sensitivity", "fixed"]
"""How a threshold is chosen; the protocol says which rule decides."""


class EvaluateParams(Section):
    """How a model is measured."""

    bootstrap_draws: int = Field(ge=2000, description="Draws of patients for the 95 % intervals")
    batch_size: int = Field(gt=0, description="Images at once")
