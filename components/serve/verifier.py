"""A process that verifies a directory: `python -m components.serve.verifier DIR`, started by the server.

The libraries of signatures take a second to import and 40 MB of memory. In a process of its own they are imported while
the server imports its own libraries, and are gone afterwards.
"""

import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

from components.base.errors import ExitCode, MuraError, OutsideFailed, classified
from components.base.terminal import tell

SECONDS = 600.0
"""For all files of a version."""


class Verification:
    """A directory that is verified in another process."""

    def __init__(self, folder: Path) -> None:
        """Start it.

        Args:
            folder: the directory.
        """
        command = (sys.executable, "-m", "components.serve.verifier", str(folder))
        self._folder = folder
        self._process = subprocess.Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, text=True)

    def check(self) -> None:
        """Wait for it.

        Raises:
            DataRefused, UsageError: as `signing.directory.verify`.
            OutsideFailed: the process failed.
        """
        try:
            said, _ = self._process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            said = ""
        finally:
            self._process.kill()
            code = self._process.wait()
        if code == ExitCode.DONE:
            return
        if said and code in set(ExitCode):
            error = MuraError(said.strip())
            error.exit_code = ExitCode(code)
            raise error
        raise OutsideFailed(f"{self._folder}: the process that verifies it failed ({code}). Is the memory too small?")


def main() -> int:
    """Verify a directory; say why it is refused."""
    from components.signing import directory

    try:
        directory.verify(Path(sys.argv[1]))
    except Exception as error:
        if (told := classified(error)) is None:
            raise
        tell(str(told))
        return int(told.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
