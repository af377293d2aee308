"""How a model is measured."""

from pydantic import Field

from components.params.section import Section


class EvaluateParams(Section):
    """How a model is measured."""

    batch_size: int = Field(gt=0, description="Images at once")
