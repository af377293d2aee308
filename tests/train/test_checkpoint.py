"""What a training resumes from, when it is whole, damaged, planted or of another training. No network is trained."""

import errno
import json
import logging
import math
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from components.base.errors import OutsideFailed
from components.base.files import INPUTS, json_sha256
from components.network import weights_file
from components.train.checkpoint import Checkpoint
from components.train.phases import Phase
from components.train.state import Doubtful, Epoch, Origin, State

PLANNED = (Phase("head", 1, 0.1, "head_learning_rate"), Phase("all", 3, 0.1, "learning_rate"))
ORIGIN = Origin(shards="5a", params={"epochs": 3, "dropout": 0.2}, seed=1, precision="float32", code="c0de")
BEST, ARRAYS, STATE = "best-1.weights.h5", "epoch-2.npz", "state.json"


def network(units: int = 3) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    model.compile(keras.optimizers.AdamW(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def row(epoch: int, phase: str, auroc: float) -> Epoch:
    return Epoch(epoch=epoch, phase=phase, learning_rate=0.1, loss=0.5, tuning_loss=0.6, tuning_auroc=auroc)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return network()


@pytest.fixture(scope="module")
def begun(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After two epochs, one in each phase, of which the first was better."""
    path = tmp_path_factory.mktemp("begun")
    (path / INPUTS).write_text("f00d")
    checkpoint, state = Checkpoint(path), State(origin=ORIGIN, run_id="ab" * 16, seconds=2.5)
    checkpoint.begin(state)
    for phase, after in enumerate((row(1, "head", 0.9), row(2, "all", 0.8))):
        state.phase, state.epoch_in_phase = phase, 1
        state.curves.append(after)
        checkpoint.save(variables(model), state, lambda: weights_file.content(model))
    return path


@pytest.fixture
def here(begun: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(begun, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the state as a forger would, who knows how the checksum is made."""
    state = json.loads((path / STATE).read_text())
    change(state)
    state["checksum"] = json_sha256({name: value for name, value in state.items() if name != "checksum"})
    (path / STATE).write_text(json.dumps(state))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_was_saved_is_read_again(here: Path, model: keras.Model, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint(here)
    state = checkpoint.state(ORIGIN, PLANNED)
    assert state is not None
    assert (state.epochs, state.phase, state.best.epoch, state.seconds) == (2, 1, 1, 2.5)
    for array, variable in zip(checkpoint.arrays(variables(model), state), variables(model), strict=True):
        np.testing.assert_array_equal(array, np.asarray(variable))
    assert sorted(path.name for path in here.iterdir()) == [BEST, ARRAYS, INPUTS, STATE]
    assert warnings(caplog) == []


def test_an_empty_checkpoint_is_none_and_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Also where the first attempt was killed while it wrote the first file.
    (tmp_path / INPUTS).write_text("f00d")
    (tmp_path / ".state.json.partial").write_text("{")
    assert Checkpoint(tmp_path).state(ORIGIN, PLANNED) is None
    assert warnings(caplog) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def link(path: Path) -> None:
    shutil.copy(path, path.with_name(".copy"))
    path.unlink()
    path.symlink_to(".copy")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" x")


@pytest.mark.parametrize("damage", [cut, flip, link, folder, pipe, empty, longer, Path.unlink])
@pytest.mark.parametrize("name", [STATE, ARRAYS, BEST])
def test_a_damaged_file_is_named_in_one_warning(
    here: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], name: str
) -> None:
    damage(here / name)
    assert Checkpoint(here).state(ORIGIN, PLANNED) is None
    (warning,) = warnings(caplog)
    assert warning.startswith(("train: the checkpoint is damaged (", "train: the checkpoint cannot be read ("))
    assert warning.endswith("; training starts anew")
    assert name in warning
    assert "\n" not in warning


def test_a_new_beginning_leaves_nothing_of_what_was_there(here: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("the only copy")
    (here / ARRAYS).unlink()
    (here / ARRAYS).symlink_to(precious / "file")
    (here / "epoch-1.npz").symlink_to(precious)
    (here / "epoch-3.npz").mkdir()
    checkpoint = Checkpoint(here)
    assert checkpoint.state(ORIGIN, PLANNED) is None
    checkpoint.begin(State(origin=ORIGIN))
    assert sorted(path.name for path in here.iterdir()) == [INPUTS, STATE]
    assert (precious / "file").read_text() == "the only copy"


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 10_000_000,
        b'{"a":' * 2_000_000,
        b'{"format": 3}',
        b'{"format": "3"}',
        b'{"format": 1e999}',
    ],
    ids=["cut", "list", "null", "no text", "deep lists", "deep objects", "bare", "a word", "infinite"],
)
def test_a_state_of_something_else_is_told(here: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    (here / STATE).write_bytes(content)
    assert Checkpoint(here).state(ORIGIN, PLANNED) is None
    (warning,) = warnings(caplog)
    assert warning.startswith("train: the checkpoint is damaged (state.json: ")
    assert len(warning) < 300


def first_row(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state["curves"][0].update(values)


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "text for a number": lambda state: state.update(phase="1"),
    "a number too many": lambda state: state.update(more=1),
    "a list for a section": lambda state: state.update(origin=[]),
    "no list of epochs": lambda state: state.update(curves=None),
    "an epoch that is none": lambda state: state.update(curves=[1, 2]),
    "truth for a number": lambda state: state.update(epoch_in_phase=True),
    "a negative phase": lambda state: state.update(phase=-1),
    "a phase that is not planned": lambda state: state.update(phase=2),
    "more epochs than planned": lambda state: state.update(epoch_in_phase=2),
    "no epoch of this phase": lambda state: state.update(epoch_in_phase=0),
    "a phase passed over": first_row(phase="all"),
    "epoch 0": first_row(epoch=0),
    "an epoch twice": first_row(epoch=2),
    "a loss that is no number": first_row(loss=math.nan),
    "an infinite loss": first_row(tuning_loss=math.inf),
    "an AUROC above 1": first_row(tuning_auroc=1.5),
    "seconds that are no number": lambda state: state.update(seconds=math.nan),
    "negative seconds": lambda state: state.update(seconds=-1.0),
    "a run elsewhere": lambda state: state.update(run_id="../../x"),
    "a file elsewhere": lambda state: state["files"].update({"../x": {"bytes": 0, "sha256": ""}}),
    "no files": lambda state: state.update(files={}),
    "a file of no size": lambda state: state["files"][BEST].update(bytes=None),
    "another best epoch": first_row(tuning_auroc=0.1),
    "epochs and no files": lambda state: state.update(curves=[], files={}),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_state_that_cannot_be_is_not_believed_though_its_checksum_is_right(
    here: Path, caplog: pytest.LogCaptureFixture, change: Callable[[dict[str, Any]], Any]
) -> None:
    rewritten(here, change)
    assert Checkpoint(here).state(ORIGIN, PLANNED) is None
    (warning,) = warnings(caplog)
    assert warning.startswith("train: the checkpoint is damaged (state.json: ")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "has format 2, and this version of the pipeline writes 3"),
        ({"code": "beef"}, "was made by other code"),
        ({"precision": "mixed_bfloat16"}, "is in mixed_bfloat16, and this training is in float32"),
        ({"shards": "beef"}, "was made from other shards"),
        ({"seed": 2}, "has seed 2, and this training has 1"),
        ({"params": {"epochs": 3, "dropout": 0.3}}, "was made with other parameters (dropout)"),
    ],
)
def test_a_checkpoint_of_another_training_is_told(
    here: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], reason: str
) -> None:
    rewritten(here, lambda state: (state if "format" in change else state["origin"]).update(change))
    assert Checkpoint(here).state(ORIGIN, PLANNED) is None
    assert warnings(caplog) == [f"train: the checkpoint {reason}; training starts anew"]


def forged_arrays(here: Path, **arrays: Any) -> State:
    """A file of other variables, with its right checksum."""
    np.savez(here / ARRAYS, **arrays)
    state = State.model_validate_json((here / STATE).read_text())
    state.files[ARRAYS] = type(state.files[ARRAYS]).of(here / ARRAYS)
    return state


def test_variables_of_another_network_are_not_taken(here: Path, model: keras.Model, tmp_path: Path) -> None:
    with np.load(here / ARRAYS) as saved:
        good = dict(saved)
    for wrong in (
        {"00000": np.zeros((4, 2), np.float32)},
        {"00000": good["00000"].astype(np.float64)},
        {"00000": np.array([{}], object)},
        {"more": np.zeros(1)},
    ):
        state = forged_arrays(here, **good | wrong)
        with pytest.raises(Doubtful, match=r"^is damaged \(epoch-2.npz: "):
            Checkpoint(here).arrays(variables(model), state)
    for content in (b"", b"PK", (here / BEST).read_bytes()):
        (here / ARRAYS).write_bytes(content)
        with pytest.raises(Doubtful, match=r"^is damaged \(epoch-2.npz: "):
            Checkpoint(here).arrays(variables(model), state)


def test_weights_that_changed_since_they_were_saved_do_not_become_a_model(here: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(here)
    state = checkpoint.state(ORIGIN, PLANNED)
    assert state is not None
    flip(here / BEST)
    with pytest.raises(OutsideFailed, match=rf"{BEST}: changed since it was written.* trains anew"):
        checkpoint.copy_best(state, tmp_path / "model.weights.h5")


# A full disk.


def test_weights_are_the_bytes_that_keras_writes_of_a_network_without_an_optimiser(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.save_weights(tmp_path / "a.weights.h5")
    model.compile(keras.optimizers.AdamW(), "mse")
    model.optimizer.build(model.trainable_variables)
    assert weights_file.content(model) == (tmp_path / "a.weights.h5").read_bytes()


def test_a_disk_that_fills_while_weights_are_written_is_an_error_of_the_system(here: Path) -> None:
    """HDF5 on a full disk ends a process with a segmentation fault, later, whatever is caught."""
    large, state = network(30_000), State(origin=ORIGIN, phase=1, epoch_in_phase=1, curves=[row(1, "all", 0.9)])
    checkpoint, before = Checkpoint(here), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            checkpoint.save(variables(large), state, lambda: weights_file.content(large))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert full.value.errno == errno.EFBIG
    # What was saved before is still there.
    assert Checkpoint(here).state(ORIGIN, PLANNED) is not None


def test_an_epoch_that_does_not_fit_says_what_it_needs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(here)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    state = State(origin=ORIGIN, phase=1, epoch_in_phase=1, curves=[row(1, "all", 0.9)])
    with pytest.raises(OutsideFailed, match=f"{here}: the checkpoint of epoch 1 will take 2.4 MB, and 1.0 MB are free"):
        Checkpoint(here).save(variables(network(30_000)), state, lambda: bytes(600_000))


def test_checkpoints_that_cannot_fit_are_refused_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, kept = 4_000_000, Checkpoint(tmp_path)
    kept.expect(large, 3)
    full = shutil.disk_usage(tmp_path)._replace(free=30_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    # Three arrays for each weight in two checkpoints; the weights alone in two files of the best and in the model.
    with pytest.raises(
        OutsideFailed, match=f"{tmp_path}: the checkpoints and the model will take 36.0 MB, and 30.0 MB are free"
    ):
        kept.expect(large, 3)
