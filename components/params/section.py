"""What all sections have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of params.yaml. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
