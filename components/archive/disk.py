"""Files on this disk that may change, or be something else, by the time they are opened."""

import io
import os
import stat
from pathlib import Path

from components.base.errors import DataChanged, printable


def opened(path: str | Path, name: str, follow: bool = True) -> io.BufferedReader:
    """Open a regular file. Nothing else is waited for or read: a pipe would wait for its writer, a device never end.

    Args:
        path: the file.
        name: what to call it in the message.
        follow: whether it may be a link.

    Raises:
        DataChanged: there is something else than a file now.
        OSError: as `open`.
    """
    # Without a controlling terminal, and without waiting for what writes into a pipe.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise changed(name)
    return os.fdopen(descriptor, "rb")


def whole(file: io.BufferedReader, name: str) -> bytes:
    """The content of an open file, which must have the same size and time of change before and after.

    Raises:
        DataChanged: the file is written to.
    """
    before = os.fstat(file.fileno())
    content = file.read(before.st_size)
    after = os.fstat(file.fileno())
    if len(content) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise changed(name)
    return content


def changed(name: str) -> DataChanged:
    """What to raise for a file that is not what it was."""
    return DataChanged(f"{printable(name)}: changed while it was read. Run the step again.")
