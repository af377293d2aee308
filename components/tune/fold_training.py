"""The training of `mura train` on one fold, without files and without MLflow."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from components.base.errors import UsageError
from components.params.train import TrainParams
from components.tracking.run import Unrecorded
from components.train import tf_config
from components.train.checkpoint import Checkpoint
from components.train.state import State
from components.train.training import Chief, Training
from components.train.tuning import Tuning
from components.tune.folds import Fold
from components.tune.searching import Measured


class _Watched(Unrecorded):
    """Hears of each epoch, in place of MLflow."""

    def __init__(self, measured: Measured) -> None:
        super().__init__()
        self._measured = measured

    def log_epoch(self, epoch: int, metrics: Any, at: int | None = None) -> None:  # noqa: ARG002
        """Pass the AUROC on."""
        self._measured(epoch, metrics["tuning_auroc"])


class _Unsaved(Checkpoint):
    """Saves nothing: a trial that is killed begins anew."""

    def __init__(self) -> None:
        super().__init__(Path())

    def save(self, values: Sequence[Any], state: State, kept: Callable[[], bytes]) -> None:
        """Do nothing."""


def train_fold(fold: Fold, params: TrainParams, seed: int, measured: Measured) -> None:
    """Train on a fold to the end, unless `measured` raises.

    The AUROC is that of `mura train`'s choice of the epoch: over studies, without the offsets of their body parts.

    Args:
        fold: the images.
        params: architecture and schedule.
        seed: of weights, order, augmentation and dropout. The same in all trials: they differ by their parameters only.
        measured: called after each epoch.

    Raises:
        Diverged: a loss is not finite.
        DataRefused: the shards are damaged.
        OutsideFailed: the device has too little memory.
    """
    # Networks of earlier folds would stay in memory.
    keras.utils.clear_session()
    with _without_lines_of_epochs():
        training = Training(fold, params, seed)
        held_out = Tuning(fold, params)
        training.fit(training.begin(), Chief(held_out, _Unsaved(), _Watched(measured)))


def check_alone() -> None:
    """Check that this process trains alone.

    Raises:
        UsageError: TF_CONFIG names other workers.
    """
    if tf_config.place().size > 1:
        raise UsageError(
            "tune: TF_CONFIG names several workers of one training, and a trial is trained by one process. Remove it, "
            "and start this command once for each process: they share the study."
        )


@contextmanager
def _without_lines_of_epochs() -> Iterator[None]:
    """What a training says of its epochs is about the tuning split, which is not read here."""
    said = logging.getLogger("components.train.training")
    before = said.level
    said.setLevel(logging.WARNING)
    try:
        yield
    finally:
        said.setLevel(before)
