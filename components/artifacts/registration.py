"""The receipt for model versions in the registry."""

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.evaluation import Scores


class RegisteredModel(Facts):
    """One model version and what is known of it."""

    model: str
    """Name of the registered model."""
    version: int
    run_id: Provenance[str]
    candidate: str
    architecture: str
    model_digest: str
    evaluation_digest: str
    data_digest: str
    body_parts: tuple[str, ...] | None = None
    """The body parts that were chosen of the archive; None for all."""
    code_revision: Provenance[str]
    training_seconds: Provenance[float]
    scores: Scores


class RegistrationFacts(Facts):
    """All candidates of one run of the pipeline."""

    versions: tuple[RegisteredModel, ...]
    trial: str | None = None
    """DVC's name of the experiment, if this is one. Nothing is registered then, and there are no versions."""


class Registration(Artifact[RegistrationFacts]):
    """The result of `mura register`: the versions in the registry. A trial has none.

    registration/
        card.json           the receipt
        <candidate>.json    one version each
    """

    FACTS = RegistrationFacts
    STEP = "register"
    CONTENT = ("*.json",)
