"""Where versions come from while the server runs: a directory where an alias is followed.

A process that imports MLflow, `mura fetch --follow`, keeps it. The server starts that process, or it runs in a
container of its own.
"""

import logging
import subprocess
import sys
import time
from pathlib import Path

from components.artifacts.followed import FOLLOWED, Followed
from components.base.errors import ExitCode, MuraError, OutsideFailed

FIRST = 600.0
"""Until there is a first version, seconds. Somebody else may fetch it."""
AGAIN = 30.0
"""Until a process that ended is started again, seconds."""
# It ends with this process: its stdin is a pipe, to which nobody writes.
FOLLOW = (
    "import os, sys, threading; "
    "threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start(); "
    "from components.cli.main import main; main()"
)

logger = logging.getLogger(__name__)


class Source:
    """A directory where an alias is followed, and perhaps the process that does it."""

    def __init__(self, folder: Path, uri: str = "", seconds: float = 0.0) -> None:
        """Take the directory, and start the process if the URI is given.

        Args:
            folder: as `Followed`.
            uri: `models:/NAME@ALIAS`; empty if another process follows it there.
            seconds: between two looks at the registry.
        """
        self._folder, self._uri, self._seconds = folder, uri, seconds
        self._process = self._started() if uri else None
        self._again = 0.0

    def first(self) -> Path:
        """Wait for the first version.

        Returns:
            Its directory.

        Raises:
            MuraError: it was not fetched.
        """
        if self._process is None and not (self._folder / FOLLOWED).exists():
            logger.info("serve: waiting for the first version in %s", self._folder)
        deadline = time.monotonic() + FIRST
        while (found := Followed.read(self._folder)) is None:
            if self._process is not None and (code := self._process.poll()) is not None:
                # It has said why.
                error = MuraError(f"serve: {self._uri} was not fetched; the reason is above.")
                error.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.OUTSIDE
                raise error
            if time.monotonic() > deadline:
                raise OutsideFailed(
                    f"{self._folder}: expected {FOLLOWED} within {FIRST:.0f} s, by `mura fetch --follow`; found none."
                )
            time.sleep(0.05)
        return self._folder / found.directory

    def present(self) -> Followed | None:
        """What the alias names, as far as is known; None if it cannot be read. A process that ended is started again.

        Raises:
            DataRefused: the directory was damaged.
        """
        self._revive()
        return Followed.read(self._folder)

    def silent(self) -> float | None:
        """Seconds since the registry last answered; None if that is not known."""
        try:
            return max(0.0, time.time() - (self._folder / FOLLOWED).stat().st_mtime)
        except OSError:
            return None

    def place(self, found: Followed) -> Path:
        """The directory of a version."""
        return self._folder / found.directory

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._end(self._process)

    def _revive(self) -> None:
        if self._process is None or (code := self._process.poll()) is None:
            return
        now = time.monotonic()
        if not self._again:
            logger.warning("serve: the process that follows %s ended (%d). It is started again.", self._uri, code)
            self._again = now + AGAIN
        elif now >= self._again:
            self._end(self._process)
            self._again, self._process = 0.0, self._started()

    def _started(self) -> "subprocess.Popen[bytes]":
        words = ["fetch", "--model", self._uri, "--out", str(self._folder), "--follow", str(self._seconds)]
        # In a session of its own: Ctrl-C is for the server, which ends it.
        command = [sys.executable, "-c", FOLLOW, *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    @staticmethod
    def _end(process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
