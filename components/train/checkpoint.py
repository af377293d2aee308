"""What a killed training resumes from."""

import json
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pydantic import BaseModel

from components.base import space
from components.base.files import write_text
from components.train import mirror

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of the checkpoint's files. A checkpoint of another format is not resumed."""


class Epoch(BaseModel):
    """A row of the learning curves."""

    epoch: int
    """Counted from 1, over all phases."""
    phase: str
    learning_rate: float
    """In the middle of the epoch."""
    loss: float
    tuning_loss: float
    tuning_auroc: float

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers that are drawn over the epochs."""
        return self.model_dump(exclude={"epoch", "phase"})


class State(BaseModel):
    """How far a training is. With the arrays beside it, the training resumes as if it had not stopped."""

    format: int = FORMAT
    code: str
    """Digest of the code that trains. Other code may end with other weights."""
    precision: str
    run_id: str
    phase: int = 0
    epoch_in_phase: int = 0
    """Epochs completed in this phase."""
    curves: list[Epoch] = []
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """Epochs completed over all phases."""
        return len(self.curves)

    @property
    def best(self) -> Epoch:
        """The epoch with the best tuning AUROC; of several, the one with the lowest tuning loss."""
        return max(self.curves, key=lambda row: (row.tuning_auroc, -row.tuning_loss))

    def exhausted(self, patience: int) -> bool:
        """Whether the last `patience` epochs of this phase were not better than an earlier one."""
        return self.epoch_in_phase > patience and self.epochs - self.best.epoch >= patience


class Checkpoint:
    """The directory from which a training resumes.

    checkpoint/
        state.json              names the other two; written last, so they exist
        epoch-<n>.npz           all variables of model and optimiser after epoch n, random states included
        best-<n>.weights.h5     the model after epoch n, the best so far
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved: State | None = None
        """What was saved last, as far as this process knows."""
        self._file = path / "state.json"

    def state(self, code: str, precision: str) -> State | None:
        """The saved state, from here or from the mirror.

        Args:
            code: digest of the code that trains now.
            precision: the precision of this training.

        Returns:
            None if there is none, or if it cannot be resumed: then a line says why.
        """
        mirror.fetch(self.path)
        if not self._file.is_file():
            return None
        saved = json.loads(self._file.read_text(encoding="utf-8"))
        if saved.get("format") != FORMAT:
            reason = f"has format {saved.get('format', 1)}, and this version of the pipeline writes {FORMAT}"
        elif saved["code"] != code:
            reason = "was made by other code"
        elif saved["precision"] != precision:
            reason = f"is in {saved['precision']}, and this training is in {precision}"
        else:
            self.saved = State.model_validate(saved)
            return self.saved
        logger.warning("train: the checkpoint %s; training starts anew", reason)
        return None

    def begin(self, state: State) -> None:
        """Save the state before the first epoch, or before the next."""
        self._write(state)

    def best_weights(self, epoch: int) -> Path:
        """The file with the weights of the best epoch."""
        return self.path / f"best-{epoch}.weights.h5"

    def expect(self, model: keras.Model) -> None:
        """Check that there is room for what `save` writes.

        Raises:
            OutsideFailed: there is not.
        """
        weights = sum(np.asarray(each).nbytes for each in model.variables)
        everything = sum(np.asarray(each).nbytes for each in variables(model))
        there = sum(file.stat().st_size for file in self.path.iterdir())
        # The checkpoints of two epochs, the best weights of two, and the model itself.
        space.require(self.path, 2 * everything + 3 * weights - there, "the checkpoints and the model")

    def save(self, model: keras.Model, state: State) -> None:
        """Save everything after an epoch, then delete the files of earlier ones."""
        best = state.best.epoch
        if best == state.epochs:
            model.save_weights(self.best_weights(best))
        arrays = {f"{i:05d}": np.asarray(variable) for i, variable in enumerate(variables(model))}
        np.savez(self._arrays(state), allow_pickle=False, **arrays)
        self._write(state)

    def restore(self, model: keras.Model, state: State) -> None:
        """Set every variable to its value after the last completed epoch."""
        with np.load(self._arrays(state), allow_pickle=False) as saved:
            for i, variable in enumerate(variables(model)):
                variable.assign(saved[f"{i:05d}"])

    def keep(self) -> str:
        """Make sure that the mirror has the last epoch. Return where the checkpoint is, for people."""
        copy = mirror.keep(self.path)
        return f"{self.path} and {copy}" if copy else str(self.path)

    def _arrays(self, state: State) -> Path:
        return self.path / f"epoch-{state.epochs}.npz"

    def _write(self, state: State) -> None:
        write_text(self._file, state.model_dump_json())
        named = {self._arrays(state), self.best_weights(state.best.epoch)} if state.curves else set()
        for path in (*self.path.glob("epoch-*.npz"), *self.path.glob("best-*.weights.h5")):
            if path not in named:
                path.unlink()
        self.saved = state
        mirror.keep(self.path)


def variables(model: keras.Model) -> list[Any]:
    """All variables of model and optimiser. The random states of augmentation and dropout are among the model's."""
    return [*model.variables, *model.optimizer.variables]
