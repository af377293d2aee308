"""How the archive is read."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from components.base.names import LONGEST, PATTERN
from components.params.section import Section

# Six times MURA. An open zip takes about 600 bytes of memory for each member, in every worker.
MAX_MEMBERS = 250_000
ALL: Literal["all"] = "all"


class IngestParams(Section):
    """How the archive is read."""

    tuning_fraction: float = Field(
        gt=0, lt=0.5, description="Share of the published training patients that is set aside for tuning"
    )
    # A word for the whole archive: Kubeflow's arguments cannot hold an empty value.
    body_parts: Literal["all"] | tuple[str, ...] = Field(
        default=ALL, description="Body parts to read, such as [elbow, wrist]; all: whatever the archive has"
    )

    # Left out of arguments and settings where it is the default: it changes no result.
    max_members: int = Field(
        default=MAX_MEMBERS,
        gt=0,
        exclude_if=lambda value: value == MAX_MEMBERS,
        description="Files that the archive may have; each takes 600 bytes in every worker",
    )

    @field_validator("body_parts", mode="before")
    @classmethod
    def _in_order(cls, chosen: Any) -> Any:
        """The chosen parts, ascending. Which there are, the archive says."""
        if chosen is None or chosen == ALL:
            return ALL
        if not isinstance(chosen, list | tuple) or not chosen:
            raise ValueError(f"expected {ALL} or a list of body parts, such as [elbow, wrist]")
        for part in chosen:
            if not isinstance(part, str) or len(part) > LONGEST or not re.search(PATTERN, part):
                raise ValueError(f"no body part {part!r:.40}: expected a name such as wrist or lower_leg")
        if len(set(chosen)) < len(chosen):
            raise ValueError("a body part is named twice")
        return tuple(sorted(chosen))

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """The body parts to read; None for all."""
        return None if self.body_parts == ALL else tuple(self.body_parts)
