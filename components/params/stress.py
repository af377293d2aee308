"""How pictures are disturbed, and how strongly."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from components.params.section import Section


def _distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a strength is named twice")
    return values


Shares = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(_distinct)]
Degrees = Annotated[tuple[Annotated[float, Field(gt=0, le=180)], ...], AfterValidator(_distinct)]
Qualities = Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], AfterValidator(_distinct)]


class StressParams(Section):
    """How pictures are disturbed, and how strongly. An empty list leaves a disturbance out."""

    candidates: tuple[str, ...] = Field(description="The candidates that DVC's stage disturbs; a list, or []")
    rotation: Degrees = Field(description="Degrees, to either side")
    brightness: Shares = Field(description="Shift of all grey levels up or down, as a share of white")
    contrast: Shares = Field(description="Share of the contrast that is lost")
    jpeg: Qualities = Field(description="Quality of JPEG, 1 to 100; the lower, the stronger")
    crop: Shares = Field(description="Share of the side that is cut off")
    inversion: Shares = Field(description="Share of the pictures in which black and white change places")
    noise: Shares = Field(description="Standard deviation of Gaussian noise, as a share of white")
    batch_size: int = Field(gt=0, description="Images at once")

    @model_validator(mode="after")
    def _something_is_disturbed(self) -> Self:
        if not self.strengths:
            raise ValueError("no disturbance has a strength: name some")
        if any(each == 1 for each in (*self.contrast, *self.crop)):
            raise ValueError("contrast and crop must be less than 1: nothing would be left of a picture")
        return self

    @property
    def strengths(self) -> dict[str, tuple[float, ...]]:
        """Strengths by disturbance, the weakest first."""
        found = {name: sorted(getattr(self, name), reverse=name == "jpeg") for name in DISTURBANCES}
        return {name: tuple(values) for name, values in found.items() if values}


DISTURBANCES = ("rotation", "brightness", "contrast", "jpeg", "crop", "inversion", "noise")
