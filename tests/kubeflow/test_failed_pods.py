"""Which steps failed, asked of Kubernetes by the exit handler."""

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certificates
import pytest
from kubeflow_api import KubeflowApi

from components.kubeflow import failed_pods, notify, pod

NODE = "mura-wfcm5(0).root(0).exit-handler-1(0).{}"


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Answers of a cluster by path, to a pod of it."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path) if self.headers["authorization"] == "Bearer secret" else None
            self.send_response(403 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: Any) -> None: ...

    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "namespace").write_text("radiology")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.make(tmp_path / "ca.crt", tmp_path / "key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(failed_pods, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_port))
    yield answers
    server.shutdown()
    server.server_close()
    thread.join()


def made(node: str, phase: str, minute: int) -> dict[str, Any]:
    """A pod."""
    annotations = {"workflows.argoproj.io/node-name": NODE.format(node)}
    stamp = f"2026-11-28T14:{minute}:00Z"
    return {"metadata": {"annotations": annotations, "creationTimestamp": stamp}, "status": {"phase": phase}}


PODS = [
    made("promote(0).executor(1)", "Failed", 49),
    made("promote(0).executor(0)", "Failed", 48),
    made("promote-driver(0)", "Succeeded", 47),
    # Tried again, and good.
    made("train-vgg16(0).executor(0)", "Failed", 20),
    made("train-vgg16(0).executor(1)", "Succeeded", 21),
    {"metadata": {}, "status": {"phase": "Failed"}},
]


def told(api: KubeflowApi, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """What the webhook is told of the run that outgrew Argo, had it failed."""
    run = api.replay("run-over-1MB")
    monkeypatch.setenv(pod.API, api.url)
    monkeypatch.setenv(pod.UI, "https://kubeflow.example")
    found = notify.message('{"state": "FAILED", "error": {}}', run)
    return found["text"].partition(" https")[0], found["failed"]


PATH = "/api/v1/namespaces/radiology/pods?labelSelector=pipeline%2Frunid%3D06ec8bab-07f4-4b42-a383-f094a0d2e5eb"


def test_a_step_that_kubeflow_lost_is_found_by_its_pod(
    api: KubeflowApi, kubernetes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes[PATH] = {"items": PODS}
    assert told(api, monkeypatch) == ("mura mura-20261128-143554: failed in Promote", ["promote"])


@pytest.mark.parametrize("answer", [None, {}, [], {"items": None}, {"items": [1]}, {"items": []}])
def test_pods_that_may_not_be_listed_do_no_harm(
    api: KubeflowApi, kubernetes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    kubernetes[PATH] = answer
    assert told(api, monkeypatch) == ("mura mura-20261128-143554: failed in or after Register", [])


def test_a_pod_without_an_account(api: KubeflowApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setattr(failed_pods, "ACCOUNT", tmp_path)
    assert told(api, monkeypatch)[0] == "mura mura-20261128-143554: failed in or after Register"
