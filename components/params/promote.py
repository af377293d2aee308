"""What a champion must be."""

from typing import Literal

from pydantic import Field

from components.params.section import Section


class PromoteParams(Section):
    """What a champion must be.

    Candidates are ranked on the tuning split; the test split can only veto.
    """

    alias: str = Field(min_length=1, description="Alias of the registered model that names the trusted version")
    metric: Literal["auroc", "average_precision", "cohen_kappa"] = Field(
        description="What candidates are ranked by, on the tuning split"
    )
    min_gain: float = Field(ge=0, description="How much better than the champion, in `metric` on the tuning split")
    min_auroc: float = Field(
        ge=0, le=1, description="Lower end of the test AUROC's 95 % interval, at least; 0 for no such floor"
    )
    max_loss: float = Field(ge=0, description="Largest allowed drop of test AUROC below the champion")
