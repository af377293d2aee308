"""Files and directories that are written whole or not at all, and their digests."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.base.errors import UsageError, without_hidden_name

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"
INPUTS = "inputs.sha256"
"""The file of a checkpoint that says which inputs it belongs to."""
_CANNOT_BE_RENAMED = {
    errno.EBUSY: "is a mount point",
    errno.EXDEV: "is a mount point, or belongs to a read-only layer of a container",
    errno.EPERM: "belongs to another user",
}


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Be the only process that writes a file or directory, until the block ends.

    The lock is a file beside `out`. The kernel takes it back however the process ends; the file that a killed process
    leaves has no effect.

    Args:
        out: what is written. Its directory is made.

    Raises:
        UsageError: another process is writing it.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - Path.absolute keeps `..`
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_name(f".{out.name}.lock")
    handle = _lock(lock, out)
    try:
        yield
    finally:
        if _is_at(handle, lock):
            lock.unlink()
        os.close(handle)


def _lock(lock: Path, out: Path) -> int:
    """A handle of a file that one process at a time can have."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UsageError(f"{out}: another process is writing it. Wait for it to end, or stop it.") from None
        except OSError as error:
            os.close(handle)
            raise OSError(error.errno, error.strerror, str(lock)) from error
        if _is_at(handle, lock):
            return handle
        # The holder before us removed the file after we opened it; another process may have locked a new one.
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def writing(out: Path, inputs: dict[str, Any], card: str) -> Iterator[Path]:
    """A work directory beside `out` that takes its place when the block ends well.

    A killed step leaves only the work directory, which no reader takes for the artifact. Of what it holds,
    `checkpoint/` alone survives into the next attempt, and only if that attempt has the same inputs. Nobody else writes
    `out` until everything is in its place: what stands beside it, such as the record of how it was made, is written in
    the block.

    Args:
        out: where the artifact will stand; replaced if it is there.
        inputs: everything the result depends on; JSON-serialisable.
        card: name of the card that tells an artifact of this kind from a directory that must not be replaced.

    Yields:
        An existing directory, empty but for `checkpoint/`, on the same file system as `out`.

    Raises:
        UsageError: `out` is something else than an artifact, or another process is writing it.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - Path.absolute keeps `..`
    with alone(out):
        work, discarded = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.discarded")
        if discarded.exists() and not out.exists():
            discarded.rename(out)  # killed between the two renames below
        if os.path.lexists(out) and not (out / card).is_file() and _holds_files(out):
            raise UsageError(
                f"{out}: holds something else than an artifact (no {card}), and would be replaced. Delete it if nobody "
                "needs it, or name another --out."
            )
        # It is emptied; a link could lead anywhere.
        if work.is_symlink() or (work.exists() and not work.is_dir()):
            raise UsageError(f"{work}: expected what a stopped step leaves, a directory. Remove what is there.")
        work.mkdir(exist_ok=True)
        _sweep(work, inputs)
        _try_rename(out, work)
        yield work
        _settle_below(work)
        _remove(discarded)
        if out.exists():
            out.rename(discarded)
        work.rename(out)
        settle(out.parent)
        # Last, so that whoever is killed before has either the checkpoint or the artifact.
        _remove(out / CHECKPOINT)
        _remove(discarded)


def _try_rename(out: Path, work: Path) -> None:
    """Check that what is there now can be replaced: after hours of work it would be too late.

    Raises:
        UsageError: it cannot, such as a mount point.
    """
    try:
        # `work` is not empty, so nothing is renamed. Of several reasons not to, the system tells this one last.
        out.rename(work)
    except OSError as error:
        if error.errno in _CANNOT_BE_RENAMED:
            raise UsageError(
                f"{out}: {_CANNOT_BE_RENAMED[error.errno]}, so it cannot be replaced when the work is done. Name a "
                "directory in it, or another --out."
            ) from error


def _holds_files(out: Path) -> bool:
    """Whether anything would be lost with `out`. DVC removes an artifact's files and leaves its directories."""
    return not out.is_dir() or any(not path.is_dir() or path.is_symlink() for path in out.rglob("*"))


def _sweep(work: Path, inputs: dict[str, Any]) -> None:
    """Leave no more in the work directory than may be gone on with."""
    checkpoint, fingerprint = work / CHECKPOINT, json_sha256(inputs)
    inputs_file = checkpoint / INPUTS
    resumable = not checkpoint.is_symlink() and _says(inputs_file, fingerprint)
    if not resumable and not checkpoint.is_symlink():
        if checkpoint.is_dir() and any(path.name != INPUTS for path in checkpoint.iterdir()):
            logger.warning(
                "%s: what an earlier attempt has done is of other inputs, or damaged; the work begins anew",
                without_hidden_name(str(work)),
            )
        # First: whoever is killed now leaves no part of a checkpoint that looks whole.
        _remove(inputs_file)
    for entry in work.iterdir():
        if not (resumable and entry == checkpoint):
            _remove(entry)
    checkpoint.mkdir(exist_ok=True)
    for left in checkpoint.glob(".*.partial"):
        _remove(left)
    if not resumable:
        write_text(inputs_file, fingerprint)


def _says(path: Path, text: str) -> bool:
    """Whether a file has this text, whatever lies there instead."""
    return path.is_file() and path.stat().st_size == len(text.encode()) and path.read_bytes() == text.encode()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Of several processes at once, the last one wins.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        settle(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Check that a file can be written, before the work whose result it gets.

    Raises:
        UsageError: a directory is there.
        OSError: it cannot.
    """
    if path.is_dir():
        raise UsageError(f"{path}: a directory. Name a file.")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    partial.touch(exist_ok=False)
    partial.unlink()


def settle(path: Path) -> None:
    """Return when a file, or a directory's list of files, is on the disk: what comes after may rely on it."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        # Some network file systems cannot do that for a directory, and in some directories one may write and not look.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise


def _settle_below(folder: Path) -> None:
    """Settle a directory and everything in it."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.is_file():
            settle(path)
    settle(folder)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """Hex sha256 of the canonical JSON of a value (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
