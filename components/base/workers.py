"""Work for all cores, in order, with memory that does not grow with the number of items."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from components.base.errors import OutsideFailed, classified

T = TypeVar("T")
R = TypeVar("R")

# Items in progress per worker. Finished results wait for slower ones that come before them.
AHEAD = 4
# A container's CPU limit: "<quota> <period>" in microseconds, or "max <period>" (cgroup v2).
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Number of cores that this process may use: its CPU affinity, or its container's limit if that is lower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_MAX.read_text(encoding="utf-8").split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


@contextmanager
def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int | None = None,
) -> Iterator[Iterator[R]]:
    """Apply a function to every item in worker processes; results come in the order of the items.

    The workers start at once, before the first result is asked for. They have ended when the context is left.

    Args:
        function: importable by name.
        items: picklable; taken as they are needed.
        workers: number of processes; None for one per core. With 1, everything happens in this process.

    Raises:
        OutsideFailed: a worker died (killed, or out of memory).
    """
    workers = workers or cores()
    if workers == 1:
        yield map(function, items)
        return
    # Spawned, not forked: a fork of a process with threads may hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start)
    try:
        iterator = iter(items)
        pending: deque[Future[R]] = deque()
        for item in islice(iterator, workers * AHEAD):
            pending.append(_submitted(pool, function, item))
        yield _results(pool, function, iterator, pending)
    except BrokenProcessPool as error:
        raise OutsideFailed("A worker process died. Was it killed, or is the memory too small? Try again.") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _results(
    pool: ProcessPoolExecutor, function: Callable[[T], R], items: Iterator[T], pending: "deque[Future[R]]"
) -> Iterator[R]:
    while pending:
        result = pending.popleft().result()
        pending.extend(_submitted(pool, function, item) for item in islice(items, 1))
        yield result


def _submitted(pool: ProcessPoolExecutor, function: Callable[[T], R], item: T) -> "Future[R]":
    """Give a worker an item. A worker that this starts never sees Ctrl-C, not even while it imports its modules."""
    # It would end the block of signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_call, pickle.dumps((function, item)))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _call(work: bytes) -> Any:
    """Do the work in a worker. What is no bug is told here: not every error can be sent to the parent.

    What the work imports is imported here too: errors of unpickling end a worker, with a traceback for each.
    """
    try:
        function, item = pickle.loads(work)  # noqa: S301 - our own, a moment ago
        return function(item)
    except Exception as error:
        known = classified(error)
        if known is None or known is error:
            raise
        raise known from None


def aside(function: Callable[[], R]) -> "Future[R]":
    """Call a function in a background thread. The thread does not keep an interrupted process from ending."""
    future: Future[R] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def _start() -> None:
    # Ctrl-C reaches the whole process group. The parent handles it; one traceback is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # Without this, a worker whose parent was killed would wait for its next item for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
