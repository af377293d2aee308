"""Room on a disk: refused before a long write, and named when it runs out."""

import errno
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.base.errors import OutsideFailed, without_hidden_name
from components.base.words import size

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space on the disk, or no more of it for this user, or for one file of this process (`ulimit -f`)."""


def require(folder: Path, needed: int, what: str, largest: int = 0) -> None:
    """Check that a write can fit, before it begins.

    Args:
        folder: where it goes; it may not be there yet.
        needed: bytes, at least.
        what: what is written, as in "20 shards".
        largest: bytes of the largest file of it, at least.

    Raises:
        OutsideFailed: fewer bytes are free, or a file may not be so large.
    """
    if largest > (limit := _largest_allowed()):
        raise OutsideFailed(
            f"{folder}: {what} will take a file of {size(largest)}, and a file may not be larger than {size(limit)}. "
            "Raise the limit (ulimit -f)."
        )
    if needed > (free := _free(folder)):
        raise OutsideFailed(
            f"{folder}: {what} will take {size(needed)}, and {size(free)} are free. Free some space, or write to "
            "another disk."
        )


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Say which disk is full. The errors of the system, of Arrow and of HDF5 often have no path.

    Args:
        folder: where the block writes.

    Raises:
        OutsideFailed: no space is left there.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_full(error):
            raise
        where = without_hidden_name(str(getattr(error, "filename", None) or folder))
        limit = "a file may not be larger (ulimit -f, or the file system's limit)" if _too_large(error) else "no space"
        raise OutsideFailed(
            f"{where}: {limit}; {size(_free(folder))} are free on its disk. Free some space, raise the limit, or "
            "write to another disk; the same command starts again where it can."
        ) from error


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, a quota or a file is full."""
    return getattr(error, "errno", None) in FULL or any(os.strerror(number) in str(error) for number in FULL)


def _too_large(error: BaseException) -> bool:
    return getattr(error, "errno", None) == errno.EFBIG or os.strerror(errno.EFBIG) in str(error)


def _largest_allowed() -> int:
    """Bytes that one file of this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _free(folder: Path) -> int:
    """Bytes that may still be written there."""
    folder = folder.absolute()
    return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
