"""What `mura train` does with a network, on a miniature of 32 pixels: phases, patience, divergence, resumption."""

import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pandas as pd
import pytest
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components import tracking
from components.artifacts.artifact import File
from components.artifacts.manifest import TRAIN, TUNING
from components.artifacts.shards import RECORDS, Shards, split_digest
from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused, OutsideFailed, Terminated, UsageError
from components.base.files import INPUTS, json_sha256
from components.cli import main
from components.network import architectures, batches
from components.params.train import TrainParams
from components.scores import offsets
from components.scores.studies import sigmoid
from components.train import train, training
from components.train.state import State
from components.train.tuning import Tuning

pytestmark = pytest.mark.long

Train = Callable[..., TrainedModel]
PARAMS: dict[str, Any] = {
    "candidate": "small",
    "architecture": "custom_cnn",
    "weights": "none",
    "epochs": 2,
    "head_epochs": 0,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "head_learning_rate": 1e-3,
    "warmup": 0.1,
    "shrinkage": 0.1,
    "clip_norm": 0.0,
    "averaging": 0.0,
    "dropout": 0.2,
    "patience": 9,
    "class_weighting": "body_part",
    "flip": True,
    "rotation": 30,
    "zoom": 0.0,
    "shift": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "width": 32,
    "batch_norm_momentum": 0.9,
    "precision": "float32",
    "residence": "memory",
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Some 60 images for training, some 20 for tuning."""
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        place = tmp_path_factory.mktemp("packed")
        path = write_zip(place / "a.zip", archive(images(train=42, valid=2)))
        return pack(path, prove(manifest(path, place / "manifest"), place / "valid"), place / "shards")


@pytest.fixture
def run(shards: Shards, mlflow_here: Path, caplog: pytest.LogCaptureFixture) -> Train:
    """Trains in a work directory of that name, as the command line would: `run("model", epochs=3)`."""
    caplog.set_level(logging.INFO, "components")

    def trained(name: str, **choices: Any) -> TrainedModel:
        out = mlflow_here / name
        (out / "checkpoint").mkdir(parents=True, exist_ok=True)
        return train(shards, TrainParams(**PARAMS | choices), 1, out)

    return trained


class Interrupting(logging.Handler):
    """Somebody who presses Ctrl-C when the line of an epoch appears."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._line = re.compile(rf"epoch {epoch} of")

    def emit(self, record: logging.LogRecord) -> None:
        if self._line.search(record.getMessage()):
            raise KeyboardInterrupt


@pytest.fixture
def interrupted(run: Train, mlflow_here: Path) -> Iterator[Callable[..., Path]]:
    """Trains until the first epoch is saved; gives the checkpoint."""
    # After the handlers of pytest, which are to see the line too.
    logger, handler = logging.getLogger(), Interrupting(epoch=1)

    def begun(name: str, **choices: Any) -> Path:
        logger.addHandler(handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                run(name, **choices)
        finally:
            logger.removeHandler(handler)
        return mlflow_here / name / "checkpoint"

    return begun


def curves(model: TrainedModel) -> pd.DataFrame:
    return pd.read_csv(model.curves)


def measured(model: TrainedModel, shards: Shards) -> tuple[np.ndarray, batches.Split]:
    """Logits of the tuning split by the weights that were kept."""
    split = batches.read_split(shards, TUNING)
    logit = architectures.load(model).predict(batches.in_order(split, 16), verbose=0)[:, 0]
    return logit.astype(np.float64), split


def losses(logit: np.ndarray, split: batches.Split) -> np.ndarray:
    """Binary cross-entropy of each image."""
    probability = sigmoid(logit)
    return -np.log(np.where(split.abnormal == 1, probability, 1 - probability))


# Pretrained weights: head first, then all layers.


def test_a_pretrained_backbone_is_loaded_kept_while_the_head_is_trained_and_moved_after(
    run: Train, interrupted: Callable[..., Path], mlflow_here: Path
) -> None:
    donor = keras.applications.VGG16(include_top=False, weights=None)
    donor.save_weights(mlflow_here / "donor.weights.h5")
    kernels = [np.asarray(layer.kernel) for layer in donor.layers if layer.weights]
    choices = {"architecture": "vgg16", "weights": "donor.weights.h5", "head_epochs": 1, "epochs": 1}

    def found(checkpoint: Path, epoch: int) -> int:
        """How many of the donor's kernels the network has after an epoch."""
        with np.load(checkpoint / f"epoch-{epoch}.npz") as saved:
            arrays = list(saved.values())
        return sum(any(np.array_equal(kernel, array) for array in arrays) for kernel in kernels)

    checkpoint = interrupted("model", **choices)
    assert found(checkpoint, epoch=1) == len(kernels) == 13
    model = run("model", **choices)
    assert found(checkpoint, epoch=2) == 0
    assert model.facts.phases == ("head", "all")
    assert curves(model)["phase"].tolist() == ["head", "all"]


def test_a_head_before_an_untrained_backbone_is_refused(run: Train) -> None:
    with pytest.raises(UsageError, match="train: small: head_epochs 1 has no effect with weights none") as error:
        run("model", head_epochs=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"weights": "imagenet"}, "custom_cnn has no pretrained weights"),
        ({"architecture": "vgg16", "weights": "nowhere.h5"}, "no weights file nowhere.h5"),
    ],
)
def test_weights_that_cannot_be_had_leave_no_run(
    run: Train, mlflow_here: Path, choices: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=f"train: small: .*{reason}"):
        run("model", **choices)
    with closing(sqlite3.connect(mlflow_here / "mlflow.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM runs").fetchone() == (0,)


# When it stops, and what is kept.


@pytest.mark.parametrize(
    ("class_weighting", "averaging"), [pytest.param("body_part", 0.0, marks=pytest.mark.longest), ("none", 0.5)]
)
def test_training_stops_when_nothing_improves_and_keeps_the_best_epoch(
    run: Train, shards: Shards, class_weighting: str, averaging: float
) -> None:
    # There is nothing to learn in these pictures but by heart.
    choices = {"class_weighting": class_weighting, "averaging": averaging}
    model = run("model", epochs=12, patience=1, learning_rate=0.01, **choices)
    rows, facts = curves(model), model.facts
    assert facts.epochs == len(rows) == max(facts.best_epoch + 1, 2)
    assert facts.epochs < 12
    best = rows.loc[facts.best_epoch - 1]
    assert best["tuning_auroc"] == rows["tuning_auroc"].max()
    logit, split = measured(model, shards)
    weights = (
        np.ones(len(split))
        if class_weighting == "none"
        else batches.loss_weights(split.abnormal, split.body_part, shards.facts.train_images)
    )
    assert np.mean(weights * losses(logit, split)) == pytest.approx(best["tuning_loss"], rel=1e-3)
    assert facts.tuning == {"auroc": best["tuning_auroc"], "loss": best["tuning_loss"]}
    assert facts.offsets == offsets.of_training(shards.facts.train_images, class_weighting)


def test_the_epoch_is_chosen_without_the_shift_of_the_loss_s_weights(shards: Shards) -> None:
    """Logits that the weights shift by more than they know of the label rank right once the shift is taken away."""
    split = batches.read_split(shards, TUNING)
    learned = offsets.of_training(shards.facts.train_images, "body_part")
    logit = offsets.of_studies(learned, split.body_part) + 0.01 * split.abnormal
    found = {
        weighting: Tuning(shards, TrainParams(**PARAMS | {"class_weighting": weighting})).measure(lambda _: logit)
        for weighting in ("body_part", "none")
    }
    assert found["body_part"].auroc == 1
    assert found["none"].auroc < 1


@pytest.mark.longest
def test_images_weigh_in_the_training_loss_as_chosen(interrupted: Callable[..., Path]) -> None:
    still = {"learning_rate": 1e-9, "dropout": 0.0}
    weighted, plain = (
        json.loads((interrupted(weighting, class_weighting=weighting, **still) / "state.json").read_text())["curves"][0]
        for weighting in ("body_part", "none")
    )
    # Both labels of a body part together weigh as much as half of its images, or less.
    assert weighted["loss"] < 0.6 * plain["loss"]


def test_tuning_images_of_one_label_are_refused_before_training(shards: Shards, mlflow_here: Path) -> None:
    path = mlflow_here / "shards"
    shutil.copytree(shards.path, path)
    table = shards.records()
    table.loc[table["split"] == TUNING, "abnormal"] = 1
    table.to_parquet(path / RECORDS, index=False)
    digest = split_digest(table[table["split"] == TUNING])
    tuning = shards.facts.splits[TUNING].model_copy(update={"digest": digest})
    facts = shards.facts.model_copy(update={"splits": shards.facts.splits | {TUNING: tuning}})
    with pytest.raises(DataRefused, match="expected normal and abnormal images in tuning"):
        train(Shards.seal(path, facts), TrainParams(**PARAMS), 1, mlflow_here / "model")


def test_a_training_that_diverges_is_told_what_to_do(run: Train) -> None:
    with pytest.raises(UsageError, match=r"small diverged in epoch 1.*Lower its learning_rate \(1e\+30\)") as told:
        run("model", learning_rate=1e30, warmup=0.0)
    assert told.value.exit_code == 2
    assert "\n" not in str(told.value)


def test_a_loss_that_is_not_finite_names_the_images_of_its_batch(
    run: Train, shards: Shards, caplog: pytest.LogCaptureFixture
) -> None:
    # The first step makes weights that are not finite, the second meets them.
    with pytest.raises(UsageError, match=r"the loss of batch 2 is not finite \((\S+) and 15 more") as told:
        run("model", learning_rate=1e38, warmup=0.0, shrinkage=0.0)
    (line,) = (record.getMessage() for record in caplog.records if "epoch 1, batch 2: " in record.getMessage())
    split = batches.read_split(shards, TRAIN)
    second = split.image[batches.order_of(len(split), 1, 1)[16:32]].tolist()
    assert line.partition("batch 2: ")[2].split(", ") == second
    assert second[0] in str(told.value)


def test_body_parts_that_count_nothing_in_the_loss_are_named(
    shards: Shards, mlflow_here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = mlflow_here / "shards"
    shutil.copytree(shards.path, path)
    known = shards.facts.train_images
    changed = {name: known[name].model_copy(update={label: 0}) for name, label in NOTHING}
    sealed = Shards.seal(path, shards.facts.model_copy(update={"train_images": known | changed}))
    training.Training(sealed, TrainParams(**PARAMS), 1)
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warning == (
        "train: small: all training images of hand, wrist have the same label, so they count nothing in the loss. With "
        "class_weighting none they would"
    )
    caplog.clear()
    training.Training(sealed, TrainParams(**PARAMS | {"class_weighting": "none"}), 1)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


# Resumption.


NOTHING = (("hand", "normal"), ("wrist", "abnormal"))
EVERYTHING: dict[str, Any] = {
    "averaging": 0.5,
    "clip_norm": 1.0,
    "zoom": 0.1,
    "shift": 0.1,
    "brightness": 0.1,
    "contrast": 0.2,
}


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param({}, id="plain", marks=pytest.mark.longest),
        pytest.param(EVERYTHING, id="with all that is random or kept beside"),
    ],
)
def test_an_interrupted_training_ends_in_the_same_weights(
    run: Train, interrupted: Callable[..., Path], caplog: pytest.LogCaptureFixture, choices: dict[str, Any]
) -> None:
    whole = run("whole", **choices)
    before = json.loads((interrupted("resumed", **choices) / "state.json").read_text())["seconds"]
    resumed = run("resumed", **choices)
    # The time of all attempts.
    assert resumed.facts.seconds > round(before, 1) > 0
    assert "train: small goes on after epoch 1" in caplog.text
    # The files name layers by how many this process has made, so they differ; the numbers may not.
    one, two = (architectures.load(model).get_weights() for model in (whole, resumed))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True))
    assert resumed.curves.read_bytes() == whole.curves.read_bytes()


def forged(checkpoint: Path, **values: Any) -> None:
    """Change the first epoch of a state as somebody would who knows how its checksum is made."""
    state = json.loads((checkpoint / "state.json").read_text())
    state["curves"][0].update(values)
    state["checksum"] = json_sha256({name: value for name, value in state.items() if name != "checksum"})
    (checkpoint / "state.json").write_text(State.model_validate_json(json.dumps(state)).model_dump_json())


def other_variables(checkpoint: Path) -> None:
    """A whole file of variables, of another network."""
    path = checkpoint / "epoch-1.npz"
    np.savez(path, **{"00000": np.zeros((3, 3), np.float32)})
    state = json.loads((checkpoint / "state.json").read_text())
    state["files"][path.name] = File.of(path).model_dump()
    (checkpoint / "state.json").write_text(json.dumps(state))
    forged(checkpoint)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(
            lambda at: flip_a_bit(at / "best-1.weights.h5"),
            r"is damaged \(best-1.weights.h5: changed since it was",
            id="a flipped bit",
            marks=pytest.mark.longest,
        ),
        pytest.param(
            lambda at: forged(at, tuning_auroc=0.999),
            r"says a tuning AUROC of 0.9990 and .* its weights measure 0\.",
            id="a forged AUROC",
        ),
        pytest.param(
            other_variables,
            r"is damaged \(epoch-1.npz: 1 variables, and the training has \d+\)",
            id="another network",
            marks=pytest.mark.longest,
        ),
    ],
)
def test_a_checkpoint_that_is_not_what_it_says_is_told_and_the_training_ends_as_if_there_were_none(
    run: Train,
    interrupted: Callable[..., Path],
    shards: Shards,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    reason: str,
) -> None:
    checkpoint = interrupted("model")
    honest = json.loads((checkpoint / "state.json").read_text())["curves"][0]
    damage(checkpoint)
    caplog.clear()
    model = run("model")
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert re.fullmatch(f"train: the checkpoint {reason}.*; training starts anew", warning)
    assert "goes on after" not in caplog.text
    first = curves(model).iloc[0]
    assert {name: first[name] for name in honest} == honest
    assert model.facts.tuning["auroc"] == curves(model)["tuning_auroc"].max()


@pytest.mark.longest
def test_kept_weights_that_are_damaged_while_the_network_is_trained_do_not_become_a_model(
    run: Train, mlflow_here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Damaging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "epoch 2 of" in record.getMessage():
                (kept,) = (mlflow_here / "model" / "checkpoint").glob("best-*.weights.h5")
                flip_a_bit(kept)

    logger, handler = logging.getLogger(), Damaging()
    logger.addHandler(handler)
    try:
        with pytest.raises(OutsideFailed, match=r"best-\d.weights.h5: changed since it was written.* trains anew"):
            run("model")
    finally:
        logger.removeHandler(handler)
    assert not (mlflow_here / "model" / "card.json").exists()
    with closing(sqlite3.connect(mlflow_here / "mlflow.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM logged_models").fetchone() == (0,)
    run("model")
    assert "training starts anew" in caplog.text


# SIGTERM.


class Terminating(logging.Handler):
    """A cluster that takes the machine away when such a line appears; it says so twice."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self._line = re.compile(line)

    def emit(self, record: logging.LogRecord) -> None:
        if self._line.search(record.getMessage()):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def terminated_at(handler: logging.Handler) -> Iterator[pytest.ExceptionInfo[Terminated]]:
    logging.getLogger().addHandler(handler)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Terminated) as told:
            yield told
    finally:
        logging.getLogger().removeHandler(handler)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.longest
def test_a_training_that_is_terminated_says_where_it_goes_on_and_does(
    run: Train, mlflow_here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run("whole", epochs=3)
    with terminated_at(Terminating("epoch 2 of")) as told:
        run("ended", epochs=3)
    checkpoint = mlflow_here / "ended" / "checkpoint"
    assert str(told.value) == (
        f"train: small ends after epoch 2, which is saved in {checkpoint}; the same command goes on from there."
    )
    assert told.value.exit_code == 143
    with closing(sqlite3.connect(mlflow_here / "mlflow.db")) as database:
        assert sorted(status for (status,) in database.execute("SELECT status FROM runs")) == ["FINISHED", "KILLED"]
    # Taken away again before the training goes on: what was saved counts.
    with terminated_at(Terminating("MLflow run")) as told:
        run("ended", epochs=3)
    assert "ends after epoch 2, which is saved in" in str(told.value)
    resumed = run("ended", epochs=3)
    assert "train: small goes on after epoch 2" in caplog.text
    assert resumed.curves.read_bytes() == whole.curves.read_bytes()
    with closing(sqlite3.connect(mlflow_here / "mlflow.db")) as database:
        assert [status for (status,) in database.execute("SELECT status FROM runs")] == ["FINISHED", "FINISHED"]


@pytest.mark.longest
def test_what_is_being_saved_is_saved_to_the_end(
    run: Train, mlflow_here: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MURA_CHECKPOINTS", "s3://bucket/checkpoints")
    (mlflow_here / "ended" / "checkpoint").mkdir(parents=True)
    (mlflow_here / "ended" / "checkpoint" / INPUTS).write_text("f00d")
    savez = np.savez

    def slow(file: Any, *args: Any, **arrays: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        savez(file, *args, **arrays)

    monkeypatch.setattr(np, "savez", slow)
    with terminated_at(logging.NullHandler()) as told:
        run("ended")
    assert "ends after epoch 1, which is saved in" in str(told.value)
    assert "and s3://bucket/checkpoints/f00d;" in str(told.value)
    copy = bucket / "checkpoints" / "f00d"
    assert sorted(path.name for path in copy.iterdir()) == [
        "best-1.weights.h5", "epoch-1.npz", "index.json", "state.json",
    ]  # fmt: skip
    assert (copy / "epoch-1.npz").read_bytes() == (mlflow_here / "ended/checkpoint/epoch-1.npz").read_bytes()


def test_a_training_that_is_terminated_while_it_reads_starts_again(run: Train) -> None:
    with terminated_at(Terminating("images of 32 px")) as told:
        run("ended")
    assert str(told.value) == "train: small ends before it begins; the same command starts it again."


def test_a_command_that_is_terminated_ends_with_143_and_one_line(
    shards: Shards, mlflow_here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Terminating("MLflow run")
    logging.getLogger("components").addHandler(handler)
    words = ("--shards", str(shards.path), "--params", json.dumps(PARAMS), "--seed", "1", "--out", "ended")
    try:
        assert main.run(["train", *words]) == 143
    finally:
        logging.getLogger("components").removeHandler(handler)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("terminated")]
    assert told == ["terminated: train: small ends before it begins; the same command starts it again."]


# MLflow.


def test_a_training_without_mlflow_is_published_later(
    run: Train, mlflow_here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    model = run("model")
    assert (model.facts.run.run_id, model.facts.run.model_uri) == ("", "")
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "training without it" in warning
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_here}/mlflow.db")
    published = tracking.ensure_model(TrainedModel.read(model.path))
    history = tracking.connect().get_metric_history(published.run_id, "epoch/loss")
    assert [point.value for point in history] == pytest.approx(curves(model)["loss"].tolist())


@pytest.mark.longest
def test_a_training_that_was_told_that_there_is_no_mlflow_has_no_run(
    run: Train, mlflow_here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "0b-1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    model = run("model", epochs=1)
    assert (model.facts.run.run_id, model.facts.run.model_uri) == ("", "")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_training_that_mlflow_could_not_take_does_not_begin(
    run: Train, mlflow_here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{mlflow_here}/mlflow.db?mode=ro&uri=true")
    with pytest.raises(UsageError, match="read-only"):
        run("model")
    assert "epoch 1 of" not in caplog.text


# What it says.


def test_the_line_of_an_epoch_names_the_candidate_and_the_time_that_is_left(
    interrupted: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    interrupted("model", candidate="wide")
    (line,) = (record.getMessage() for record in caplog.records if "epoch 1 of" in record.getMessage())
    measures = r"loss [\d.]+, tuning loss [\d.]+, tuning AUROC [\d.]+"
    assert re.fullmatch(rf"train: wide epoch 1 of 2 \(all\): {measures}, about \d+ .*left", line)


class TrainJob(BaseHTTPRequestHandler):
    """The status of a TrainJob."""

    told: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["trainerStatus"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.longest
def test_a_train_job_is_told_each_epoch(run: Train, shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), TrainJob) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"http://127.0.0.1:{server.server_port}/status")
        model = run("model")
        server.shutdown()
    assert [status["progressPercentage"] for status in TrainJob.told] == [50, 100]
    assert TrainJob.told[-1]["estimatedRemainingSeconds"] == 0
    last = {metric["name"]: metric["value"] for metric in TrainJob.told[-1]["metrics"]}
    assert last["epoch"] == "2"
    assert float(last["tuning_auroc"]) == pytest.approx(curves(model)["tuning_auroc"].iloc[-1], abs=1e-5)


def test_a_copy_for_mlflow_that_cannot_fit_is_refused_before_the_first_epoch(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, usage = tmp_path / "small", shutil.disk_usage
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage(path)._replace(free=1000) if path == folder else usage(path)
    )
    with pytest.raises(OutsideFailed, match=rf"{folder}: the copy of the model for MLflow \(TMPDIR\) will take .* MB"):
        run("model")
    assert "epoch 1 of" not in caplog.text
