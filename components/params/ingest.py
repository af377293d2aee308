"""How the archive is read."""

from pydantic import Field

from components.params.section import Section


class IngestParams(Section):
    """How the archive is read."""

    tuning_fraction: float = Field(
        gt=0, lt=0.5, description="Share of the published training patients that is set aside for tuning"
    )
