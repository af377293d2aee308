"""SIGTERM: this machine is taken away in a moment. The training ends at once, after the last epoch that it has saved.

A training resumes after an epoch, not within one: so there is nothing to save within one. What is being saved when the
signal comes is saved to the end. Kubernetes, Slurm and a person who stops a container send the signal; Kubeflow
Pipelines' launcher does not pass it on.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from components.base.errors import Terminated


class Termination:
    """Whether SIGTERM came, and what must not be interrupted by it."""

    def __init__(self) -> None:
        """Use `listening`."""
        self._busy = False
        self._waits = False
        self._raised = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block come to its end first.

        Raises:
            Terminated: SIGTERM came meanwhile.
        """
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._waits:
            self._end()

    def handle(self, *_: Any) -> None:
        """End what runs now, or what comes after it."""
        if self._busy:
            self._waits = True
        elif not self._raised:
            self._end()

    def _end(self) -> None:
        self._raised = True
        raise Terminated


def at_once() -> None:
    """End this process when SIGTERM comes, also while TensorFlow waits for other workers: there is nothing to save."""
    # To process 1 of a container the system gives no signal without a handler.
    if os.getpid() != 1 and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def listening() -> Iterator[Termination]:
    """Raise Terminated in this block when SIGTERM comes, as Ctrl-C raises KeyboardInterrupt."""
    termination = Termination()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread of a process can handle signals.
        yield termination
        return
    before = signal.signal(signal.SIGTERM, termination.handle)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, before)
