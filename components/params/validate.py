"""What the data must be."""

from pydantic import Field

from components.params.section import Section


class ValidateParams(Section):
    """What the data must be. A broken gate refuses the data, a broken warning is reported."""

    modes: tuple[str, ...] = Field(min_length=1, description="Pixel modes, as Pillow names them")
    min_side: int = Field(gt=0, description="Shortest side that is still an X-ray, pixels")
    max_side: int = Field(gt=0, description="Longest side, pixels")
    max_views: int = Field(gt=0, description="Images in a study")
    abnormal_share: tuple[float, float] = Field(
        description="Share of abnormal studies per split and body part, lowest and highest (warning)"
    )
