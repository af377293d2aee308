"""Train one network.

training.py          the training: one loop for the chief and for the workers beside it
phases.py            head first, then all layers: epochs, learning rates, optimiser
optimiser.py         AdamW, as it steps
averaging.py         the moving average of the weights, which is measured and kept
tuning.py            the tuning split, on which every epoch is measured
checkpoint.py        what a killed training resumes from
state.py             how far a training is, as the checkpoint says it
mirror.py            a copy of the checkpoint on S3
termination.py       SIGTERM: the training ends after the last saved epoch
multi_worker.py      the processes that train one network together
meeting.py           the workers wait for each other, and not without limit
tf_config.py         which of these processes this one is
input_benchmark.py   `mura bench input`: what limits the speed of the input
"""

from collections.abc import Callable
from pathlib import Path

from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base.step import Declaration
from components.params.train import TrainParams
from components.train import tf_config


def train(shards: Shards, params: TrainParams, seed: int, out: Path) -> TrainedModel:
    """Train one network on the training split; the tuning split alone decides when to stop and what to keep.

    With pretrained weights the head is trained first, then all layers. After every epoch a checkpoint is saved: if the
    training is killed, the same command resumes it and ends with the same weights. The model keeps the weights of the
    epoch with the best study-level AUROC on the tuning split; with `averaging` these are the averaged weights.

    SIGTERM ends the training at once with 143; what is being saved is saved first.

    Args:
        shards: where the images are.
        params: architecture and schedule.
        seed: seed of weights, order, augmentation and dropout.
        out: where the model is written; holds the checkpoint until then.

    Raises:
        DataRefused: the shards are damaged, or a split lacks a label.
        UsageError: the parameters contradict each other, or the training diverged.
        OutsideFailed: the device has too little memory, or another worker is lost.
        ServiceUnreachable: MLflow, or the download of pretrained weights, did not answer.
    """
    from components.train import training

    return training.run(shards, params, seed, out)


def _assistant() -> Callable[..., None] | None:
    """What this process runs where TF_CONFIG makes it a worker beside the chief. Only the chief writes the model."""
    if not tf_config.place().rank:
        return None
    from components.train import training

    return training.assist


def _check() -> None:
    """Check that somebody said where MLflow is, or that there is none. Only the chief reports to it."""
    if tf_config.place().rank:
        return
    from components import tracking

    tracking.locate()


DECLARES = Declaration(check=_check, instead=_assistant)
