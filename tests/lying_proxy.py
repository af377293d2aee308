"""A proxy before a real server, of S3 or MLflow, that lies: it cuts, delays, repeats and drops answers.

    with lying(server) as proxy:
        proxy.when("POST .*/model-versions/create", lost)  # once
        proxy.when("GET", trickled(pause=0.2), times=None)  # always
        proxy.nth(3, unheard)  # the fourth request from now on, whichever it is
        ...
    proxy.requests  # "POST /api/2.0/mlflow/model-versions/create", ... in order

A fault is a function of one exchange: it asks the server or does not, and sends what it likes. Without a fault the
answer passes as it is. The client's headers are passed on unchanged: signatures of S3 cover the Host.
"""

import contextlib
import http.client
import itertools
import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Headers = tuple[tuple[str, str], ...]

# Between client and proxy, and proxy and server, these are of each connection.
_OF_A_CONNECTION = ("connection", "keep-alive", "transfer-encoding", "content-length")
_PIECE = 1 << 16


class Answer(NamedTuple):
    """An answer of a server."""

    status: int
    headers: Headers
    body: bytes

    def head(self, length: int | str | None = None) -> bytes:
        """Status line and headers. Says how long the body is: truly, otherwise, or (empty) not at all."""
        said = len(self.body) if length is None else length
        lines = [f"HTTP/1.1 {self.status} {http.client.responses.get(self.status, 'Odd')}"]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in _OF_A_CONNECTION]
        lines += ["Connection: close", *([f"Content-Length: {said}"] if said != "" else [])]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def but(self, **headers: str) -> "Answer":
        """The same with other headers: `but(content_range="bytes 0-0/1")`. Those that are empty are left out."""
        other = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        kept = tuple(each for each in self.headers if each[0].lower() not in other)
        return self._replace(headers=kept + tuple((name, value) for name, value in other.items() if value))


class Exchange:
    """A request, and what may be done about it."""

    def __init__(
        self, proxy: "LyingProxy", connection: socket.socket, request: tuple[str, str, Headers, bytes]
    ) -> None:
        self.proxy = proxy
        self.method, self.path, self.headers, self.body = request
        self._connection = connection

    def ask(self) -> Answer:
        """Pass the request on to the server."""
        server = http.client.HTTPConnection(self.proxy.upstream, timeout=120)
        try:
            server.putrequest(self.method, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers:
                server.putheader(name, value)
            server.endheaders(self.body or None)
            answer = server.getresponse()
            return Answer(answer.status, tuple(answer.getheaders()), answer.read())
        finally:
            server.close()

    def send(self, content: bytes) -> None:
        """Send bytes to the client. The exchange is over when the client has gone away, or the test is."""
        if self.proxy.over.is_set():
            raise ConnectionError
        self._connection.sendall(content)
        self.proxy.sent += len(content)

    def pause(self, seconds: float) -> None:
        """Wait, no longer than the test lasts."""
        self.proxy.over.wait(seconds)

    def answer(self, answer: Answer, length: int | str | None = None) -> None:
        """Send an answer."""
        self.send(answer.head(length) + (b"" if self.method == "HEAD" else answer.body))

    def reset(self) -> None:
        """Break the connection."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


Fault = Callable[[Exchange], None]


class _Rule:
    def __init__(self, pattern: str, fault: Fault, skip: int, times: int | None) -> None:
        self.pattern, self.fault, self.skip, self.times = re.compile(pattern), fault, skip, times

    def meets(self, request: str) -> bool:
        """Whether this request is the one. Counts it."""
        if self.times == 0 or not self.pattern.search(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class LyingProxy(socketserver.ThreadingTCPServer):
    """Passes requests on to a server, and does to some what was planned."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, server: str, port: int = 0) -> None:
        """Stand before `server`, http://host:port."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = server.removeprefix("http://")
        self.requests: list[str] = []
        """Method and path of every request, in order."""
        self.spoiled: list[str] = []
        """Those of them that met a fault."""
        self.sent = 0
        """Bytes that clients took."""
        self.over = threading.Event()
        self._plan: list[_Rule] = []
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def when(self, pattern: str, fault: Fault, *, times: int | None = 1, skip: int = 0) -> None:
        """Plan a fault. Of several that fit a request, the first is done.

        Args:
            pattern: is searched for in "METHOD /path?query".
            fault: what is done.
            times: how often; None for always.
            skip: so many such requests pass before.
        """
        self._plan.append(_Rule(pattern, fault, skip, times))

    def nth(self, number: int, fault: Fault) -> None:
        """Plan a fault for the request of this number, counted from 0 and from now on."""
        self.when("", fault, skip=number)

    def honest(self) -> None:
        """Forget all that was planned, and the requests that were seen."""
        with self._lock:
            self._plan.clear()
            self.requests.clear()
            self.spoiled.clear()
            self.sent = 0

    def fault_for(self, request: str) -> Fault:
        """What to do to a request, which is noted."""
        with self._lock:
            self.requests.append(request)
            rule = next((rule for rule in self._plan if rule.meets(request)), None)
            if rule is None:
                return honest
            self.spoiled.append(request)
            return rule.fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is not worth a word."""


class _Handler(socketserver.StreamRequestHandler):
    server: LyingProxy

    def handle(self) -> None:
        words = self.rfile.readline().decode("latin-1").split()
        if len(words) != 3:
            return
        headers = tuple(self._headers())
        known = {name.lower(): value for name, value in headers}
        if known.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunked = known.get("transfer-encoding", "").lower() == "chunked"
        body = b"".join(self._chunks()) if chunked else self.rfile.read(int(known.get("content-length", 0)))
        dropped = ("connection", "keep-alive", "transfer-encoding", "expect")
        passed = tuple(each for each in headers if each[0].lower() not in dropped)
        passed += (("Connection", "close"), *([("Content-Length", str(len(body)))] if chunked else []))
        fault = self.server.fault_for(f"{words[0]} {words[1]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            fault(Exchange(self.server, self.connection, (words[0], words[1], passed, body)))

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def _headers(self) -> Iterator[tuple[str, str]]:
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            yield name, value.strip()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


@contextlib.contextmanager
def lying(server: str, port: int = 0) -> Iterator[LyingProxy]:
    """A proxy that runs. It is honest until a fault is planned."""
    with LyingProxy(server, port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            proxy.shutdown()
            thread.join()


# Faults: what networks do.


def honest(exchange: Exchange) -> None:
    """Pass the answer on."""
    exchange.answer(exchange.ask())


def unheard(exchange: Exchange) -> None:
    """Break the connection; the server hears nothing."""
    exchange.reset()


def lost(exchange: Exchange) -> None:
    """Let the server act, and break the connection in place of its answer."""
    exchange.ask()
    exchange.reset()


def lost_in_a_gateway(exchange: Exchange) -> None:
    """Let the server act, and answer 502 in its place."""
    exchange.ask()
    exchange.answer(Answer(502, (("Content-Type", "text/html"),), b"<html>Bad Gateway</html>"))


def repeated(exchange: Exchange) -> None:
    """Send the request twice, as a gateway does that did not hear the first answer. Pass the second answer on."""
    exchange.ask()
    exchange.answer(exchange.ask())


def delayed(seconds: float) -> Fault:
    """Pass the answer on after a while."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.ask()
        exchange.pause(seconds)
        exchange.answer(answer)

    return fault


def silent(exchange: Exchange) -> None:
    """Let the server act, and say nothing until the test is over."""
    exchange.ask()
    exchange.proxy.over.wait()


def cut(after: int | None = None, *, reset: bool = False) -> Fault:
    """Send so many bytes of the body, half of them by default, and close or break the connection."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.ask()
        exchange.send(answer.head() + answer.body[: len(answer.body) // 2 if after is None else after])
        if reset:
            exchange.reset()

    return fault


def status(code: int) -> Fault:
    """Answer with a status, as a gateway does; the server hears nothing."""
    return lambda exchange: exchange.answer(Answer(code, (("Content-Type", "text/html"),), b"<html>not now</html>"))


# Faults: what liars do.


def trickled(pause: float = 1.0, *, head: bool = False) -> Fault:
    """Send one byte at a time: of the body, or of all."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.ask()
        if not head:
            exchange.send(answer.head())
        for byte in (answer.head() if head else b"") + answer.body:
            exchange.send(bytes([byte]))
            exchange.pause(pause)

    return fault


def continues(pause: float = 0.0) -> Fault:
    """Send `100 Continue` for ever."""
    return _for_ever(lambda _: b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause)


def endless_headers(pause: float = 0.0) -> Fault:
    """Send headers for ever."""
    return _for_ever(lambda _: b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n", pause)


def endless_line(exchange: Exchange) -> None:
    """Send one header for ever."""
    _for_ever(lambda _: b"HTTP/1.1 200 OK\r\nX-Long: ", b"a" * _PIECE)(exchange)


def endless(code: int | None = None, *, chunked: bool = False, filling: bytes = b"\0") -> Fault:
    """Send a body without end: after the true head, or as the body of an error.

    Args:
        code: the status; None for the server's own answer.
        chunked: as chunks, in place of a body that ends with the connection.
        filling: what comes after the true body, again and again.
    """

    def begin(exchange: Exchange) -> bytes:
        answer = exchange.ask() if code is None else Answer(code, (("Content-Type", "application/xml"),), b"")
        if not chunked:
            return answer.head("") + answer.body
        head = answer.head("").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        return head + (b"%x\r\n%b\r\n" % (len(answer.body), answer.body) if answer.body else b"")

    block = filling * (_PIECE // len(filling))
    return _for_ever(begin, b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)


def compressed(body: bytes) -> Fault:
    """Send a body that was compressed with gzip, as it is."""
    kind = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    return lambda exchange: exchange.answer(Answer(200, kind, body))


def sized(length: int | str) -> Fault:
    """Say another Content-Length."""
    return lambda exchange: exchange.answer(exchange.ask(), length)


def whole(exchange: Exchange) -> None:
    """Answer a request for a range with 200 and more than that."""
    answer = exchange.ask()
    exchange.answer(answer.but(content_range="")._replace(status=200, body=3 * answer.body))


def edited(change: Callable[[Answer], Answer]) -> Fault:
    """Change the answer."""
    return lambda exchange: exchange.answer(change(exchange.ask()))


def made(make: Callable[[Exchange], Answer]) -> Fault:
    """Make up the answer; the server hears nothing."""
    return lambda exchange: exchange.answer(make(exchange))


def headed(**headers: str) -> Fault:
    """Change headers: `headed(content_range="bytes 0-0/1")`."""
    return edited(lambda answer: answer.but(**headers))


def redirected(to: str, code: int = 307) -> Fault:
    """Send the client elsewhere."""
    return lambda exchange: exchange.answer(Answer(code, (("Location", to),), b""))


def garbage(exchange: Exchange) -> None:
    """Answer with bytes that are no HTTP."""
    exchange.send(bytes(range(256)) * 16)


def garbage_headers(exchange: Exchange) -> None:
    """Put lines among the headers that are none."""
    answer = exchange.ask()
    exchange.send(answer.head().replace(b"\r\n", b"\r\n\xff\xfe: \x1b]0;\x07\r\nno header\r\n: :\r\n", 1) + answer.body)


def listing(page: Callable[[int], tuple[list[str], str]]) -> Fault:
    """Make up the pages of a list of objects.

    Args:
        page: the keys of the page of a number, and the token of the next one: `-` if a next one is claimed without a
            token, empty if this is the last.
    """
    numbers = itertools.count()

    def make(_: Any) -> Answer:
        keys, token = page(next(numbers))
        more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token not in ("", "-") else ""
        content = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
        body = (
            f"<ListBucketResult><IsTruncated>{str(bool(token)).lower()}</IsTruncated>{more}{content}</ListBucketResult>"
        )
        return Answer(200, (("Content-Type", "application/xml"),), body.encode())

    return made(make)


def _for_ever(begin: Callable[[Exchange], bytes], more: bytes, pause: float = 0.0) -> Fault:
    def fault(exchange: Exchange) -> None:
        exchange.send(begin(exchange))
        block = more if pause else more * max(1, _PIECE // len(more))
        while True:
            exchange.send(block)
            if pause:
                exchange.pause(pause)

    return fault
