"""What a TrainJob is told of its training, by a server that speaks as Kubeflow Trainer's: TLS of its own, a token."""

import json
import logging
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certificates
import pytest

from components.kubeflow import train_job

PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/mura-research/trainjobs/mura-vgg16/status"


class Trainer(ThreadingHTTPServer):
    """Takes a status, and refuses one that the resource's schema refuses."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[dict[str, Any]] = []
        self.code = 200

    def handle_error(self, *_: object) -> None:
        """A handshake that fails is not worth a word."""


class _Handler(BaseHTTPRequestHandler):
    server: Trainer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = self.path == PATH and self.headers["Authorization"] == "Bearer t0ken"
        code = self.server.code if good else 401
        if code == 200:
            check(body["trainerStatus"])
            self.server.told.append(body["trainerStatus"])
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def check(status: dict[str, Any]) -> None:
    """What the TrainJob's schema wants."""
    assert type(status["progressPercentage"]) is type(status["estimatedRemainingSeconds"]) is int
    assert 0 <= status["progressPercentage"] <= 100
    assert status["estimatedRemainingSeconds"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status["lastUpdatedTime"])
    for metric in status["metrics"]:
        assert metric.keys() == {"name", "value"}
        assert all(isinstance(text, str) and 1 <= len(text) <= 64 for text in metric.values())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that its own authority signed, and the key."""
    folder = tmp_path_factory.mktemp("tls")
    return certificates.make(folder / "ca.crt", folder / "tls.key")


@pytest.fixture
def trainer(certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    """The server, in whose TrainJob this process is a pod."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    (tmp_path / "token").write_text("t0ken\n")
    with Trainer() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv(train_job.URL, f"https://127.0.0.1:{server.server_port}{PATH}")
        monkeypatch.setenv(train_job.AUTHORITY, str(certificate[0]))
        monkeypatch.setenv(train_job.TOKEN, str(tmp_path / "token"))
        yield server
        server.shutdown()


def test_a_train_job_is_told_epochs_and_metrics(trainer: Trainer) -> None:
    train_job.tell(1, 2, 240.4, {"loss": 0.693147181, "tuning_auroc": float("nan")})
    train_job.tell(3, 0, 0.0, {"loss": 0.5, "n" * 70: 1.0})
    first, last = trainer.told
    assert (first["progressPercentage"], first["estimatedRemainingSeconds"]) == (33, 240)
    assert first["metrics"] == [{"name": "epoch", "value": "1"}, {"name": "loss", "value": "0.693147"}]
    assert (last["progressPercentage"], last["estimatedRemainingSeconds"]) == (100, 0)


def test_the_token_is_read_each_time(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0ld")
    train_job.tell(1, 1, 1, {})
    (tmp_path / "token").write_text("t0ken")
    train_job.tell(2, 0, 0, {})
    assert [status["progressPercentage"] for status in trainer.told] == [100]


@pytest.mark.parametrize("fault", ["away", "500", "another authority", "no token", "no address"])
def test_a_server_that_does_not_take_it_stops_nothing(
    fault: str, trainer: Trainer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "components")
    if fault == "500":
        trainer.code = 500
    elif fault == "another authority":
        monkeypatch.delenv(train_job.AUTHORITY)
    elif fault == "no token":
        monkeypatch.setenv(train_job.TOKEN, "/nowhere/token")
    else:
        monkeypatch.setenv(train_job.URL, "https://127.0.0.1:9/" if fault == "away" else "nonsense")
    train_job.tell(1, 1, 1, {"loss": 0.7})
    assert trainer.told == []
    (line,) = caplog.messages
    assert "the TrainJob is not told" in line
    assert "t0ken" not in line


def test_without_a_train_job_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "components")
    monkeypatch.delenv(train_job.URL, raising=False)
    train_job.tell(1, 1, 1, {"loss": 0.7})
    assert caplog.messages == []
