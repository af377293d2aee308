"""Errors that are told in one line, and the exit codes of the command line."""

import errno
import os
import re
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class ExitCode(IntEnum):
    """Who must act after a command has ended."""

    DONE = 0
    """Nobody: it is done, or there was nothing to do."""
    BUG = 1
    """Us. No other kind of error ends with 1."""
    USAGE = 2
    """The caller: a flag, a parameter or a setting is wrong."""
    DATA = 3
    """Whoever keeps the data: it was refused."""
    GATE = 4
    """Whoever decides about models: the gate refused this one."""
    OUTSIDE = 5
    """Perhaps nobody: something outside failed, and running again may help."""
    RUN = 6
    """Whoever looks after the watched run: it failed or was cancelled, and the step's own code is not known."""


class MuraError(Exception):
    """An error that is told in one line: what was expected, what came, what to do."""

    exit_code = ExitCode.BUG


class UsageError(MuraError):
    """A flag, a path, a parameter or a setting is wrong."""

    exit_code = ExitCode.USAGE


class Diverged(UsageError):
    """A loss is not finite: the learning rate is too high, or an image is not what it should be."""


class DataRefused(MuraError):
    """The data is not what it should be. The message names the members."""

    exit_code = ExitCode.DATA

    def __init__(self, message: str, *, keep: Path | None = None) -> None:
        """Say what is wrong, and where more is said.

        Args:
            message: one line.
            keep: directory of reports that should outlive the refusal, although the artifact is not made.
        """
        super().__init__(message)
        self.keep = keep


class DataChanged(MuraError):
    """The data changed while the step read it. What was read so far is worth nothing."""

    exit_code = ExitCode.DATA


class GateRefused(MuraError):
    """The model may not be promoted."""

    exit_code = ExitCode.GATE


class OutsideFailed(MuraError):
    """Something outside this program failed: the disk, the memory, a worker. Running again may help."""

    exit_code = ExitCode.OUTSIDE


class ServiceUnreachable(OutsideFailed):
    """MLflow, S3 or Kubeflow did not answer."""


class ServiceRefused(ServiceUnreachable):
    """A service answered that it cannot or may not do it. The same question gets the same answer."""


class RunFailed(MuraError):
    """A watched run failed or was cancelled."""

    exit_code = ExitCode.RUN


class Terminated(BaseException):
    """SIGTERM came. As KeyboardInterrupt, it is no error that somebody may catch by the way."""

    exit_code = 143
    """As shells have it for a process that the signal ended."""


# What the caller can set right: a path or a permission. Other errors of the system are the machine's: a full disk, a
# broken device, too many open files.
_OF_THE_CALLER = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EINVAL, errno.EBADF, errno.ENOTEMPTY,
}  # fmt: skip


# What libraries say where Python would raise a MemoryError: the loader, threads, OpenCV, zlib, Pillow.
_NO_MEMORY = (
    *("failed to map segment", "can't start new thread", "Cannot allocate memory", "Insufficient memory"),
    *("Error -4 while", "out of memory"),
)


# Everything is written beside its place first: `.x.png.partial`, `.x.png.0123456789abcdef.partial`.
_HIDDEN = re.compile(
    r"(?P<folder>^|.*/)\.(?P<name>[^/]+?)(\.[0-9a-f]{16})?\.(partial|discarded|lock)(/.*)?$", re.DOTALL
)


def classified(error: Exception) -> MuraError | None:
    """The error to tell for an exception, with its exit code. None for a bug.

    Args:
        error: whatever ended a command.
    """
    if isinstance(error, MuraError):
        return error
    if out_of_memory(error):
        return OutsideFailed(
            "The memory is too small. Close other programs, or give this one more (ulimit -v shows a limit)."
        )
    if isinstance(error, OSError) and error.strerror:
        kind = UsageError if error.errno in _OF_THE_CALLER else OutsideFailed
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
        if (named := without_hidden_name(place)) != place:
            return kind(f"{named}: cannot be written ({error.strerror}). Name another file or directory.")
        where = f"{error.filename}: " if error.filename else ""
        return kind(f"{where}{error.strerror}")
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory is too small."""
    return isinstance(error, MemoryError) or any(each in str(error) for each in _NO_MEMORY)


def again(what: str, work: Callable[[], T]) -> T:
    """Do a piece of work, and once more if the system failed in it: its errors say nothing about the data.

    Args:
        what: what is read, for the message.
        work: may be done twice.

    Raises:
        OutsideFailed: the system failed twice.
        UsageError: permission is lacking.
    """
    try:
        return work()
    except Exception as error:
        if system_error(error) is None:
            raise
    try:
        return work()
    except Exception as error:
        failed = system_error(error)
        if failed is None:
            raise
        if isinstance(failed, OSError) and failed.errno in (errno.EACCES, errno.EPERM):
            raise UsageError(f"{what}: cannot be read ({failed.strerror}).") from error
        why = failed.strerror if isinstance(failed, OSError) else "the memory is too small"
        raise OutsideFailed(f"{what}: cannot be read, tried twice ({why}). Run the same command again.") from error


def system_error(error: BaseException | None) -> BaseException | None:
    """The error of the operating system that an exception is, or that a library made it of. None for any other."""
    while error is not None and not isinstance(error, MuraError):
        # An impossible position in a damaged file is EINVAL. Libraries raise an OSError of their own without a number.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            return error
        if out_of_memory(error):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def without_hidden_name(place: str) -> str:
    """The file or directory that was asked for, if `place` is the hidden one that is written before it, or is in it."""
    return _HIDDEN.sub(r"\g<folder>\g<name>", place)


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    """Text as one line that moves no cursor: members of an archive may be called anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
