"""Which candidates an ensemble averages, and how."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from components.params.section import Section
from components.params.train import CandidateName


def _several(members: "Literal['all'] | tuple[str, ...]") -> "Literal['all'] | tuple[str, ...]":
    if members != "all" and len(members) < 2:
        raise ValueError("expected all, or a list of at least two candidates")
    if members != "all" and len(set(members)) < len(members):
        raise ValueError(f"expected each member once, found {', '.join(members)}")
    return members


class EnsembleParams(Section):
    """Which candidates an ensemble averages, and how."""

    candidate: CandidateName = Field(description="Name of the ensemble; in params.yaml the key of its entry")
    members: Annotated[Literal["all"] | tuple[str, ...], AfterValidator(_several)] = Field(
        description="The candidates that are averaged: all, or a list of at least two names"
    )
    flips: bool = Field(description="Whether the mean is over the image and its mirror image, too")

    def chosen(self, candidates: Iterable[str]) -> list[str]:
        """The names of the members.

        Args:
            candidates: those that there are.
        """
        return list(candidates) if self.members == "all" else list(self.members)
