"""How far a training is, as `state.json` of its checkpoint says it. It is believed only if everything fits together."""

import os
import stat
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.artifacts.artifact import File
from components.base.files import json_sha256
from components.train.phases import Phase

FORMAT = 3
"""Of the checkpoint's files. A checkpoint of another format is not resumed."""
# Largest state, bytes: some 20,000 epochs.
MOST = 4 << 20


class Doubtful(Exception):
    """A checkpoint that must not be gone on with. The message completes "the checkpoint ..."."""


class _Strict(BaseModel):
    """No type is converted, no number is NaN, no key is unknown."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Origin(_Strict):
    """What made a checkpoint. Another training may end with other weights, and does not go on from it."""

    shards: str
    """Digest."""
    params: dict[str, Any]
    seed: int
    precision: str
    code: str
    """Digest of the code that trains."""

    def difference(self, now: Self) -> str | None:
        """How this one differs from that of the training that runs now. None if it does not."""
        if self.code != now.code:
            return "was made by other code"
        if self.precision != now.precision:
            return f"is in {self.precision}, and this training is in {now.precision}"
        if self.shards != now.shards:
            return "was made from other shards"
        if self.seed != now.seed:
            return f"has seed {self.seed}, and this training has {now.seed}"
        if self.params != now.params:
            other = (name for name, value in now.params.items() if self.params.get(name) != value)
            return f"was made with other parameters ({next(other, 'some that are unknown')})"
        return None


class Epoch(_Strict):
    """A row of the learning curves."""

    epoch: int = Field(ge=1)
    """Counted from 1, over all phases."""
    phase: str
    learning_rate: float = Field(ge=0)
    """In the middle of the epoch."""
    loss: float
    tuning_loss: float
    tuning_auroc: float = Field(ge=0, le=1)

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers that are drawn over the epochs."""
        return self.model_dump(exclude={"epoch", "phase"})


class State(_Strict):
    """How far a training is. With the arrays beside it, the training resumes as if it had not stopped."""

    format: int = FORMAT
    origin: Origin
    run_id: str = Field(default="", pattern=r"^[\w-]{0,64}$")
    """Of MLflow."""
    phase: int = Field(default=0, ge=0)
    epoch_in_phase: int = Field(default=0, ge=0)
    """Epochs completed in this phase."""
    curves: list[Epoch] = []
    seconds: float = Field(default=0.0, ge=0)
    files: dict[str, File] = {}
    """Size and sha256 of the files beside this one, by name."""
    checksum: str = ""
    """sha256 of all above."""

    @property
    def epochs(self) -> int:
        """Epochs completed over all phases."""
        return len(self.curves)

    @property
    def best(self) -> Epoch:
        """The epoch with the best tuning AUROC; of several, the one with the lowest tuning loss."""
        return max(self.curves, key=lambda row: (row.tuning_auroc, -row.tuning_loss))

    @property
    def arrays_name(self) -> str:
        """The file with all variables after the last epoch."""
        return f"epoch-{self.epochs}.npz"

    @property
    def best_name(self) -> str:
        """The file with the weights of the best epoch."""
        return f"best-{self.best.epoch}.weights.h5"

    def exhausted(self, patience: int | str) -> bool:
        """Whether the last `patience` epochs of this phase were not better than an earlier one. "none": never."""
        return (
            isinstance(patience, int) and self.epoch_in_phase > patience and self.epochs - self.best.epoch >= patience
        )

    def computed_checksum(self) -> str:
        """What `checksum` is if nothing has changed."""
        return json_sha256(self.model_dump(exclude={"checksum"}))

    def fits(self, planned: Sequence[Phase]) -> bool:
        """Whether a training of these phases can be so far."""
        if not self.curves:
            return not (self.phase or self.epoch_in_phase or self.files)
        done = [(name, len(list(rows))) for name, rows in groupby(row.phase for row in self.curves)]
        counts = [count for _, count in done]
        return (
            self.phase < len(planned)
            and [name for name, _ in done] == [phase.name for phase in planned[: self.phase + 1]]
            and counts[-1] == self.epoch_in_phase
            and all(count <= phase.epochs for count, phase in zip(counts, planned, strict=False))
            and [row.epoch for row in self.curves] == list(range(1, self.epochs + 1))
            and set(self.files) == {self.arrays_name, self.best_name}
        )


def read(path: Path, origin: Origin, planned: Sequence[Phase]) -> State:
    """Read a state.

    Args:
        path: the file.
        origin: of the training that runs now.
        planned: its phases.

    Raises:
        Doubtful: the file is damaged, or of another training.
    """
    content = _content(path)
    try:
        found = _Versioned.model_validate_json(content).format
        if found != FORMAT:
            raise Doubtful(f"has format {found}, and this version of the pipeline writes {FORMAT}")
        state = State.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:4])
        raise Doubtful(f"is damaged ({path.name}: {where and where + ': '}{first['msg']})") from error
    if state.checksum != state.computed_checksum():
        raise Doubtful(f"is damaged ({path.name}: changed since it was written)")
    if other := state.origin.difference(origin):
        raise Doubtful(other)
    if not state.fits(planned):
        raise Doubtful(f"is damaged ({path.name}: no training of these phases can be so far)")
    if state.model_dump_json().encode() != content:
        raise Doubtful(f"is damaged ({path.name}: it says the same in another form)")
    return state


class _Versioned(BaseModel):
    """What a state of any format has."""

    format: int = 1


def _content(path: Path) -> bytes:
    """The content of a regular file that is not too large. Nothing is waited for, no link is followed."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - a handle
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and len(content := file.read(MOST + 1)) <= MOST:
                return content
    except OSError as error:
        raise Doubtful(f"cannot be read ({path.name}: {error.strerror})") from error
    raise Doubtful(f"is damaged ({path.name}: not a file of a few kilobytes)")
