"""Which version is trusted."""

from pydantic import Field

from components.params.section import Section


class PromoteParams(Section):
    """Which version is trusted. The rules are those of the protocol that the candidates were measured under."""

    alias: str = Field(min_length=1, description="Alias of the registered model that names the trusted version")
