"""What a killed training resumes from."""

import logging
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from components.artifacts.artifact import File
from components.base import space
from components.base.errors import OutsideFailed
from components.base.files import INPUTS, settle, write_bytes, write_text
from components.train import mirror
from components.train.phases import Phase
from components.train.state import Doubtful, Origin, State, read

logger = logging.getLogger(__name__)

STATE = "state.json"


class Checkpoint:
    """The directory from which a training resumes.

    checkpoint/
        state.json              how far the training is; size and sha256 of the other two. Written last
        epoch-<n>.npz           all variables of model, optimiser and averages after epoch n, random states included
        best-<n>.weights.h5     the model after epoch n, the best so far
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved: State | None = None
        """What was saved last, as far as this process knows."""
        self._file = path / STATE

    def state(self, origin: Origin, planned: Sequence[Phase]) -> State | None:
        """The saved state, from here or from the mirror.

        Args:
            origin: of the training that runs now.
            planned: its phases.

        Returns:
            None if there is none, or if it cannot be gone on with: then a line says why.
        """
        try:
            if state := self._believed(origin, planned):
                return state
        except Doubtful as doubt:
            if not mirror.is_set():
                self.reject(doubt)
                return None
            logger.warning("train: the checkpoint %s; its copy on S3 is used if there is one", doubt)
            self._clear(keep={INPUTS})
        mirror.fetch(self.path)
        try:
            return self._believed(origin, planned)
        except Doubtful as doubt:
            self.reject(doubt)
            return None

    def reject(self, doubt: Doubtful) -> None:
        """Say why the training does not go on from here. The next `begin` removes what there is."""
        logger.warning("train: the checkpoint %s; training starts anew", doubt)
        self.saved = None

    def begin(self, state: State) -> None:
        """Save the state before the first epoch, or before the next."""
        self._write(state)

    def best_weights(self, state: State) -> Path:
        """The file with the weights of the best epoch."""
        return self.path / state.best_name

    def copy_best(self, state: State, to: Path) -> None:
        """Copy the weights of the best epoch. The checkpoint stays whole: the next attempt may need it.

        Raises:
            OutsideFailed: the file is no longer what was saved.
        """
        kept = self.best_weights(state)
        try:
            _check(kept, state.files[kept.name])
            shutil.copyfile(kept, to)
            _check(to, state.files[kept.name])
        except Doubtful as doubt:
            raise OutsideFailed(
                f"train: the checkpoint {doubt} although this training has saved it. The disk or the memory of this "
                "machine may be broken. The same command trains anew."
            ) from doubt

    def expect(self, weights: int, copies: int) -> None:
        """Check that there is room for what a training writes.

        Args:
            weights: bytes of the network.
            copies: how many arrays there are of each weight: itself, what the optimiser keeps of it, its average.

        Raises:
            OutsideFailed: there is not.
        """
        there = sum(path.lstat().st_size for path in self.path.iterdir())
        # The checkpoints of two epochs, the best weights of two, and the model itself.
        needed = (2 * copies + 3) * weights
        space.require(self.path, needed - there, "the checkpoints and the model", largest=copies * weights)

    def save(self, values: Sequence[Any], state: State, kept: Callable[[], bytes]) -> None:
        """Save everything after an epoch, then delete the files of earlier ones.

        Args:
            values: every variable of the training.
            state: how far it is.
            kept: the file of the weights to keep; asked for if the epoch was the best.

        Raises:
            OutsideFailed: there is no room.
        """
        arrays = {f"{i:05d}": np.asarray(variable) for i, variable in enumerate(values)}
        needed = sum(array.nbytes for array in arrays.values())
        files = {name: file for name, file in state.files.items() if name == state.best_name}
        best = kept() if state.best.epoch == state.epochs else b""
        space.require(self.path, needed + len(best), f"the checkpoint of epoch {state.epochs}")
        if best:
            write_bytes(self.best_weights(state), best)
            files[state.best_name] = File.of(self.best_weights(state))
        path = self.path / state.arrays_name
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        settle(path)
        settle(self.path)
        state.files = files | {path.name: File.of(path)}
        self._write(state)

    def arrays(self, values: Sequence[Any], state: State) -> list[NDArray[Any]]:
        """The value of every variable after the last completed epoch.

        Args:
            values: the variables.
            state: says which epoch.

        Raises:
            Doubtful: the file has variables of something else.
        """
        path, wanted = self.path / state.arrays_name, values
        try:
            with zipfile.ZipFile(path) as saved:
                if len(saved.namelist()) != len(wanted):
                    raise ValueError(f"{len(saved.namelist())} variables, and the training has {len(wanted)}")
                return [_array(saved, f"{i:05d}.npy", np.asarray(each)) for i, each in enumerate(wanted)]
        except (ValueError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise Doubtful(f"is damaged ({path.name}: {error})") from error

    def restore(self, values: Sequence[Any], state: State) -> None:
        """Set every variable to its value after the last completed epoch."""
        for variable, value in zip(values, self.arrays(values, state), strict=True):
            variable.assign(value)

    def keep(self) -> str:
        """Make sure that the mirror has the last epoch. Return where the checkpoint is, for people."""
        copy = mirror.keep(self.path)
        return f"{self.path} and {copy}" if copy else str(self.path)

    def _believed(self, origin: Origin, planned: Sequence[Phase]) -> State | None:
        """The state that is here, with the files that it names. None if nothing is here.

        Raises:
            Doubtful: something is damaged, or of another training.
        """
        if not any(path.name != INPUTS and not path.name.startswith(".") for path in self.path.iterdir()):
            return None
        state = read(self._file, origin, planned)
        for name, file in state.files.items():
            _check(self.path / name, file)
        self.saved = state
        return state

    def _write(self, state: State) -> None:
        state.checksum = state.computed_checksum()
        write_text(self._file, state.model_dump_json())
        self._clear(keep={INPUTS, STATE, *state.files})
        self.saved = state
        mirror.keep(self.path)

    def _clear(self, keep: set[str]) -> None:
        for path in self.path.iterdir():
            if path.name in keep:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _check(path: Path, file: File) -> None:
    """Check that a file is what was saved.

    Raises:
        Doubtful: it is not.
    """
    try:
        there = path.lstat()
        same = stat.S_ISREG(there.st_mode) and there.st_size == file.bytes and File.of(path) == file
    except OSError as error:
        raise Doubtful(f"cannot be read ({path.name}: {error.strerror})") from error
    if not same:
        raise Doubtful(f"is damaged ({path.name}: changed since it was written)")


def _array(saved: zipfile.ZipFile, name: str, like: NDArray[Any]) -> NDArray[Any]:
    """An array of a file, if it has the shape and the type of another. No more is read than that one has."""
    with saved.open(name) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, in_columns, kind = header(file)
        if (shape, kind) != (like.shape, like.dtype):
            raise ValueError(f"variable {name} is {kind} {shape}, and the training has {like.dtype} {like.shape}")
        content = file.read(like.nbytes)
        return np.frombuffer(content, kind).reshape(shape, order="F" if in_columns else "C")
