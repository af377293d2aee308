"""How a model is measured."""

from pydantic import Field

from components.params.section import Section


class EvaluateParams(Section):
    """How a model is measured."""

    bootstrap_draws: int = Field(ge=2000, description="Draws of patients for the 95 % intervals")
    batch_size: int = Field(gt=0, description="Images at once")
