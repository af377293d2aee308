"""A way to an MLflow server on which things happen to requests as they do on networks and behind gateways."""

import contextlib
import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FILES = "/mlflow-artifacts/artifacts/"
"""In the path of requests for files."""


class Way(ThreadingHTTPServer):
    """A way to a server on which some requests get no answer until the test is over."""

    daemon_threads = True

    def __init__(self, server: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = server.removeprefix("http://")
        self.hangs = re.compile("(?!)")
        """Method and path of requests without an answer."""
        self.requests: list[str] = []
        """Method and path of every request."""
        self._refuses, self._refusal = re.compile("(?!)"), (0, 0.0)
        self.offers: str | None = None
        """Address of the store that is offered in place of files, as a server before S3 does."""
        self.offered: list[str] = []
        self.over = threading.Event()

    def refuse(self, status: int, pattern: str, seconds: float) -> None:
        """Answer requests of this kind with a status for a while."""
        self._refuses, self._refusal = re.compile(pattern), (status, time.monotonic() + seconds)

    def refusal(self, request: str) -> int | None:
        """The status to answer a request with at this moment."""
        status, until = self._refusal
        return status if self._refuses.search(request) and time.monotonic() < until else None

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
        request = f"{self.command} {self.path}"
        self.server.requests.append(request)
        if status := self.server.refusal(request):
            self._answer(status, b"not now")
            return
        if self.server.hangs.search(request):
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


@contextlib.contextmanager
def open_way(server: str, port: int = 0) -> Iterator[Way]:
    """A way to a server, by a port of its own."""
    with Way(server, port) as way:
        thread = threading.Thread(target=way.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield way
        finally:
            way.over.set()
            way.shutdown()
            thread.join()
