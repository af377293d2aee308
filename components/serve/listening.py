"""The server itself: uvicorn, which says that it is not ready before it closes its door."""

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

import uvicorn

from components.base.errors import OutsideFailed, Terminated
from components.predict.predictor import Predictor
from components.serve.addresses import written
from components.serve.application import application
from components.serve.decoders import Decoders
from components.serve.desk import SECONDS, Desk
from components.serve.logbook import Logbook
from components.serve.succession import Succession

CONNECTIONS = 256
"""At once. More are answered with 503 before they are read."""
IDLE_SECONDS = 5
"""After which a connection without a request is closed."""

logger = logging.getLogger(__name__)


class Rules(NamedTuple):
    """Who may ask, and until when."""

    hosts: Sequence[str] | None
    """Names under which it may be asked, without port; None for every name."""
    linger: float
    """Seconds from SIGTERM to the last new request."""
    succession: Succession | None = None
    """Other versions that come while it runs."""


def run(here: socket.socket, predictor: Predictor, decoders: Decoders, logbook: Logbook, rules: Rules) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        here: a socket that listens.
        predictor: what answers.
        decoders: started.
        logbook: where predictions are logged.
        rules: who may ask.

    Raises:
        OutsideFailed: the server does not start.
    """
    desk = Desk(predictor, decoders, logbook)
    server = _Server(_settings(desk, rules), desk, rules.linger)
    try:
        server.run([here])
    except (KeyboardInterrupt, Terminated):
        # The server obeyed the signal and raises it again.
        if not server.told:
            raise
    if not server.started:
        raise OutsideFailed("The server did not start; the reason is above.")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, desk: Desk, linger: float) -> None:
        super().__init__(config)
        self._desk, self._linger = desk, linger
        self.told = False
        """Whether a signal came."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            logger.info(
                "serve: %s version %s at http://%s:%d",
                self._desk.present.name,
                self._desk.present.version,
                written(host),
                port,
            )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C, or a second signal, ends it without waiting."""
        self.told = True
        if self._desk.ready and self._linger and sig == signal.SIGTERM:
            self._desk.ready = False
            self._captured_signals.append(sig)
            asyncio.get_running_loop().call_later(self._linger, super().handle_exit, sig, frame)
            return
        self._desk.ready = False
        super().handle_exit(sig, frame)


def _settings(desk: Desk, rules: Rules) -> uvicorn.Config:
    return uvicorn.Config(
        application(desk, rules.hosts, rules.succession),
        lifespan="on",
        # Its own lines have addresses and paths of whoever asks.
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(SECONDS),
    )
