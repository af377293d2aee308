"""`mura serve`: a verified version, a socket, a graceful end."""

import importlib.util
import logging
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from components.artifacts.predictor import REGISTERED
from components.base import workers
from components.base.errors import ExitCode, MuraError, UsageError
from components.serve.addresses import LOCAL, is_local, written
from components.serve.decoders import Decoders
from components.serve.logbook import Logbook
from components.serve.source import Source
from components.serve.verifier import Verification

PORT = 8080
MOST_DECODERS = 2
"""Processes. One decodes faster than a network answers; the second goes on while a large picture keeps the first."""
FOLLOW_SECONDS = 5.0
"""Between two looks where the alias of a version points to."""
FETCH = "from components.cli.main import main; main()"

logger = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What was asked for."""

    model: str
    """A directory that `mura fetch` wrote, or `models:/...`."""
    host: str
    port: int
    """0 for any that is free."""
    hosts: tuple[str, ...]
    """Further names under which it may be asked."""
    log: Path | None
    key: Path | None
    linger: float
    """Seconds from SIGTERM to the last new request: those who send some hear first that it is not ready."""
    follow: float | None = None
    """Seconds between two looks whether the alias names another version; 0 for never; None for FOLLOW_SECONDS."""


def serve(asked: Asked) -> None:
    """Serve a version until SIGTERM or Ctrl-C.

    Raises:
        UsageError: there is no such version, or the address is taken.
        DataRefused: the version is not as a trusted key signed it, or was changed since it was registered.
        OutsideFailed: the memory is too small, or what is needed to fetch it is not here.
    """
    # A core would hold pictures.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # It warns of each damaged form, and would fill a log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logbook = Logbook(asked.log, asked.key)
    here = _socket(asked.host, asked.port)
    decoders = Decoders(min(MOST_DECODERS, workers.cores()))
    try:
        _run(asked, here, logbook, decoders)
    finally:
        decoders.stop()
        here.close()
    logger.info("serve: stopped")


def _run(asked: Asked, here: socket.socket, logbook: Logbook, decoders: Decoders) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mura-serve-")))
        source = _source(asked, folder)
        if source is not None:
            stack.callback(source.stop)
        version = _fetched(asked.model, folder / "version") if source is None else source.first()
        verification = Verification(version)
        # Imported while it is verified, and while the decoders start.
        from components.predict.predictor import Predictor
        from components.serve.listening import Rules, run
        from components.serve.succession import Succession

        verification.check()
        predictor = Predictor.opened(version)
        if source is None:
            # The network is in memory.
            stack.close()
        local = is_local(asked.host)
        hosts = (*LOCAL, *asked.hosts) if local or asked.hosts else None
        if not local:
            logger.warning(
                "serve: whoever reaches %s may ask, without a password and without TLS. Put a proxy with both before "
                "it.",
                asked.host,
            )
        succession = None if source is None else Succession(source, version)
        run(here, predictor, decoders, logbook, Rules(hosts, asked.linger, succession))


def _source(asked: Asked, folder: Path) -> Source | None:
    """Where other versions come from while the server runs; None if none do."""
    registered = asked.model.startswith(REGISTERED)
    seconds = FOLLOW_SECONDS if asked.follow is None and registered and "@" in asked.model else asked.follow
    if not seconds:
        return None
    if not registered:
        return Source(Path(asked.model))
    _check_mlflow(asked.model)
    return Source(folder, asked.model, seconds)


def _fetched(model: str, folder: Path) -> Path:
    """The directory of a version. One of the registry is fetched by a process of its own, which imports MLflow."""
    if not model.startswith(REGISTERED):
        if not Path(model).is_dir():
            raise UsageError(f"{model}: expected a directory that `mura fetch` wrote, or models:/NAME@ALIAS.")
        return Path(model)
    _check_mlflow(model)
    words = ["fetch", "--model", model, "--out", str(folder)]
    done = subprocess.run([sys.executable, "-c", FETCH, *words], check=False)
    if done.returncode:
        # It has said why.
        code = done.returncode if done.returncode in set(ExitCode) else ExitCode.OUTSIDE
        error = MuraError(f"serve: {model} was not fetched; the reason is above.")
        error.exit_code = ExitCode(code)
        raise error
    return folder


def _check_mlflow(model: str) -> None:
    if importlib.util.find_spec("mlflow") is None:
        raise UsageError(f"{model}: MLflow is not here to fetch it. Run `mura fetch` elsewhere, and give --model DIR.")


def _socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address is taken, or is none of this machine.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
        found.listen(2048)
    except OSError as error:
        raise UsageError(
            f"{written(host)}:{port}: cannot listen there ({error.strerror}). Give another --port."
        ) from error
    return found
