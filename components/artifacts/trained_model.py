"""A network that was trained, or several as one: an ensemble."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.base.names import Name

WEIGHTS = "model.weights.h5"
CURVES = "curves.csv"
ENSEMBLE = "ensemble"
"""The architecture of an ensemble, and the step that makes it."""


class TrackedRun(Facts):
    """Where the training was tracked."""

    run_id: str
    model_uri: str
    """`models:/m-...`, the logged model."""


class Offsets(Facts):
    """By how much the weights of the loss raised the network's logits, in logits (components/scores/offsets.py)."""

    body_part: dict[str, float]
    """Of each body part that trained the network."""
    pooled: float
    """Of all these together: for a body part that is not among them."""


class Member(Facts):
    """A network of an ensemble. The ensemble takes intercept + slope * logit of it."""

    candidate: str
    architecture: str
    params: dict[str, Any]
    """The `train` section it was trained with."""
    seed: int
    parameters: int
    """Number of weights."""
    model_digest: str
    evaluation_digest: str
    """Of the evaluation that intercept and slope are from."""
    intercept: float
    slope: float = Field(ge=0)


class TrainedModelFacts(Facts):
    """The model's card: what it is, what it learned from, and how it went.

    An ensemble was not trained: it has members, and no epochs, phases, seed or tuning metrics.
    """

    candidate: Name
    """Its name in params.yaml."""
    architecture: Name
    image_size: int
    parameters: int
    """Number of weights."""
    params: dict[str, Any]
    """The `train` section it was trained with; of an ensemble, its entry of `ensembles`."""
    seed: int | None = None
    precision: str
    device: Provenance[str]
    phases: tuple[str, ...] = ()
    epochs: int = 0
    best_epoch: int = 0
    """Counted from 1 over all phases; its weights are the ones kept."""
    tuning: dict[str, float] = Field(default={})
    """Metrics on the tuning split at the best epoch."""
    members: tuple[Member, ...] = ()
    """The networks of an ensemble, which has its answers from nothing else."""
    left_out: tuple[Member, ...] = ()
    """Networks that were to be members and rank backwards on tuning: their slope is 0."""
    offsets: Offsets
    """What is subtracted from the logits of studies: the loss was weighted, and the world is not. Of an ensemble, the
    mean of its members'."""
    seconds: Provenance[float]
    """Of the training; of an ensemble, of its members' trainings together."""
    data_digest: str
    archive_md5: Provenance[str | None] = None
    shards_digest: str
    code_revision: Provenance[str]
    environment: Provenance[dict[str, str]]
    run: Provenance[TrackedRun]
    """Empty if no training told MLflow of it: `register` publishes it."""

    @model_validator(mode="after")
    def _trained_or_ensemble(self) -> Self:
        trained = self.seed is not None and self.epochs > 0 and self.best_epoch > 0
        if trained == bool(self.members) or bool(self.members) != (self.architecture == ENSEMBLE):
            raise ValueError(f"expected a training's seed and epochs, or an {ENSEMBLE}'s members")
        return self


class TrainedModel(Artifact[TrainedModelFacts]):
    """Weights and their card. Takes pixels [0, 255], gives a logit; every scaling lives inside.

    model/<candidate>/
        card.json
        model.weights.h5    Keras weights; the architecture is built from code, nothing is unpickled
        curves.csv          epoch, phase, learning_rate (in the middle of the epoch), loss, tuning_loss, tuning_auroc;
                            an ensemble has none
    """

    FACTS = TrainedModelFacts
    STEP = "train"
    CONTENT = (WEIGHTS, CURVES)

    @property
    def step(self) -> str:
        """`train`, or `ensemble`."""
        return ENSEMBLE if self.facts.members else self.STEP

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.path / WEIGHTS

    @property
    def curves(self) -> Path:
        """The learning curves, CSV."""
        return self.path / CURVES
