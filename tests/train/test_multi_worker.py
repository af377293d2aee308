"""One training by two processes, as a cluster starts them, beside the same by one."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip
from servers import free_port

from components.artifacts.trained_model import TrainedModel
from components.base.errors import UsageError
from components.train import tf_config

# Seven processes, on machines that may be busy.
pytestmark = [pytest.mark.longest, pytest.mark.timeout(900)]
MURA = Path(sys.executable).with_name("mura")
# Without chance, in float32 and in small steps, one process and two differ by rounding alone. Two epochs of three
# batches each, of which none is shared evenly.
TRAIN = {
    "candidate": "pair",
    "architecture": "custom_cnn",
    "weights": "none",
    "epochs": 2,
    "head_epochs": 0,
    "batch_size": 19,
    "learning_rate": 1e-4,
    "head_learning_rate": 1e-4,
    "warmup": 0.0,
    "shrinkage": 0.1,
    "clip_norm": 1.0,
    "averaging": 0.5,
    "dropout": 0.0,
    "patience": 2,
    "class_weighting": "body_part",
    "flip": False,
    "rotation": 0,
    "zoom": 0.0,
    "shift": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "width": 32,
    "batch_norm_momentum": 0.9,
    "precision": "float32",
    "residence": "memory",
}
NOWHERE = "http://127.0.0.1:9"


def config(rank: int, *workers: str) -> str:
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})


class Done(NamedTuple):
    code: int
    told: str


class Started:
    """A process of `mura train`, in a directory of its own with an MLflow of its own; workers have none."""

    def __init__(self, here: Path, name: str, rank: int = 0, addresses: tuple[str, ...] = (), seed: int = 1):
        place = here / name
        place.mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        environment |= {"CUDA_VISIBLE_DEVICES": "-1", "MLFLOW_TRACKING_URI": NOWHERE}
        if addresses:
            environment["TF_CONFIG"] = config(rank, *addresses)
        if not rank:
            environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
            if not (place / "mlflow.db").exists():
                shutil.copy(here / "mlflow.db", place)
        words = ["train", "--shards", here / "shards", "--params", json.dumps(TRAIN), "--seed", str(seed)]
        self.process = subprocess.Popen(
            [MURA, *words, "--out", "model"], cwd=place, env=environment, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> Done:
        _, told = self.process.communicate(timeout=300)
        return Done(self.process.returncode, told)


def both(here: Path, worker_seed: int = 1, chief: str = "chief") -> tuple[Started, Started]:
    addresses = (f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    return Started(here, chief, 0, addresses), Started(here, "worker", 1, addresses, worker_seed)


def wait_for_an_epoch(here: Path, chief: Started, name: str = "chief") -> None:
    state = here / name / ".model.partial" / "checkpoint" / "state.json"
    while chief.process.poll() is None and not (state.is_file() and json.loads(state.read_text())["curves"]):
        time.sleep(0.05)


def error_lines(done: Done) -> list[str]:
    return [line for line in done.told.splitlines() if not line.startswith(("INFO", "WARNING"))]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Path:
    folder = tmp_path_factory.mktemp("team")
    shutil.copy(mlflow_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(folder / "a.zip", archive(images(train=42, valid=7)))
        valid = prove(manifest(path, folder / "manifest"), folder / "valid")
        pack(path, valid, folder / "shards")
    return folder


class Story(NamedTuple):
    survivor: Done
    chief: Done
    worker: Done


@pytest.fixture(scope="module")
def story(here: Path) -> Story:
    """A training whose worker is taken away after the first epoch, started again, and done."""
    chief, worker = both(here)
    wait_for_an_epoch(here, chief)
    worker.process.kill()
    survivor = chief.end()
    worker.end()
    chief, worker = both(here)
    return Story(survivor, chief.end(), worker.end())


def test_a_worker_that_is_gone_ends_the_others_with_one_line(story: Story) -> None:
    assert story.survivor.code == 5
    (line,) = error_lines(story.survivor)
    assert line.startswith("error: train: another worker of this training has ended")


def test_all_started_again_go_on_from_the_chiefs_last_epoch(story: Story) -> None:
    assert story.chief.code == 0, story.chief.told
    assert story.worker.code == 0, story.worker.told
    assert "goes on after epoch 1" in story.chief.told
    assert error_lines(story.chief) == error_lines(story.worker) == []


def test_the_chief_alone_writes_and_tells(here: Path, story: Story) -> None:
    model = TrainedModel.read(here / "chief" / "model")
    assert model.facts.device == "2 x CPU"
    assert list((here / "worker").iterdir()) == []
    with closing(sqlite3.connect(f"file:{here}/chief/mlflow.db?mode=ro", uri=True)) as database:
        runs = database.execute("select run_uuid from runs").fetchall()
    assert runs == [(model.facts.run.run_id,)]


def test_two_train_the_network_that_one_trains(here: Path, story: Story) -> None:
    # After each epoch both have compared their weights, to the bit; else they would have ended with 2.
    alone = Started(here, "alone").end()
    assert alone.code == 0, alone.told
    one, two = (
        list(csv.DictReader((here / name / "model" / "curves.csv").read_text().splitlines()))
        for name in ("alone", "chief")
    )
    for name in ("learning_rate", "tuning_loss"):
        assert [float(row[name]) for row in two] == pytest.approx([float(row[name]) for row in one], rel=0.01)
    assert [float(row["loss"]) for row in two] == pytest.approx([float(row["loss"]) for row in one], rel=0.05)


def test_a_chief_that_is_terminated_says_where_it_goes_on(here: Path) -> None:
    """TensorFlow has a handler of its own for the signal: it would take it for a notice to go on for a while."""
    chief, worker = both(here, chief="ended")
    wait_for_an_epoch(here, chief, "ended")
    chief.process.terminate()
    done = chief.end()
    worker.end()
    assert done.code == 143, done.told
    (line,) = error_lines(done)
    assert line.startswith("terminated: train: pair ends after epoch")


def test_workers_that_were_told_different_things_refuse(here: Path) -> None:
    for done in [started.end() for started in both(here, worker_seed=2)]:
        assert done.code == 2
        (line,) = error_lines(done)
        assert "the workers have different shards, parameters, seeds or precisions" in line


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{", "expected"),
        ("{}", "cluster"),
        (json.dumps({"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}), "cluster.worker"),
        (json.dumps({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}), "cluster.ps"),
        (json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}), "task.type"),
        (config(-1, "a:1"), "task.index"),
        (config(2, "a:1", "b:1"), "the last of 2 is 1"),
    ],
)
def test_a_tf_config_of_something_else_is_refused(text: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match="TF_CONFIG") as refused:
        tf_config.place()
    assert hint in str(refused.value)


@pytest.mark.parametrize(("text", "place"), [(None, (0, 1)), ("", (0, 1)), (config(1, "a:1", "b:1", "c:1"), (1, 3))])
def test_tf_config_says_who_one_is(text: str | None, place: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    if text is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", text)
    assert tf_config.place() == place
