"""What `mura tune` searches: which choices of a candidate, and in which ranges."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from components.params.section import Section
from components.params.train import TrainParams

FIXED = ("candidate", "architecture", "weights", "patience", "precision", "residence")
"""What is not searched: what a candidate is, what only costs time, and patience. A trial is trained to its end."""


class Sought(Section):
    """The values that a choice may have: a range, or a list."""

    low: int | float | None = Field(default=None, description="Smallest value")
    high: int | float | None = Field(default=None, description="Largest value")
    log: bool = Field(default=False, description="Whether the logarithm is drawn evenly, not the value")
    choices: tuple[bool | int | float | str, ...] | None = Field(default=None, description="All values, in any order")

    @model_validator(mode="after")
    def _range_or_list(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("expected low and high, or choices, found both")
            if len(set(map(str, self.choices))) < max(2, len(self.choices)):
                raise ValueError("choices: expected two or more that differ")
        elif self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices")
        elif not self.low < self.high:
            raise ValueError(f"expected low < high, found {self.low} and {self.high}")
        elif self.log and self.low <= 0:
            raise ValueError(f"log: expected a low above 0, found {self.low}")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values whose bounds are checked: both ends, or all choices."""
        return self.choices if self.choices is not None else (self.low, self.high)


class TuneParams(Section):
    """What is searched, and on how many folds of the training split."""

    folds: int = Field(ge=2, le=10, description="Parts of the training patients; each is held out once")
    default: dict[str, Sought] = Field(
        description="By choice of `train`. What has no effect on a candidate is left out"
    )
    candidates: dict[str, dict[str, Sought]] = Field(description="By candidate, what is searched otherwise or besides")

    @field_validator("default")
    @classmethod
    def _known(cls, space: dict[str, Sought]) -> dict[str, Sought]:
        _check(space)
        return space

    @field_validator("candidates")
    @classmethod
    def _known_of_candidates(cls, spaces: dict[str, dict[str, Sought]]) -> dict[str, dict[str, Sought]]:
        for name, space in spaces.items():
            _check(space, f"{name}.")
        return spaces


def is_whole(name: str) -> bool:
    """Whether a choice of `train` is a whole number."""
    return TrainParams.model_fields[name].annotation is int


def _check(space: Mapping[str, Sought], place: str = "") -> None:
    """Check names and values against TrainParams.

    Raises:
        ValueError: a name is no choice of `train`, is not searched, or a value is out of its bounds.
    """
    searched = [name for name in TrainParams.model_fields if name not in FIXED]
    for name, sought in space.items():
        if name not in searched:
            raise ValueError(f"{place}{name}: expected one of {', '.join(searched)}")
        field = TrainParams.model_fields[name]
        annotated: Any = Annotated[field.annotation, field]
        kind: TypeAdapter[Any] = TypeAdapter(annotated)
        if sought.choices is None and field.annotation not in (int, float):
            raise ValueError(f"{place}{name}: expected choices, because it is no number")
        for value in sought.ends:
            try:
                kind.validate_python(value, strict=not isinstance(value, int) or field.annotation is not float)
            except ValidationError as error:
                says = error.errors()[0]["msg"].removeprefix("Input ")
                raise ValueError(f"{place}{name}: {says}, found {value!r}") from None
