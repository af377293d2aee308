"""Processes that decode pictures, as the server sees them.

A native decoder that crashes, hangs or eats memory ends its own process. The view is refused, and another process takes
the place.
"""

import asyncio
import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.base.errors import OutsideFailed
from components.serve import frames

SECONDS = 20.0
"""For one picture. The largest takes about two."""
STARTING = 60.0
"""Until a process is ready, seconds."""
COMMAND = (sys.executable, "-m", "components.serve.decoder")
# Threads of libraries would have nothing to do: each process decodes one picture at a time.
ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}

Process = subprocess.Popen[bytes]


class Undecodable(Exception):
    """A view is refused. The message says why, without a value of the file."""


class View(NamedTuple):
    """A view, decoded."""

    square: NDArray[np.uint8]
    """uint8 [S, S], as the network sees it."""
    picture: bytes
    """A PNG for people; empty if none was asked for."""
    kind: str
    """PNG, JPEG or DICOM."""
    width: int
    """Of the whole picture, pixels."""
    height: int
    """The same."""
    grey: dict[str, Any]
    """Statistics of its grey levels, as manifests have them."""
    notes: tuple[str, ...]
    """What whoever looks at the result should know."""
    study: str
    """DICOM's StudyInstanceUID. It identifies: compare it, and write it nowhere."""
    body_part: str
    """By DICOM's BodyPartExamined; empty where it says none."""


class Decoders:
    """Some processes; each decodes one picture at a time."""

    def __init__(self, count: int, seconds: float = SECONDS) -> None:
        """Start the first one. It imports its libraries while the caller goes on. Others start when they are needed.

        Args:
            count: of processes at most.
            seconds: for one picture.
        """
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._all: set[Process] = set()
        self._first: Process | None = self._started()
        # One that has begun is taken before one that has not.
        self._idle: queue.LifoQueue[Process | None] = queue.LifoQueue()
        for _ in range(count - 1):
            self._idle.put(None)

    async def ready(self) -> None:
        """Wait until pictures can be decoded.

        Raises:
            OutsideFailed: the process did not start.
        """
        if process := self._first:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._check_ready, process)
            self._idle.put(process)
            self._first = None

    def stop(self) -> None:
        """End the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._all):
            self._end(process)

    async def view(self, content: bytes, size: int, side: int = 0) -> View:
        """Decode a picture.

        Args:
            content: the file.
            size: side of the square that the network sees, pixels.
            side: side of the square for people, pixels; 0 for none.

        Raises:
            Undecodable: it is no radiograph that is read here.
            OutsideFailed: the memory is too small, or no process can be started.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._view, content, size, side)

    def _view(self, content: bytes, size: int, side: int) -> View:
        """The same, in one of as many threads as there are processes."""
        process = self._idle.get()
        try:
            if process is not None and process.poll() is not None:
                self._end(process)
                process = None
            if process is None:
                process = self._started()
                self._check_ready(process)
            said, (seen, picture) = self._asked(process, content, size, side)
        finally:
            self._idle.put(process)
        pixels = np.frombuffer(seen, np.uint8).reshape(size, size)
        return View(pixels, picture, **said | {"notes": tuple(said["notes"])})

    def _asked(self, process: Process, content: bytes, size: int, side: int) -> tuple[dict[str, Any], list[bytes]]:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._seconds, stop)
        timer.start()
        try:
            process.stdin.write(frames.message({"size": size, "picture": side}, content))
            process.stdin.flush()
            said, parts = frames.read(process.stdout)
        except (EOFError, OSError):
            self._end(process)
            why = f"takes more than {self._seconds:g} s to decode" if late.is_set() else "ends its decoder"
            raise Undecodable(f"a picture that {why}") from None
        finally:
            timer.cancel()
        if "refused" in said:
            raise Undecodable(said["refused"])
        if "failed" in said:
            raise OutsideFailed(said["failed"])
        del said["sizes"]
        return said, parts

    def _started(self) -> Process:
        process = subprocess.Popen(COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=os.environ | ALONE)
        self._all.add(process)
        return process

    def _check_ready(self, process: Process) -> None:
        assert process.stdout is not None
        timer = threading.Timer(STARTING, process.kill)
        timer.start()
        try:
            frames.read(process.stdout)
        except (EOFError, OSError):
            self._end(process)
            raise OutsideFailed("A process that decodes pictures did not start. Is the memory too small?") from None
        finally:
            timer.cancel()

    def _end(self, process: Process) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:
                pass  # what was not yet written
        self._all.discard(process)
