import contextlib
import json
import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import COMMIT
from servers import free_port

from components import tracking
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import ServiceUnreachable, UsageError
from components.tracking import server

if TYPE_CHECKING:
    import keras

DATASET = tracking.Dataset(name="mura", source="artifacts/shards", digest="da" * 32, images={"train": 7, "tuning": 3})


def training(run_id: str | None = None, patience: float = 0.5, **changes: Any) -> Any:
    """A run as a training opens it."""
    description = tracking.Description(
        candidate="wide",
        architecture="vgg16",
        params={"learning_rate": 0.001, "nested": {"a": 1}},
        tags={"code_revision": f"{COMMIT}+dirty", "data_digest": "da" * 32},
        environment={"python": "3.11.7", "keras": "3.15.1"},
        dataset=DATASET,
    )
    return tracking.training_run(description._replace(**changes), run_id, patience)


def logged(run_id: str) -> Any:
    return tracking.connect().get_run(run_id)


def curve(run_id: str, name: str) -> list[tuple[int, float]]:
    points = tracking.connect().get_metric_history(run_id, f"epoch/{name}")
    return sorted((point.step, point.value) for point in points)


# Where MLflow is, and whether it answers.


def test_without_a_uri_runs_are_kept_beside_the_user(
    mlflow_here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with training() as run:
        (tmp_path / "curves.csv").write_text("epoch\n")
        run.log_file(tmp_path / "curves.csv")
    assert list((mlflow_here / "mlruns" / "mura").rglob("curves.csv"))
    assert logged(run.run_id).info.artifact_uri.startswith((mlflow_here / "mlruns" / "mura").as_uri())


@pytest.mark.long
def test_a_database_is_made_where_there_is_none_and_its_path_may_have_spaces(
    tmp_path: Path, no_mlflow: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    no_mlflow.chdir(folder)
    with training() as run:
        run.log_epoch(1, {"loss": 1.0})
    assert (folder / "mlflow.db").is_file()
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    ("copy", "project", "uri"), [("tmp1a2b", "", ""), ("standalone/tmp1a2b", "xrays", "sqlite:///mlflow.db")]
)
def test_an_experiment_of_dvc_is_tracked_in_the_workspace_around_its_copy(
    tmp_path: Path, mlflow_database: Path, no_mlflow: pytest.MonkeyPatch, copy: str, project: str, uri: str
) -> None:
    workspace = tmp_path / project
    here = tmp_path / ".dvc/tmp/exps" / copy / project
    for folder in (workspace, here, tmp_path / ".dvc/tmp/exps" / copy / ".dvc"):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(mlflow_database, workspace / "mlflow.db")
    no_mlflow.chdir(here)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", uri)
    client = tracking.connect()
    assert tracking.shown_uri() == f"sqlite:///{workspace}/mlflow.db"
    made = client.get_experiment(server.experiment_id(client))
    assert made.artifact_location == (workspace / "mlruns" / "mura").as_uri()
    assert not (here / "mlflow.db").exists()


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_is_not_there_is_named_without_its_password(scheme: str, no_mlflow: pytest.MonkeyPatch) -> None:
    port = free_port()
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"{scheme}://anna:secret@127.0.0.1:{port}")
    with pytest.raises(ServiceUnreachable, match=f"{scheme}://127.0.0.1:{port} does not answer") as caught:
        tracking.connect()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.long
def test_a_server_that_hangs_is_given_up_in_time(no_mlflow: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        no_mlflow.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ServiceUnreachable, match="no answer in time"):
            tracking.connect()


class Guarded(BaseHTTPRequestHandler):
    """A server that is well, and lets nobody in."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 403)
        self.end_headers()
        self.wfile.write(b"Invalid Host header")

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def test_a_server_that_lets_nobody_in_is_told_from_one_that_is_away(no_mlflow: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as guarded:
        threading.Thread(target=guarded.serve_forever, daemon=True).start()
        no_mlflow.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{guarded.server_port}")
        with pytest.raises(ServiceUnreachable, match=r"denied access.*Invalid Host header.*--allowed-hosts"):
            tracking.connect()
        guarded.shutdown()


def test_the_users_own_settings_are_respected(mlflow_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    tracking.connect()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


def test_the_experiment_is_the_one_named(mlflow_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "wrists/only")
    with training() as run:
        pass
    client = tracking.connect()
    experiment = client.get_experiment(logged(run.run_id).info.experiment_id)
    assert experiment.name == "wrists/only"
    # Else MLflow's pages open on traces of language models.
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.long
def test_a_deleted_experiment_is_told_how_to_restore(mlflow_here: Path) -> None:
    with training() as run:
        pass
    tracking.connect().delete_experiment(logged(run.run_id).info.experiment_id)
    with pytest.raises(UsageError, match="mlflow experiments restore"), training():
        pass


# What a run says.


def test_a_run_tells_what_was_done_with_what(mlflow_here: Path) -> None:
    with training() as run:
        assert logged(run.run_id).info.status == "RUNNING"
    done = logged(run.run_id)
    assert done.info.status == "FINISHED"
    assert done.info.run_name == done.data.tags["candidate"] == "wide"
    assert done.data.tags["architecture"] == "vgg16"
    assert done.data.params == {"learning_rate": "0.001", "nested.a": "1"}
    assert done.data.tags["mlflow.source.git.commit"] == COMMIT
    assert done.data.tags["code_revision"] == f"{COMMIT}+dirty"
    assert done.data.tags["environment.keras"] == "3.15.1"


def test_a_run_names_its_data(mlflow_here: Path) -> None:
    with training() as run:
        pass
    (given,) = logged(run.run_id).inputs.dataset_inputs
    assert given.dataset.name == "mura"
    assert ("da" * 32).startswith(given.dataset.digest)
    assert json.loads(given.dataset.profile) == {"train_images": 7, "tuning_images": 3}


def test_curves_are_drawn_over_epochs(mlflow_here: Path) -> None:
    with training() as run:
        run.log_epoch(1, {"loss": 0.7, "tuning_auroc": float("nan")})
        run.log_epoch(2, {"loss": 0.5})
    assert curve(run.run_id, "loss") == [(1, 0.7), (2, 0.5)]


def test_a_training_that_raises_ends_failed(mlflow_here: Path) -> None:
    with pytest.raises(ZeroDivisionError), training() as run:
        1 / 0  # noqa: B018
    assert logged(run.run_id).info.status == "FAILED"


def test_a_training_that_is_interrupted_ends_killed(mlflow_here: Path) -> None:
    with pytest.raises(KeyboardInterrupt), training() as run:
        raise KeyboardInterrupt
    assert logged(run.run_id).info.status == "KILLED"


# Going on.


def test_a_resumed_run_goes_on(mlflow_here: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), training() as first:
        first.log_epoch(1, {"loss": 0.7})
        first.log_epoch(2, {"loss": 0.5})
        raise ZeroDivisionError
    with training(run_id=first.run_id, environment={"keras": "4.0"}) as second:
        assert logged(first.run_id).info.status == "RUNNING"
        second.log_epoch(2, {"loss": 0.5})
        second.log_epoch(3, {"loss": 0.3})
    assert second.run_id == first.run_id
    assert sorted(curve(first.run_id, "loss")) == [(1, 0.7), (2, 0.5), (3, 0.3)]
    done = logged(first.run_id)
    assert (done.info.status, done.data.metrics["epoch/loss"]) == ("FINISHED", 0.3)
    assert len(done.inputs.dataset_inputs) == 1


def test_a_run_of_another_server_is_begun_anew(mlflow_here: Path) -> None:
    with training(run_id="0" * 32) as run:
        pass
    assert run.run_id != "0" * 32


def test_a_deleted_run_is_begun_anew(mlflow_here: Path) -> None:
    with training() as first:
        pass
    tracking.connect().delete_run(first.run_id)
    with training(run_id=first.run_id) as second:
        pass
    assert second.run_id != first.run_id


def test_other_parameters_are_another_run(mlflow_here: Path) -> None:
    with training() as first:
        pass
    with training(run_id=first.run_id, params={"learning_rate": 0.1}) as second:
        pass
    assert second.run_id != first.run_id


# When the server goes away.


class Gate:
    """A way to a server that can be closed and opened."""

    def __init__(self, port: int) -> None:
        self.port, self._to = free_port(), port
        self._open: list[socket.socket] = []
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            end.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while read := source.recv(65536):
                target.sendall(read)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.fixture
def gate(mlflow_server: str, no_mlflow: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(int(mlflow_server.rpartition(":")[2]))
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{gate.port}")
    yield gate
    gate.close()


def test_a_training_outlives_the_server(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "components")
    with training() as run:
        run.log_epoch(1, {"loss": 0.7})
        gate.close()
        run.log_epoch(2, {"loss": 0.6})
        run.log_epoch(3, {"loss": 0.5})
        gate.open()
        run.log_epoch(4, {"loss": 0.4})
    assert curve(run.run_id, "loss") == [(1, 0.7), (2, 0.6), (3, 0.5), (4, 0.4)]
    assert logged(run.run_id).info.status == "FINISHED"
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


@pytest.mark.long
def test_metrics_are_delivered_at_the_end_if_not_before(gate: Gate) -> None:
    with training(patience=30) as run:
        gate.close()
        run.log_epoch(1, {"loss": 0.6})
        threading.Timer(1, gate.open).start()
    assert curve(run.run_id, "loss") == [(1, 0.6)]


def test_a_server_that_stays_away_is_told_at_the_end(gate: Gate) -> None:
    opened = training()
    run = opened.__enter__()
    gate.close()
    run.log_epoch(1, {"loss": 0.6})
    with pytest.raises(ServiceUnreachable, match=r"did not answer within 0 s; 1 metrics"):
        opened.__exit__(None, None, None)
    gate.open()
    assert logged(run.run_id).info.status == "RUNNING"
    with training(run_id=run.run_id) as again:
        pass
    assert again.run_id == run.run_id


# The model.


@pytest.fixture(scope="module")
def network() -> "keras.Model":
    """Pixels [n, 32, 32, 1] to logits [n, 1]."""
    import keras

    pixels = keras.Input((32, 32, 1))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    x = keras.layers.Conv2D(2, 3, activation="relu")(x)
    return keras.Model(pixels, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.long
@pytest.mark.parametrize("where", ["mlflow_here", "mlflow_server"])
def test_a_logged_model_says_the_same_as_the_network(
    where: str, request: pytest.FixtureRequest, no_mlflow: pytest.MonkeyPatch, network: "keras.Model"
) -> None:
    import mlflow
    import numpy as np

    place = request.getfixturevalue(where)
    if where == "mlflow_server":
        no_mlflow.setenv("MLFLOW_TRACKING_URI", place)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    with training() as run:
        uri = run.log_model(network)
    loaded = mlflow.pyfunc.load_model(uri)
    said = loaded.predict(pixels)
    assert said.dtype == np.float32
    assert np.allclose(said, np.asarray(network(pixels)), atol=1e-6)
    assert [output.model_id for output in logged(run.run_id).outputs.model_outputs] == [uri.removeprefix("models:/")]


def test_a_logged_model_takes_pixels_and_nothing_else(mlflow_here: Path, network: "keras.Model") -> None:
    import mlflow
    import numpy as np

    with training() as run:
        uri = run.log_model(network)
    loaded = mlflow.pyfunc.load_model(uri)
    assert loaded.input_example.dtype == np.uint8
    assert loaded.predict(loaded.input_example).shape == (1, 1)
    for wrong in (np.zeros((1, 32, 32, 1), np.float32), np.zeros((1, 16, 16, 1), np.uint8)):
        with pytest.raises(mlflow.exceptions.MlflowException, match="Failed to enforce schema"):
            loaded.predict(wrong)


def test_a_logged_model_says_what_it_needs(mlflow_here: Path, network: "keras.Model") -> None:
    import keras
    import mlflow

    with training() as run:
        uri = run.log_model(network)
    needs = Path(mlflow.artifacts.download_artifacts(uri), "requirements.txt").read_text()
    assert f"keras=={keras.__version__}" in needs.split()
    assert "tensorflow==" in needs
    assert "numpy==" in needs
    assert tracking.connect().get_logged_model(uri.removeprefix("models:/")).params["learning_rate"] == "0.001"


# Models that came from elsewhere.


def test_a_model_that_is_there_is_found(
    mlflow_here: Path, make_model: Callable[..., TrainedModel], make_tracked: Callable[[], TrackedRun]
) -> None:
    run = make_tracked()
    assert tracking.ensure_model(make_model(run=run)) == run


@pytest.mark.long
def test_a_model_that_is_not_there_is_published_once(mlflow_here: Path, trained: TrainedModel) -> None:
    import mlflow
    import numpy as np

    from components.network import architectures

    run = tracking.ensure_model(trained)
    assert tracking.ensure_model(trained) == run
    assert len(tracking.connect().search_logged_models([logged(run.run_id).info.experiment_id])) == 1
    done = logged(run.run_id)
    assert (done.info.status, done.info.run_name) == ("FINISHED", "small")
    assert done.data.tags["model_digest"] == trained.digest
    assert curve(run.run_id, "tuning_auroc") == [(1, 0.6), (2, 0.7)]
    loaded = mlflow.pyfunc.load_model(run.model_uri)
    expected = np.asarray(architectures.load(trained)(loaded.input_example))
    assert np.allclose(loaded.predict(loaded.input_example), expected, atol=1e-5)


@pytest.mark.long
def test_a_model_whose_files_were_deleted_is_published_anew(mlflow_here: Path, trained: TrainedModel) -> None:
    first = tracking.ensure_model(trained)
    shutil.rmtree(mlflow_here / "mlruns")
    assert tracking.ensure_model(trained) != first


def test_a_run_on_kubeflow_links_to_kubeflow_s(mlflow_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "0b-1")
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example/pipeline/")
    with training() as run:
        pass
    tags = logged(run.run_id).data.tags
    assert tags["kfp.pipeline_run_id"] == "0b-1"
    assert tags["kfp.pipeline_run_url"] == "https://kubeflow.example/pipeline/#/runs/details/0b-1"
