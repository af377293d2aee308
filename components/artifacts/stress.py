"""How much worse a model becomes when its pictures are disturbed."""

from pathlib import Path
from typing import Any

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.evaluation import Interval
from components.base.names import Name

DROPS = "stress.json"
REPORT = "report.html"


class Disturbed(Facts):
    """One disturbance at one strength."""

    name: str
    """rotation, brightness, contrast, jpeg, crop, inversion or noise."""
    strength: float
    auroc: float | None
    cohen_kappa: float | None
    auroc_drop: Interval
    """Undisturbed minus disturbed, the same patients; positive if the disturbance does harm."""
    cohen_kappa_drop: Interval


class StressFacts(Facts):
    """Which model, on which studies, and what every disturbance costs."""

    candidate: Name
    architecture: Name
    model_digest: str
    shards_digest: str
    evaluation_digest: str
    """Whose threshold it is."""
    tuning_digest: str
    """Which tuning studies, with which labels and pixels."""
    code_revision: Provenance[str]
    params: dict[str, Any]
    """The `stress` section it was measured with."""
    seed: int
    """Of the disturbances."""
    threshold: float
    """The evaluation's: it is not chosen anew."""
    n_studies: int
    n_abnormal: int
    n_patients: int
    auroc: float | None
    """Undisturbed; not cross-fitted, so it may differ a little from the evaluation's."""
    cohen_kappa: float | None
    disturbed: tuple[Disturbed, ...]
    """By disturbance, the weakest strength first."""


class Stress(Artifact[StressFacts]):
    """What disturbed pictures cost, on the tuning studies.

    stress/<candidate>/
        card.json
        stress.json     the same numbers: undisturbed, and a list of disturbances with their drops
        report.html     the same for people, with a chart and an example of each disturbance
    """

    FACTS = StressFacts
    STEP = "stress"
    CONTENT = (DROPS,)

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / REPORT
