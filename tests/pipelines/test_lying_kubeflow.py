"""Kubeflow's API and an image registry behind a proxy that lies: one line, 5, and little is read."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import lying_proxy as lie
import pytest
from kubeflow_api import KubeflowApi
from lying_proxy import Fault, LyingProxy, lying

from components.base import answers
from pipelines.checks import image_registry

Mura = Callable[..., tuple[int, str, str]]


@pytest.fixture
def proxy(api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingProxy]:
    monkeypatch.setattr(answers, "WINDOW", 0.5)
    with lying(api.url) as proxy:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", proxy.address)
        yield proxy


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lie.endless(), "more than 16,777,216 bytes"),
        (lie.endless(500), "more than 1,048,576 bytes"),
        (lie.continues(), "headers of more than"),
        (lie.trickled(0.05), "less than 4,096 bytes a second"),
        (lie.edited(lambda answer: answer._replace(body=b'{"a":' * 200_000)), "does not understand"),
    ],
    ids=["endless", "error", "100", "slow", "deep"],
)
def test_an_answer_of_kubeflow_without_end_is_told(
    proxy: LyingProxy, api: KubeflowApi, mura: Mura, fault: Fault, reason: str
) -> None:
    run = api.run("mura-1")
    proxy.when("GET .*/runs", fault, times=None)
    code, _, err = mura("watch", run)
    assert (code, err.count("\n")) == (5, 1), err
    assert proxy.address in err
    assert reason in err


def test_a_list_of_kubeflow_without_end_is_told(proxy: LyingProxy, api: KubeflowApi, mura: Mura) -> None:
    api.run("mura-1")
    page = lie.Answer(200, (("Content-Type", "application/json"),), b'{"runs": [], "next_page_token": "MQ=="}')
    proxy.when("GET .*/runs[?]", lie.made(lambda _: page), times=None)
    code, _, err = mura("watch", "mura-3")
    assert (code, err.count("\n")) == (5, 1), err
    assert "a list without end" in err


class Registry(BaseHTTPRequestHandler):
    """Wants a token, as Docker's does."""

    def do_HEAD(self) -> None:
        self.send_response(401)
        self.send_header("www-authenticate", f'Bearer realm="http://{self.headers["Host"]}/token"')
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"token": "t"}')

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lie.endless(), "more than 1,048,576 bytes"),
        (lie.continues(), "headers of more than"),
        (lie.made(lambda _: lie.Answer(200, (), b"[]")), "wants a login"),
        (lie.made(lambda _: lie.Answer(200, (), b"no")), "does not answer"),
        (lie.made(lambda _: lie.Answer(200, (), b"[" * 200_000)), "does not answer"),
    ],
    ids=["endless", "100", "list", "text", "deep"],
)
def test_an_image_registry_that_lies_leaves_the_image_unknown(fault: Fault, reason: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with lying(f"http://127.0.0.1:{server.server_port}") as proxy:
            proxy.when("GET /token", fault, times=None)
            found = image_registry.look(f"{proxy.address.removeprefix('http://')}/mura:1")
        server.shutdown()
    assert found.there is None
    assert reason in found.said
    assert "\n" not in found.said
