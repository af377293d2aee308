"""Files and directories that are written whole or not at all, and their digests."""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.base.errors import UsageError

CHECKPOINT = "checkpoint"
INPUTS = "inputs.sha256"
"""The file of a checkpoint that says which inputs it belongs to."""


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
        if out.exists() and not (out / card).is_file() and _holds_files(out):
            raise UsageError(
                f"{out}: holds something else than an artifact, and would be replaced. Name another --out."
            )
        # It is emptied; a link could lead anywhere.
        if work.is_symlink() or (work.exists() and not work.is_dir()):
            raise UsageError(f"{work}: expected what a stopped step leaves, a directory. Remove what is there.")
        work.mkdir(exist_ok=True)
        _sweep(work, inputs)
        yield work
        _remove(discarded)
        if out.exists():
            out.rename(discarded)
        work.rename(out)
        # Last, so that whoever is killed before has either the checkpoint or the artifact.
        _remove(out / CHECKPOINT)
        _remove(discarded)


def _holds_files(out: Path) -> bool:
    """Whether anything would be lost with `out`. DVC removes an artifact's files and leaves its directories."""
    return not out.is_dir() or any(not path.is_dir() or path.is_symlink() for path in out.rglob("*"))


def _sweep(work: Path, inputs: dict[str, Any]) -> None:
    """Leave no more in the work directory than may be gone on with."""
    checkpoint, fingerprint = work / CHECKPOINT, json_sha256(inputs)
    inputs_file = checkpoint / INPUTS
    resumable = (
        not checkpoint.is_symlink() and inputs_file.is_file() and inputs_file.read_bytes() == fingerprint.encode()
    )
    if not resumable and not checkpoint.is_symlink() and inputs_file.is_file():
        # First: whoever is killed now leaves no part of a checkpoint that looks whole.
        inputs_file.unlink()
    for entry in work.iterdir():
        if not (resumable and entry == checkpoint):
            _remove(entry)
    checkpoint.mkdir(exist_ok=True)
    for left in checkpoint.glob(".*.partial"):
        _remove(left)
    write_text(inputs_file, fingerprint)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Of several processes at once, the last one wins.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
