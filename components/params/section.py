"""What all sections have in common."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from components.base.errors import DataRefused


class Section(BaseModel):
    """A section of params.yaml. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def brief(self) -> dict[str, Any]:
        """The choices as JSON, for an orchestrator."""
        return self.model_dump(mode="json")

    @classmethod
    def in_full(cls, brief: Any) -> Any:
        """What `brief` gave, as the section takes it. Anything else is left as it is."""
        return brief

    @classmethod
    def of_card(cls, found: Any, card: Path) -> Self:
        """The section that an artifact was made with.

        Args:
            found: what the card has of it.
            card: the file.

        Raises:
            DataRefused: it is not such a section.
        """
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataRefused(f"{card}: not parameters that this version knows ({place}: {first['msg']}).") from error
