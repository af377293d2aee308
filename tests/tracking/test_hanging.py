"""Files of a real server behind something that hangs: nothing of ours waits for them longer than its patience."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMIT

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import Registration, RegistrationFacts
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import ServiceUnreachable
from components.cli import doctor_mlflow
from components.tracking import mlflow_settings, model_registry

MURA = Path(sys.executable).with_name("mura")
MULTIPART = ("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD")


class Way(ThreadingHTTPServer):
    """A way to a server on which some requests get no answer until the test is over."""

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = server.removeprefix("http://")
        self.hangs = re.compile("(?!)")
        """Method and path of requests without an answer."""
        self.offers: str | None = None
        """Address of the store that is offered in place of files, as a server before S3 does."""
        self.offered: list[str] = []
        self.over = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is not worth a word."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Way

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.hangs.search(f"{self.command} {self.path}"):
            self.server.over.wait()
            self.close_connection = True
            return
        if self.server.offers and "/mlflow-artifacts/presigned/" in self.path:
            self.server.offered.append(self.path)
            self._answer(200, json.dumps({"url": self.server.offers, "headers": {}, "file_size": 5}).encode())
            return
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if self.server.offers and self.path.endswith("/server-info"):
            enabled = {"multipart_uploads_enabled": True, "multipart_downloads_enabled": True}
            content = json.dumps(json.loads(content) | enabled).encode()
        self._answer(answer.status, content, answer.headers.get("Content-Type", "application/json"))

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 - names of the library

    def _answer(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def way(mlflow_server: str, tmp_path: Path, no_mlflow: pytest.MonkeyPatch) -> Iterator[Way]:
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MURA_PATIENCE", "1")
    # Longer than the test may take: our patience ends it, not MLflow's.
    no_mlflow.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    for name in MULTIPART:
        no_mlflow.delenv(name, raising=False)
    with Way(mlflow_server) as way:
        threading.Thread(target=way.serve_forever, args=(0.05,), daemon=True).start()
        no_mlflow.setenv("MLFLOW_TRACKING_URI", way.address)
        yield way
        way.over.set()
        way.shutdown()


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/bucket/key"


FILES = "/mlflow-artifacts/artifacts/"


def training() -> Any:
    return tracking.training_run(tracking.Description("wide", "vgg16", {}, {"code_revision": COMMIT}))


def problem() -> str:
    (found,) = (check for check in doctor_mlflow.examine() if check.subject == "MLflow")
    assert found.problem is not None
    assert found.problem.exit_code == 5
    return found.found


@pytest.mark.parametrize(("request_", "doing"), [("PUT", "storing"), ("GET", "fetching")])
def test_the_doctor_says_what_hangs(way: Way, request_: str, doing: str) -> None:
    way.hangs = re.compile(rf"^{request_} .*{FILES}")
    assert f"hangs while {doing} a small file: nothing moved for 1 s" in problem()


def test_a_store_that_never_deletes_is_no_problem(way: Way) -> None:
    way.hangs = re.compile(rf"^DELETE .*{FILES}")
    (found,) = doctor_mlflow.examine()
    assert found.problem is None


def test_a_training_does_not_begin_where_files_hang(way: Way) -> None:
    way.hangs = re.compile(rf"^GET .*{FILES}")
    with pytest.raises(ServiceUnreachable, match="hangs while fetching a small file"), training():
        pytest.fail("the training began")


def test_a_file_that_the_server_never_takes_is_told(way: Way, tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("epoch\n")
    with training() as run:
        way.hangs = re.compile(rf"^PUT .*{FILES}")
        with pytest.raises(ServiceUnreachable, match=r"hangs while storing curves\.csv"):
            run.log_file(tmp_path / "curves.csv")


def test_a_model_that_never_arrives_is_told(
    way: Way, make_model: Callable[..., TrainedModel], make_tracked: Callable[[], TrackedRun]
) -> None:
    model = make_model(run=make_tracked())
    way.hangs = re.compile(rf"^GET .*{FILES}.*model\.keras")
    with pytest.raises(ServiceUnreachable, match="hangs while fetching the model"):
        tracking.ensure_model(model)


def test_a_report_that_the_server_never_takes_is_told(
    way: Way,
    make_model: Callable[..., TrainedModel],
    make_tracked: Callable[[], TrackedRun],
    make_evaluation: Callable[..., Evaluation],
) -> None:
    model, run = make_model(), make_tracked()
    way.hangs = re.compile(rf"^PUT .*{FILES}.*report\.html")
    with pytest.raises(ServiceUnreachable, match="hangs while storing the report"):
        model_registry.ensure_version("hung", model, make_evaluation(model), run)


def test_a_step_that_gave_up_ends_at_once(
    way: Way,
    tmp_path: Path,
    make_model: Callable[..., TrainedModel],
    make_tracked: Callable[[], TrackedRun],
    make_evaluation: Callable[..., Evaluation],
) -> None:
    """MLflow's own threads would wait for ten minutes."""
    model = make_model()
    version = model_registry.ensure_version("hung-promotion", model, make_evaluation(model), make_tracked())
    (tmp_path / "registration").mkdir()
    Registration.seal(tmp_path / "registration", RegistrationFacts(versions=(version,)))
    way.hangs = re.compile(rf"^GET .*{FILES}.*model\.keras")
    words = ["promote", "--registration", "registration", "--params", json.dumps(PROMOTE), "--out", "promotion"]
    done = subprocess.run([MURA, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 5, done.stderr
    assert "hangs while fetching the model" in done.stderr


PROMOTE = {"alias": "champion", "metric": "auroc", "min_gain": 0.0, "min_auroc": 0.5, "max_loss": 0.02}


# Addresses of the store, offered in place of files.


def test_an_offer_of_the_store_s_own_address_is_not_taken(way: Way, nowhere: str, tmp_path: Path) -> None:
    way.offers = nowhere
    (found,) = doctor_mlflow.examine()
    assert found.problem is None
    assert way.offered == []


def test_who_wants_the_offer_is_told_that_it_hangs(way: Way, nowhere: str, no_mlflow: pytest.MonkeyPatch) -> None:
    way.offers = nowhere
    no_mlflow.setenv(MULTIPART[0], "true")
    told = problem()
    assert "hangs while fetching a small file" in told
    assert f"{MULTIPART[0]}=false" in told


@pytest.mark.parametrize("name", MULTIPART)
def test_the_user_s_own_word_on_offers_is_kept(name: str, no_mlflow: pytest.MonkeyPatch) -> None:
    no_mlflow.setenv(name, "true")
    mlflow_settings.apply()
    with pytest.MonkeyPatch.context() as patch:
        assert os.environ[name] == "true"
        patch.delenv(name)
        mlflow_settings.apply()
        assert os.environ[name] == "false"
