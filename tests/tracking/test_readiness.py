"""What MLflow lacks is found before a training, not after it."""

import json
import logging
import os
import shutil
import socket
import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import COMMIT

from components import tracking
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import MuraError, ServiceUnreachable, UsageError
from components.tracking import server

# Most need a server of their own.
pytestmark = pytest.mark.long


def training(**changes: Any) -> Any:
    """A run as a training opens it."""
    description = tracking.Description("wide", "vgg16", {"learning_rate": 0.001}, {"code_revision": COMMIT})
    return tracking.training_run(description._replace(**changes))


def refusal(kind: type[MuraError]) -> str:
    """What a training says that does not begin."""
    with pytest.raises(kind) as caught, training():
        pytest.fail("the training began")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# A server that lacks something.


class Old(BaseHTTPRequestHandler):
    """An MLflow 2.22: it has experiments, runs and a registry, and no logged models."""

    answers: ClassVar[dict[str, Any]] = {
        "/health": "OK",
        "/version": "2.22.0",
        "/api/2.0/mlflow/registered-models/search": {},
        "/api/2.0/mlflow/experiments/get-by-name": {
            "experiment": {"experiment_id": "1", "name": "mura", "lifecycle_stage": "active", "artifact_location": "x"}
        },
    }

    def do_GET(self) -> None:
        answer = self.answers.get(self.path.partition("?")[0])
        self.send_response(404 if answer is None else 200)
        self.end_headers()
        self.wfile.write((answer if isinstance(answer, str) else json.dumps(answer)).encode())

    do_POST = do_GET  # noqa: N815 - a name of the library

    def log_message(self, *words: object) -> None:
        """Say nothing."""


class Proxied(Old):
    """The same behind a proxy that hides its version."""

    answers: ClassVar[dict[str, Any]] = {path: answer for path, answer in Old.answers.items() if path != "/version"}


class Stranger(Old):
    """Another program on that port: it has a page for every path."""

    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>\n<p>Welcome\n</html>")

    do_POST = do_GET  # noqa: N815 - a name of the library


@pytest.mark.parametrize(
    ("kind", "told"),
    [(Old, "is version 2.22.0"), (Proxied, "older than 3.0"), (Stranger, "another program")],
)
def test_a_server_without_logged_models_is_told_before_the_training(
    kind: type[Old], told: str, no_mlflow: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as old:
        threading.Thread(target=old.serve_forever, daemon=True).start()
        no_mlflow.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{old.server_port}")
        assert told in refusal(ServiceUnreachable)
        old.shutdown()


def test_files_that_clients_cannot_store_are_told_before_the_training(
    mlflow_server: str, no_mlflow: pytest.MonkeyPatch
) -> None:
    no_mlflow.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    name = f"unserved-{uuid.uuid4().hex[:8]}"
    # As every experiment of a server that was started with --no-serve-artifacts.
    tracking.connect().create_experiment(name, artifact_location="file:///proc/mlruns/1")
    no_mlflow.setenv("MLFLOW_EXPERIMENT_NAME", name)
    told = refusal(ServiceUnreachable)
    assert "/proc/mlruns/1" in told
    assert "--artifacts-destination" in told


class Unserved(Old):
    """A server of today that was started with --no-serve-artifacts, on another machine."""

    answers: ClassVar[dict[str, Any]] = Old.answers | {
        "/version": "3.17.2",
        "/api/2.0/mlflow/logged-models/search": {},
        "/api/2.0/mlflow/experiments/set-experiment-tag": {},
        "/api/2.0/mlflow/experiments/get": {
            "experiment": {"experiment_id": "1", "name": "mura", "artifact_location": "file:///srv/of/theirs/mlruns/1"}
        },
    }


def test_a_directory_of_another_machine_is_not_made_on_this_one(no_mlflow: pytest.MonkeyPatch) -> None:
    # Not an address by which one calls one's own machine.
    with ThreadingHTTPServer(("127.0.0.2", 0), Unserved) as unserved:
        threading.Thread(target=unserved.serve_forever, daemon=True).start()
        no_mlflow.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.2:{unserved.server_port}")
        assert "there is no such directory" in refusal(ServiceUnreachable)
        unserved.shutdown()


def test_asking_leaves_nothing_behind(mlflow_server: str, no_mlflow: pytest.MonkeyPatch) -> None:
    from mlflow import artifacts

    no_mlflow.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    no_mlflow.setenv("MLFLOW_EXPERIMENT_NAME", f"fresh-{uuid.uuid4().hex[:8]}")
    with training() as run:
        pass
    client = tracking.connect()
    experiment = client.get_experiment(client.get_run(run.run_id).info.experiment_id)
    assert artifacts.list_artifacts(experiment.artifact_location) == []


# A database that cannot be used.


def use(uri: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri


def change(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)


def test_a_database_that_is_read_only_is_told(mlflow_here: Path) -> None:
    use(f"sqlite:///file:{mlflow_here}/mlflow.db?mode=ro&uri=true")
    assert "read-only" in refusal(UsageError)


def test_a_database_that_another_process_locks_for_a_while_is_waited_for(mlflow_here: Path) -> None:
    # Longer than the five seconds that Python waits.
    locked, release = threading.Event(), threading.Event()

    def lock() -> None:
        with closing(sqlite3.connect(mlflow_here / "mlflow.db")) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            locked.set()
            release.wait(60)

    holder = threading.Thread(target=lock)
    holder.start()
    locked.wait()
    threading.Timer(6, release.set).start()
    with training() as run:
        assert run.run_id
    holder.join()


def test_a_file_that_is_no_database_is_told(mlflow_here: Path) -> None:
    (mlflow_here / "notes.db").write_text("hello\n" * 1000)
    use("sqlite:///notes.db")
    assert "is another kind of file" in refusal(UsageError)


def test_a_database_of_another_program_is_left_alone(mlflow_here: Path) -> None:
    change(mlflow_here / "notes.db", "CREATE TABLE notes (text)")
    before = (mlflow_here / "notes.db").read_bytes()
    use("sqlite:///notes.db")
    assert "another program" in refusal(UsageError)
    assert (mlflow_here / "notes.db").read_bytes() == before


def test_a_database_in_a_place_that_cannot_be_written_to_is_told_at_once(mlflow_here: Path) -> None:
    use("sqlite:////proc/mlflow.db")
    assert "cannot be opened" in refusal(UsageError)


@pytest.mark.parametrize(
    ("revision", "told"), [("cfd24bdc0731", "older version of MLflow"), ("0", "does not know"), ("f" * 12, "newer")]
)
def test_a_database_of_another_version_is_told_how_to_upgrade(mlflow_here: Path, revision: str, told: str) -> None:
    other = mlflow_here / "other.db"
    shutil.copy(mlflow_here / "mlflow.db", other)
    change(other, f"UPDATE alembic_version SET version_num = '{revision}'")
    use(f"sqlite:///{other}")
    said = refusal(UsageError)
    assert told in said
    assert f"mlflow db upgrade sqlite:///{other}" in said


def test_a_database_whose_driver_is_missing_is_told(no_mlflow: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        use(f"mssql+pyodbc://anna:secret@127.0.0.1:{listening.getsockname()[1]}/mlflow")
        told = refusal(UsageError)
    assert "pyodbc" in told
    assert "secret" not in told


# No answer.


def test_a_training_goes_on_without_an_mlflow_that_does_not_answer(
    no_mlflow: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    use("http://127.0.0.1:9")
    with training() as run:
        run.log_epoch(1, {"loss": 0.7})
        run.log_file(tmp_path / "curves.csv")
        assert (run.run_id, run.log_model(object())) == ("", "")  # type: ignore[arg-type]
    # One line, and none of the libraries below.
    (warning,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert "`mura register` publishes run, curves and model" in warning.getMessage()


def test_it_is_waited_for_as_long_as_asked(mlflow_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Late(Old):
        def do_GET(self) -> None:
            asked.append(1)
            self.answers = Old.answers if len(asked) > 3 else {}
            self.send_response(503) if len(asked) <= 3 else super().do_GET()
            self.end_headers() if len(asked) <= 3 else None

    with ThreadingHTTPServer(("127.0.0.1", 0), Late) as late:
        threading.Thread(target=late.serve_forever, daemon=True).start()
        use(f"http://127.0.0.1:{late.server_port}")
        monkeypatch.setenv("MURA_PATIENCE", "60")
        assert "2.22.0" in refusal(ServiceUnreachable)
        late.shutdown()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, 7),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 300),
        ({"KFP_RUN_ID": "0b-1"}, 300),
        ({"KFP_RUN_ID": "0b-1", "MURA_PATIENCE": "12.5"}, 12.5),
        ({"MURA_PATIENCE": "0"}, 0),
    ],
)
def test_a_pod_waits_longer_than_a_desk(
    variables: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "KFP_RUN_ID", "MURA_PATIENCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert server.patience(elsewhere=7) == seconds


@pytest.mark.parametrize("text", ["five", "-1", "nan", "inf"])
def test_a_patience_that_is_no_number_of_seconds_is_told(
    text: str, mlflow_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MURA_PATIENCE", text)
    assert "MURA_PATIENCE" in refusal(UsageError)


# Settings.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "many"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "10"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "0"),
        ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "x"),
        ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "perhaps"),
    ],
)
def test_a_setting_that_mlflow_cannot_read_is_told(
    name: str, value: str, mlflow_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert refusal(UsageError).startswith(f"{name} is ")


@pytest.mark.parametrize("where", ["mlflow_here", "mlflow_server"])
def test_metrics_are_delivered_before_they_count_as_delivered(
    where: str, request: pytest.FixtureRequest, no_mlflow: pytest.MonkeyPatch
) -> None:
    place = request.getfixturevalue(where)
    if where == "mlflow_server":
        use(place)
    no_mlflow.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    with training() as run:
        assert os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] == "false"
        run.log_epoch(1, {"loss": 0.7})
        assert tracking.connect().get_run(run.run_id).data.metrics == {"epoch/loss": 0.7}


@pytest.mark.parametrize("given", ["77", "mura"])
def test_an_experiment_that_is_not_there_is_told(
    given: str, mlflow_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", given)
    assert f"MLFLOW_EXPERIMENT_ID is {given}" in refusal(UsageError)


def test_a_deleted_experiment_named_by_its_id_is_told(mlflow_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tracking.connect()
    gone = client.create_experiment("gone")
    client.delete_experiment(gone)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", gone)
    assert f"mlflow experiments restore -x {gone}" in refusal(UsageError)


# What was trained without a run.


def test_a_model_without_a_run_gets_one_with_its_curves(mlflow_here: Path, trained: TrainedModel) -> None:
    facts = trained.facts.model_copy(update={"run": TrackedRun(run_id="", model_uri="")})
    run = tracking.ensure_model(TrainedModel.seal(trained.path, facts))
    client = tracking.connect()
    points = client.get_metric_history(run.run_id, "epoch/tuning_auroc")
    assert [(point.step, point.value) for point in points] == [(1, 0.6), (2, 0.7)]
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_an_old_server_is_told_before_a_model_is_published(
    no_mlflow: pytest.MonkeyPatch, make_model: Callable[..., TrainedModel]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxied) as old:
        threading.Thread(target=old.serve_forever, daemon=True).start()
        use(f"http://127.0.0.1:{old.server_port}")
        with pytest.raises(ServiceUnreachable, match=r"older than 3\.0"):
            tracking.ensure_model(make_model())
        old.shutdown()
