"""A network that was trained."""

from pathlib import Path
from typing import Any

from components.artifacts.artifact import Artifact, Facts, Provenance

WEIGHTS = "model.weights.h5"
CURVES = "curves.csv"


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


class TrainedModelFacts(Facts):
    """The model's card: what it is, what it learned from, and how it went."""

    candidate: str
    """Its name in params.yaml."""
    architecture: str
    image_size: int
    parameters: int
    """Number of weights."""
    params: dict[str, Any]
    """The `train` section it was trained with."""
    seed: int
    precision: str
    device: Provenance[str]
    phases: tuple[str, ...]
    epochs: int
    best_epoch: int
    """Counted from 1 over all phases; its weights are the ones kept."""
    tuning: dict[str, float]
    """Metrics on the tuning split at the best epoch."""
    offsets: Offsets
    """What is subtracted from the logits of studies: the loss was weighted, and the world is not."""
    seconds: Provenance[float]
    data_digest: str
    archive_md5: Provenance[str | None] = None
    shards_digest: str
    code_revision: Provenance[str]
    environment: Provenance[dict[str, str]]
    run: Provenance[TrackedRun]


class TrainedModel(Artifact[TrainedModelFacts]):
    """Weights and their card. Takes pixels [0, 255], gives a logit; every scaling lives inside.

    model/<candidate>/
        card.json
        model.weights.h5    Keras weights; the architecture is built from code, nothing is unpickled
        curves.csv          epoch, phase, learning_rate (in the middle of the epoch), loss, tuning_loss, tuning_auroc
    """

    FACTS = TrainedModelFacts
    STEP = "train"
    CONTENT = (WEIGHTS, CURVES)

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.path / WEIGHTS

    @property
    def curves(self) -> Path:
        """The learning curves, CSV."""
        return self.path / CURVES
