"""What servers may answer, by every library that asks for us: standard, urllib3 and requests."""

import gzip
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import lying_proxy as lie
import pytest
import requests
import urllib3
from lying_proxy import Fault, LyingProxy, lying

from components.base import answers

TRUE = json.dumps({"said": "x" * 3_000}).encode()


class Honest(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(TRUE)))
        self.end_headers()
        self.wfile.write(TRUE)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Honest) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingProxy]:
    monkeypatch.setattr(answers, "WINDOW", 0.5)
    with lying(server) as proxy:
        yield proxy


def standard(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


def by_urllib3(url: str) -> bytes:
    with urllib3.PoolManager(retries=False, timeout=5) as pool:
        return bytes(pool.request("GET", url).data)


def by_requests(url: str) -> bytes:
    return requests.get(url, timeout=5).content


CLIENTS = [standard, by_urllib3, by_requests]
LIES: dict[str, tuple[Fault, str]] = {
    "a body without end": (lie.endless(), "more than 10,000 bytes"),
    "chunks without end": (lie.endless(chunked=True), "more than 10,000 bytes"),
    "100 Continue for ever": (lie.continues(), "headers of more than 131,072 bytes"),
    "100 Continue now and then": (lie.continues(0.02), "less than 4,096 bytes a second"),
    "headers without end": (lie.endless_headers(), "more than 100 headers"),
    "a header without end": (lie.endless_line, "more than 65536 bytes"),
    "headers now and then": (lie.endless_headers(0.02), "less than 4,096 bytes a second"),
    "one byte at a time": (lie.trickled(0.02), "less than 4,096 bytes a second"),
    "no HTTP": (lie.garbage, "no HTTP"),
}


@pytest.mark.long
@pytest.mark.parametrize("ask", CLIENTS)
@pytest.mark.parametrize("kind", LIES)
def test_an_answer_without_end_is_given_up_and_named(proxy: LyingProxy, kind: str, ask: Callable[[str], bytes]) -> None:
    fault, named = LIES[kind]
    proxy.when("GET", fault)
    with answers.limited(10_000), pytest.raises(Exception) as told:  # noqa: PT011 - each library has its own
        ask(proxy.address)
    assert named in (answers.fault(told.value) or "")
    assert proxy.sent < 16_000_000


@pytest.mark.parametrize("ask", CLIENTS)
def test_an_answer_within_the_limits_is_read(proxy: LyingProxy, ask: Callable[[str], bytes]) -> None:
    for most in (len(TRUE), 10_000):
        with answers.limited(most):
            assert ask(proxy.address) == TRUE


def test_a_server_may_think_between_the_head_and_the_body(proxy: LyingProxy) -> None:
    def late(exchange: lie.Exchange) -> None:
        answer = exchange.ask()
        exchange.send(answer.head())
        exchange.pause(0.7)
        exchange.send(answer.body)

    proxy.when("GET", late)
    with answers.limited():
        assert standard(proxy.address) == TRUE


def test_a_whole_answer_has_a_deadline(proxy: LyingProxy) -> None:
    def slow(exchange: lie.Exchange) -> None:
        exchange.send(exchange.ask().head(""))
        while True:
            exchange.send(b"x" * 1_000)
            exchange.pause(0.02)

    proxy.when("GET", slow)
    with answers.limited(1 << 30, seconds=1.0), pytest.raises(answers.TooMuch, match="no whole answer within 1 s"):
        standard(proxy.address)


def test_an_error_is_shorter_than_what_was_asked_for(proxy: LyingProxy) -> None:
    proxy.when("GET", lie.endless(500))
    with answers.limited(1 << 30), pytest.raises(urllib3.exceptions.HTTPError) as told:
        by_urllib3(proxy.address)
    assert answers.fault(told.value) == "more than 1,048,576 bytes"


def test_a_compressed_answer_does_not_grow_in_memory(proxy: LyingProxy) -> None:
    proxy.when("GET", lie.compressed(gzip.compress(b"0" * 400_000_000, 1)))
    with answers.limited(1 << 24), pytest.raises(requests.RequestException) as told:
        by_requests(proxy.address)
    assert answers.fault(told.value) == "more than 16,777,216 bytes"
    proxy.when("GET", lie.compressed(gzip.compress(TRUE)))
    with answers.limited(1 << 24):
        assert by_requests(proxy.address) == TRUE


def test_outside_of_the_block_and_in_other_threads_nothing_is_limited(proxy: LyingProxy) -> None:
    read: list[bytes] = []
    with answers.limited(10):
        other = threading.Thread(target=lambda: read.append(standard(proxy.address)))
        other.start()
        other.join()
    assert [*read, standard(proxy.address)] == [TRUE, TRUE]
