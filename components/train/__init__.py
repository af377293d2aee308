"""Train one network."""

from collections.abc import Callable
from pathlib import Path

from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base.step import Declaration
from components.params.train import TrainParams


def train(shards: Shards, params: TrainParams, seed: int, out: Path) -> TrainedModel:
    """Train one network on the training split; the tuning split alone decides when to stop and what to keep.

    With pretrained weights the head is trained first, then all layers. After every epoch everything needed
    to go on is saved: killed and started again, the same command ends in the same weights. The weights kept
    are those of the epoch with the best study-level AUROC on the tuning split.

    Args:
        shards: where the images are.
        params: architecture and schedule.
        seed: of weights, order, augmentation and dropout.
        out: where the model is written; holds the checkpoint until then.

    Raises:
        DataRefused: the shards are damaged, or a split lacks a label.
        ServiceUnreachable: MLflow, or the download of pretrained weights, did not answer.
    """
    from components.train import training

    return training.run(shards, params, seed, out)


def _assistant() -> Callable[..., None] | None:
    """What this process runs if TF_CONFIG makes it a worker beside the chief, which alone writes the model."""
    from components.train import multi_worker

    if not multi_worker.place().rank:
        return None
    from components.train import training

    return training.assist


DECLARES = Declaration(instead=_assistant)
