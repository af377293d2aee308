"""Where models are registered."""

from pydantic import Field

from components.params.section import Section


class RegisterParams(Section):
    """Where models are registered."""

    model: str = Field(min_length=1, description="Name of the registered model in MLflow")
