"""How long a step waits for a service that does not answer, before it ends with exit code 5.

In a pod it waits by itself. An orchestrator may not start it again: Argo as Kubeflow installs it retries pods that are
deleted, evicted or lost, and no step that ended with a code.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from components.base.errors import ServiceRefused, ServiceUnreachable, UsageError
from components.base.variables import KUBEFLOW_RUN

T = TypeVar("T")

logger = logging.getLogger(__name__)

PATIENCE = "MURA_PATIENCE"
"""How long to wait for a service that does not answer, seconds."""
POD_PATIENCE = 300.0
"""The same in a pod, where the variable says nothing: servers move to another node, too."""
_PAUSE, _LONGEST_PAUSE = 1.0, 15.0  # seconds between two attempts; doubled each time


class Overdue(Exception):
    """Work lasts longer than it may."""


_impatient: ContextVar[bool] = ContextVar("impatient", default=False)
_abandoned = False


def in_pod() -> bool:
    """Whether this process runs in a pod of Kubernetes."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST") or os.environ.get(KUBEFLOW_RUN))


def seconds(elsewhere: float) -> float:
    """How long to wait for a service that does not answer: MURA_PATIENCE, else five minutes in a pod.

    Args:
        elsewhere: what holds outside a pod, where somebody may look at the terminal.

    Raises:
        UsageError: MURA_PATIENCE is no number of seconds.
    """
    text = os.environ.get(PATIENCE, "").strip()
    if _impatient.get():
        return 0.0
    if not text:
        return POD_PATIENCE if in_pod() else elsewhere
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise UsageError(f"{PATIENCE} is {text}: expected seconds, 0 or more.")
    return found


@contextmanager
def none() -> Iterator[None]:
    """Wait for nothing in this block: its failure is no reason to stop."""
    before = _impatient.set(True)
    try:
        yield
    finally:
        _impatient.reset(before)


def insist(ask: Callable[[], T], patience: float) -> T:
    """Ask a service, and again while it does not answer.

    Args:
        ask: may be called several times.
        patience: how long, seconds; 0 for once.

    Raises:
        ServiceUnreachable: it still does not answer, or asking again does not help.
    """
    deadline, pause, told = time.monotonic() + patience, _PAUSE, False
    while True:
        try:
            return ask()
        except ServiceRefused:
            raise
        except ServiceUnreachable as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if not told:
                logger.info("%s (waiting up to %.0f s)", error, left)
            told = True
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def within(limit: float, work: Callable[[], T], arriving: Path | None = None, most: float = math.inf) -> T:
    """Do work of a library that sets itself no limit.

    Args:
        limit: how long it may last, seconds.
        work: runs in a thread, which is left to itself when the time is over.
        arriving: a directory. While its files grow, the time begins anew.
        most: bytes of these files.

    Raises:
        Overdue: it lasts longer.
        TooMuch: the files have more bytes.
    """
    # Imported here for the command line, which takes long to answer otherwise.
    from concurrent import futures

    from components.base import answers, workers

    global _abandoned
    future, size = workers.aside(work), _size(arriving)
    deadline = time.monotonic() + limit
    while not futures.wait([future], timeout=min(0.5, limit)).done:
        if (now := _size(arriving)) != size:
            size, deadline = now, time.monotonic() + limit
            if size > most:
                _abandoned = True
                raise answers.TooMuch(f"files of more than {most:,} bytes")
        elif time.monotonic() > deadline:
            _abandoned = True
            raise Overdue
    return future.result()


def abandoned() -> bool:
    """Whether a thread was left to itself: a process that ends as usual would wait for its library's threads."""
    return _abandoned


def _size(folder: Path | None) -> int:
    total = 0
    for path in folder.rglob("*") if folder else ():
        try:
            total += path.stat().st_size
        except OSError:  # renamed or removed meanwhile
            continue
    return total
