"""How a model is measured."""

from pydantic import Field

from components.params.section import Section


class EvaluateParams(Section):
    """How a model is measured."""

    batch_size: int = Field(gt=0, description="Images at once")
    flips: bool = Field(
        description="Whether the logit of an image is the mean of those of the image and its mirror image. It is part "
        "of the evaluation: its calibration and thresholds are for such logits alone. An ensemble has its own choice"
    )
    false_alarms: float = Field(
        ge=0.001,
        le=0.1,
        description="Share of studies like those of the training that may be answered with unlike. The distance from "
        "which a view is unlike comes from the tuning studies; fewer than 1 / share - 1 of them give none",
    )
