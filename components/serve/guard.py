"""What holds of every request, before it is looked at and after it is answered.

- A name or a page of another origin is refused. A page that somebody visits could otherwise ask a server on their own
  machine, or read its answers under a name of its own (DNS rebinding).
- What is left of a body is read and thrown away for some seconds before it is refused: a client that still sends does
  not read the answer, and would hear of a broken connection instead of the reason.
- Browsers are told to load nothing from elsewhere, and to keep nothing.
"""

import json
import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve.addresses import host_name

LEFT_SECONDS = 10.0
"""For the rest of a body that is not wanted."""
LEFT_BYTES = 4_000_000_000
"""The same."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_SAFE = ("GET", "HEAD", "OPTIONS")

logger = logging.getLogger(__name__)


class Guard:
    """An application around another one."""

    def __init__(self, inner: ASGIApp, hosts: Sequence[str] | None) -> None:
        """Take the application.

        Args:
            inner: it.
            hosts: names under which it may be asked, without port; None for every name.
        """
        self._inner, self._hosts = inner, None if hosts is None else tuple(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        body = _Body(scope, receive)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.finish()
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if refused := self._refused(scope):
            status, reason = refused
            await _say(answer, status, reason)
            return
        try:
            await self._inner(scope, body.receive, answer)
        except Exception as error:
            # It was answered with 500. The message of an error may repeat what was sent.
            last = traceback.extract_tb(error.__traceback__)[-1]
            logger.error("serve: a bug, %s in %s, line %s", type(error).__name__, Path(last.filename).name, last.lineno)
            logger.debug("", exc_info=error)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            return 421, "this server does not answer to that name. Start it with --allowed-host NAME"
        if scope["method"] in _SAFE:
            return None
        site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
        if site not in ("same-origin", "none") or (origin and origin.partition("://")[2].lower() != host.lower()):
            return 403, "a page of another origin may not ask here"
        return None


class _Body:
    """The body of a request, and whether it has ended."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self._receive, self._begun = receive, False
        self._ended = "content-length" not in headers and "transfer-encoding" not in headers
        # Such a client sends nothing before it is asked to.
        self._waits = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        self._begun = True
        message = await self._receive()
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def finish(self) -> None:
        """Throw away what is left of it."""
        left = LEFT_BYTES
        with anyio.move_on_after(LEFT_SECONDS):
            while not self._ended and not (self._waits and not self._begun) and left > 0:
                left -= len((await self.receive()).get("body", b""))


async def _say(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
