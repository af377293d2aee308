"""How much an HTTP server may answer, and how slowly. Python's HTTP, and every library on it, has no such limits.

A server that is broken, or not the one that was meant, may send headers, `100 Continue` or a body without end, or one
byte a second. Each of these bytes comes before the limit of a socket, which is told of silence only.
"""

import http.client
import io
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from components.base.errors import printable

HEAD = 1 << 17
"""Bytes of an answer's head: status, headers, and those of `100 Continue` before them."""
SMALL = 1 << 20
"""Bytes of an answer that says little: a state, a version. No error says more."""
LARGE = 1 << 24
"""Bytes of an answer that lists many things. As JSON, such an answer may take twenty times as much memory."""
SLOWEST = 4096
"""Bytes that must come in a second."""
WINDOW = 20.0
"""Over so many seconds, the slowest rate is measured."""
LONGEST = 900.0
"""Seconds for a whole answer, at most."""
# Bytes beside a body: the beginning of it is read with the head, and chunks have sizes.
_BESIDE = 1 << 16
# The most that deflate compresses.
_RATIO = 1032
# To be told as a broken connection.
_BROKEN_OFF = (http.client.RemoteDisconnected, http.client.IncompleteRead)
# Compressions that libraries undo without being asked.
_KNOWN = ("identity", "gzip", "x-gzip", "deflate")


class TooMuch(OSError):
    """An answer is longer, or slower, than it may be. To libraries, the connection broke."""


class Limits(NamedTuple):
    """Of the answers in one block."""

    most: int
    seconds: float


_limits: ContextVar[Limits | None] = ContextVar("limits", default=None)


@contextmanager
def limited(most: int = SMALL, seconds: float = LONGEST) -> Iterator[None]:
    """Limit the answers that this thread gets in the block, whichever library asks.

    Args:
        most: bytes of a body, after it was decompressed.
        seconds: for a whole answer. Whatever it is, SLOWEST bytes must come in a second.

    Raises:
        TooMuch: within the errors of the library that asked; `fault` finds it.
    """
    # All libraries on http.client make their answers of this class: urllib, urllib3, requests, boto3, and so on.
    http.client.HTTPConnection.response_class = _Answer
    # It logs headers that it cannot parse, with a traceback.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    before = _limits.set(Limits(most, seconds))
    try:
        yield
    finally:
        _limits.reset(before)


def fault(error: BaseException | None) -> str | None:
    """What was too much of an answer, or no HTTP, if that is behind an error."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, TooMuch):
            return str(each)
        if isinstance(each, http.client.HTTPException) and not isinstance(each, _BROKEN_OFF):
            return f"an answer that is no HTTP: {printable(str(each))[:100]}"
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return None


class _Answer(http.client.HTTPResponse):
    """An answer whose bytes are counted, if there are limits."""

    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self._counted: _Counted | None = None
        if limits := _limits.get():
            self._limits = limits
            self._counted = _Counted(self.fp.detach(), limits.seconds)
            self.fp = io.BufferedReader(self._counted)

    def begin(self) -> None:
        super().begin()
        if self._counted is not None:
            coding = self.headers.get("Content-Encoding", "identity").strip().lower()
            if coding not in _KNOWN:
                raise TooMuch(f"a body of the encoding {coding[:40]!r}, which nobody asked for")
            most = self._limits.most if self.status < 300 else min(SMALL, self._limits.most)
            self._counted.allow_body(most, 1 if coding == "identity" else _RATIO)


class _Counted(io.RawIOBase):
    """Bytes from a socket, which are counted and timed."""

    def __init__(self, raw: io.RawIOBase, seconds: float) -> None:
        super().__init__()
        self._raw = raw
        self._seconds = seconds
        self._left = HEAD
        self._what = f"headers of more than {HEAD:,} bytes"
        self._began = 0.0
        self._window = (0.0, 0)
        """When it began, and bytes since."""

    def allow_body(self, most: int, ratio: int) -> None:
        """Count the body from now on, of so many bytes at most, after it has grown by a ratio."""
        self._left = most // ratio + _BESIDE
        self._what = f"more than {most:,} bytes"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._left < 0:
            raise TooMuch(self._what)
        # One byte more than is allowed: without it, an answer of just the allowed size would look too long.
        view = memoryview(buffer)[: self._left + 1]
        count = self._raw.readinto(view)
        self._left -= count or 0
        if self._left < 0:
            raise TooMuch(self._what)
        self._time(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _time(self, count: int) -> None:
        """Check the time after each read. Silence is the socket's business."""
        now = time.monotonic()
        if not self._began:
            # A server may think before it answers.
            self._began, self._window = now, (now, 0)
            return
        if now - self._began > self._seconds:
            raise TooMuch(f"no whole answer within {self._seconds:.0f} s")
        began, so_far = self._window
        if now - began < WINDOW:
            self._window = (began, so_far + count)
        elif so_far + count < SLOWEST * WINDOW:
            raise TooMuch(f"less than {SLOWEST:,} bytes a second")
        else:
            self._window = (now, 0)
