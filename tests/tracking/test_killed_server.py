"""An MLflow server that is killed during a training, or away all the time: no metric is lost or doubled."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import miniature
import pandas as pd
import pytest
from mlflow import MlflowClient
from protocols import NO_FLOORS, PROTOCOL
from servers import free_port, wait_for

from components.artifacts.registration import Registration
from components.artifacts.trained_model import CURVES, TrainedModel

# Each test trains, and starts a server twice.
pytestmark = [pytest.mark.longest, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
MURA = Path(sys.executable).with_name("mura")
EPOCHS = 4
CHOICES = {
    "candidate": "small", "architecture": "custom_cnn", "weights": "none", "epochs": EPOCHS, "head_epochs": 0,
    "batch_size": 16, "learning_rate": 1e-3, "head_learning_rate": 1e-3, "warmup": 0.1, "shrinkage": 0.1,
    "clip_norm": 0.0, "averaging": 0.0, "dropout": 0.2, "patience": "none", "class_weighting": "body_part",
    "flip": True, "rotation": 30, "zoom": 0.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0, "width": 16,
    "batch_norm_momentum": 0.9, "precision": "float32", "residence": "memory",
}  # fmt: skip
TRAIN = ("train", "--shards", "shards", "--params", json.dumps(CHOICES), "--seed", "1", "--out", "model")
EVALUATE = ("evaluate", "--manifest", "valid", "--shards", "shards", "--model", "model", "--seed", "1")
EVALUATE += ("--protocol", json.dumps(PROTOCOL | NO_FLOORS), "--out", "evaluation")
REGISTER = ("register", "--model", "model", "--evaluation", "evaluation", "--out", "registration")


class Place:
    """A directory with shards, `mura` in it, and a server of its own that can be killed and started again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copy(ROOT / "params.yaml", path)
        archive = miniature.write_zip(path / "a.zip", miniature.archive(miniature.images(train=42, valid=24)))
        valid = miniature.prove(miniature.manifest(archive, path / "manifest"), path / "valid")
        miniature.pack(archive, valid, path / "shards")
        self._port = free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._server: subprocess.Popen[bytes] | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
        self._environment = kept | {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "CUDA_VISIBLE_DEVICES": "-1",
        }

    def serve(self) -> None:
        """Start the server, on the same store as before."""
        store = ("--backend-store-uri", f"sqlite:///{self.path}/mlflow.db")
        files = ("--artifacts-destination", str(self.path / "files"))
        where = ("--host", "127.0.0.1", "--port", str(self._port), "--workers", "1")
        with (self.path / "server.log").open("a") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *where, *store, *files],
                env=self._environment,
                cwd=self.path,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(f"{self.address}/health", self._server)

    def kill(self) -> None:
        """SIGKILL to the server and its workers."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(20)
            self._server = None

    def start(self, *words: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [MURA, *words], cwd=self.path, env=self._environment | environment, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        """What a command tells, on its error stream."""
        process = self.start(*words, **environment)
        told = process.communicate(timeout=240)[1]
        assert process.returncode == code, told
        return told


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.kill()


def until(process: "subprocess.Popen[str]", epoch: int) -> None:
    """Read what a training tells until it has told of an epoch."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if f"epoch {epoch} of {EPOCHS}" in line:
            return
    raise AssertionError("".join(lines))


def check_that_everything_is_there_once(place: Place) -> None:
    """Evaluate and register with the server there, and look at what MLflow then has of the training."""
    place.run(*EVALUATE)
    place.run(*REGISTER)
    (version,) = Registration.read(place.path / "registration").facts.versions
    client = MlflowClient(place.address)
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    assert (run.info.run_id, run.info.status) == (version.run_id, "FINISHED")
    curves = pd.read_csv(TrainedModel.read(place.path / "model").path / CURVES).drop(columns="phase")
    assert curves["epoch"].tolist() == list(range(1, EPOCHS + 1))
    logged: dict[str, Any] = {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }
    of_epochs = {name: points for name, points in logged.items() if name.startswith("epoch/")}
    expected = {f"epoch/{name}": [*enumerate(curves[name], 1)] for name in curves.columns.drop("epoch")}
    assert of_epochs == expected
    assert all(len(points) == 1 for name, points in logged.items() if name not in of_epochs)
    assert "test/auroc" in logged
    # The network, and the predictor that was registered.
    models = client.search_logged_models(experiments)
    assert [(model.status, model.source_run_id) for model in models] == [("READY", run.info.run_id)] * 2


def test_a_server_that_is_killed_and_back_two_epochs_later(place: Place) -> None:
    place.serve()
    training = place.start(*TRAIN)
    until(training, 1)
    place.kill()
    until(training, 3)
    # The server takes longer to start than these epochs.
    training.send_signal(signal.SIGSTOP)
    place.serve()
    training.send_signal(signal.SIGCONT)
    told = training.communicate(timeout=240)[1]
    assert training.returncode == 0, told
    check_that_everything_is_there_once(place)


def test_a_server_that_is_away_from_the_start_to_the_end(place: Place) -> None:
    assert "training without it" in place.run(*TRAIN)
    place.serve()
    check_that_everything_is_there_once(place)


def test_a_server_that_is_killed_and_away_at_the_end_until_the_same_command_runs_again(place: Place) -> None:
    place.serve()
    training = place.start(*TRAIN, MURA_PATIENCE="1")
    until(training, 1)
    place.kill()
    told = training.communicate(timeout=240)[1]
    assert training.returncode == 5, told
    place.serve()
    place.run(*TRAIN)
    check_that_everything_is_there_once(place)


def kill_both(place: Place) -> None:
    """Kill a training and its server after two epochs."""
    place.serve()
    training = place.start(*TRAIN)
    until(training, 2)
    training.kill()
    place.kill()
    training.communicate(timeout=240)


def test_a_training_that_is_killed_with_its_server(place: Place) -> None:
    kill_both(place)
    place.serve()
    place.run(*TRAIN)
    check_that_everything_is_there_once(place)


def test_a_training_that_is_killed_with_its_server_and_goes_on_without_it(place: Place) -> None:
    kill_both(place)
    assert "training without it" in place.run(*TRAIN)
    place.serve()
    check_that_everything_is_there_once(place)
