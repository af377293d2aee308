"""What can go wrong, by whose turn it is to act: each error carries the exit code of its kind.

0 done, 1 a bug, 2 wrong usage or parameters, 3 the data was refused, 4 the gate said no,
5 a service could not be reached.
"""

from pathlib import Path


class MuraError(Exception):
    """An error that is told in one line: what was expected, what came, what to do."""

    exit_code = 1


class UsageError(MuraError):
    """A flag, a path or a parameter is wrong."""

    exit_code = 2


class DataRefused(MuraError):
    """The data is not what it should be; the members are named."""

    exit_code = 3

    def __init__(self, message: str, *, keep: Path | None = None) -> None:
        """Say what is wrong, and where more is said.

        Args:
            message: one line.
            keep: directory of reports that should outlive the refusal, although the artifact is not made.
        """
        super().__init__(message)
        self.keep = keep


class DataChanged(MuraError):
    """The data is not what it was when the step began; what was read so far is worth nothing."""

    exit_code = 3


class GateRefused(MuraError):
    """The model may not be promoted."""

    exit_code = 4


class ServiceUnreachable(MuraError):
    """MLflow, S3 or Kubeflow did not answer."""

    exit_code = 5


def printable(text: str) -> str:
    """Text as one line that moves no cursor: members of an archive may be called anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
