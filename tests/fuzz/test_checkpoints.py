"""Checkpoints and weights: whatever lies there, a training goes on from what was saved or begins anew with one warning,
and weights are loaded or refused."""

import contextlib
import io
import json
import logging
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from fuzz_outcome import assert_one_line, fuzz, mutated
from pydantic import ValidationError

from components.artifacts.trained_model import WEIGHTS, TrainedModel
from components.base.errors import DataRefused, printable
from components.base.files import INPUTS, file_sha256, json_sha256
from components.network import architectures, weights_file
from components.train.checkpoint import Checkpoint
from components.train.phases import Phase
from components.train.state import Doubtful, Epoch, Origin, State

pytestmark = pytest.mark.long

PLANNED = (Phase("all", 3, 0.1, "learning_rate"),)
ORIGIN = Origin(shards="5a", params={"epochs": 3, "dropout": 0.2}, seed=1, precision="float32", code="c0de")
STATE, ARRAYS, BEST = "state.json", "epoch-2.npz", "best-1.weights.h5"
STRANGE: tuple[Any, ...] = (None, True, -1, 10**30, 1e308, float("nan"), "", "\x1b[2J", "../../x", [], {}, [[]] * 1000)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.AdamW(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


@pytest.fixture(scope="module")
def whole(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After two epochs, of which the first was better."""
    path = tmp_path_factory.mktemp("whole")
    (path / INPUTS).write_text("f00d")
    checkpoint, state = Checkpoint(path), State(origin=ORIGIN, run_id="ab" * 16, seconds=2.5)
    checkpoint.begin(state)
    for epoch, auroc in ((1, 0.9), (2, 0.8)):
        state.epoch_in_phase = epoch
        state.curves.append(
            Epoch(epoch=epoch, phase="all", learning_rate=1e-05, loss=0.5, tuning_loss=0.6, tuning_auroc=auroc)
        )
        checkpoint.save(variables(model), state, lambda: weights_file.content(model))
    assert {path.name for path in path.iterdir()} == {INPUTS, STATE, ARRAYS, BEST}
    return path


@pytest.mark.parametrize("forged", [False, True], ids=["damaged", "forged"])
def test_a_training_goes_on_from_what_was_saved_or_begins_anew_with_one_warning(
    model: keras.Model, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, forged: bool
) -> None:
    here = tmp_path / "checkpoint"
    before = [np.asarray(variable) for variable in variables(model)]

    def once(draw: Random) -> None:
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(whole, here)
        harm = forge if forged else damage
        changed = harm(here, draw)
        caplog.clear()
        checkpoint = Checkpoint(here)
        state = checkpoint.state(ORIGIN, PLANNED)
        told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        if state is None:
            (line,) = told
            assert_one_line(printable(line))
            assert len(line) < 500
            return
        assert told == []
        try:
            arrays = checkpoint.arrays(variables(model), state)
        except Doubtful as doubt:
            assert changed
            assert_one_line(printable(str(doubt)))
            return
        assert [(each.shape, each.dtype) for each in arrays] == [(each.shape, each.dtype) for each in before]
        if not forged:
            assert not changed, "damage that nobody saw"

    fuzz(once, tmp_path, here)


def damage(here: Path, draw: Random) -> bool:
    """Change bytes of a file. Return whether they are others now."""
    file = here / draw.choice((STATE, ARRAYS, BEST))
    content = file.read_bytes()
    file.write_bytes(mutated(content, draw))
    return file.read_bytes() != content


def forge(here: Path, draw: Random) -> bool:
    """Change what a file says, and all sizes, digests and the checksum with it."""
    state = json.loads((here / STATE).read_text())
    what = draw.choice(("state", "bytes", "arrays", "arrays"))
    if what == "state":
        places = list(_places({name: value for name, value in state.items() if name != "checksum"}, state))
        holder, key = draw.choice(places)
        holder[key] = deepcopy(draw.choice(STRANGE))
    elif what == "bytes":
        file = here / draw.choice((ARRAYS, BEST))
        file.write_bytes(mutated(file.read_bytes(), draw))
    else:
        change_arrays(here / ARRAYS, draw)
    if isinstance(state.get("files"), dict):
        for name in (ARRAYS, BEST):
            if isinstance(state["files"].get(name), dict) and what != "state":
                path = here / name
                state["files"][name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    state["checksum"] = json_sha256({name: value for name, value in state.items() if name != "checksum"})
    text = json.dumps(state)
    with contextlib.suppress(ValidationError):
        text = State.model_validate_json(text).model_dump_json()
    (here / STATE).write_text(text)
    return True


def change_arrays(file: Path, draw: Random) -> None:
    """Put something else in the place of an array."""
    with np.load(file) as saved:
        arrays = {name: saved[name] for name in saved.files}
    name = draw.choice(sorted(arrays))
    array = arrays[name]
    kind = draw.choice(("shape", "type", "values", "name", "missing", "claimed"))
    if kind == "shape":
        arrays[name] = np.zeros((*array.shape, 2), array.dtype)
    elif kind == "type":
        arrays[name] = array.astype(draw.choice((np.float64, np.int32, "U4")))
    elif kind == "values":
        arrays[name] = np.full_like(array, draw.choice((np.nan, np.inf, 0)) if array.dtype.kind == "f" else 7)
    elif kind == "name":
        arrays["../../x"] = arrays.pop(name)
    elif kind == "missing":
        del arrays[name]
    else:
        # A header that claims more than there is.
        claim = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            claim, {"descr": array.dtype.str, "fortran_order": False, "shape": (10**12,)}
        )
        np.savez(file, allow_pickle=False, **arrays)
        _replace(file, f"{name}.npy", claim.getvalue())
        return
    np.savez(file, allow_pickle=False, **arrays)


def _replace(file: Path, name: str, content: bytes) -> None:
    import zipfile

    with zipfile.ZipFile(file) as old:
        members = {each: old.read(each) for each in old.namelist()}
    with zipfile.ZipFile(file, "w") as new:
        for each, old_content in members.items():
            new.writestr(each, content if each == name else old_content)


def _places(value: Any, holder: Any) -> Any:
    """Every entry at every depth: its holder and key."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key], holder[key])


def test_weights_are_loaded_or_refused(
    make_model: Callable[..., TrainedModel], trained: TrainedModel, tmp_path: Path
) -> None:
    facts = trained.facts
    weights = trained.weights
    original = weights.read_bytes()
    architectures.load(trained)

    def once(draw: Random) -> None:
        content = mutated(original, draw) if draw.random() < 0.3 else changed_weights(original, draw)
        # Keras keeps a file open that it refused, and HDF5 knows files by their number.
        weights.unlink()
        weights.write_bytes(content)
        found = TrainedModel.seal(trained.path, facts)
        if (refusal := load(found)) is not None:
            assert_one_line(printable(str(refusal)))
            assert WEIGHTS in str(refusal)

    fuzz(once, tmp_path, trained.path)


def load(model: TrainedModel) -> DataRefused | None:
    """The refusal of weights; None if they are loaded."""
    try:
        architectures.load(model)
    except DataRefused as error:
        return error
    return None


def changed_weights(original: bytes, draw: Random) -> bytes:
    """The file with something else in the place of an array."""
    file = io.BytesIO(original)
    with h5py.File(file, "r+") as opened:
        names: list[str] = []
        opened.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
        name = draw.choice(names)
        shape, kind = (
            opened[name].shape,
            draw.choice(("vast", "shape", "type", "missing", "soft", "elsewhere", "group")),
        )
        del opened[name]
        if kind == "vast":
            # Takes no room in the file, and terabytes in memory.
            opened.create_dataset(name, (10**9, 1000), "float32", chunks=(1000, 1000))
        elif kind == "shape":
            opened.create_dataset(name, data=np.zeros((*shape, 2), np.float32))
        elif kind == "type":
            opened.create_dataset(name, data=np.full(shape, b"text"))
        elif kind == "soft":
            opened[name] = h5py.SoftLink("/nowhere")
        elif kind == "elsewhere":
            opened[name] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "group":
            opened.create_group(name)
    return file.getvalue()
