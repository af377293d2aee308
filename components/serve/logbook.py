"""One JSON line for each prediction: no pixels, no names, nothing that a file says of a patient.

Inputs are told apart by a keyed hash. Without the key nobody can test whether a picture they have was asked.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from components.artifacts.artifact import Facts
from components.base.errors import UsageError

KEY_BYTES = 32
"""Of a key that is drawn, and the fewest of one that is given."""
logger = logging.getLogger(__name__)


class Looked(Facts):
    """A view. Its grey levels are described as in a manifest, by the same code."""

    kind: str
    """PNG, JPEG or DICOM."""
    width: int
    height: int
    mean: float
    std: float
    low: int
    median: int
    high: int


class Entry(Facts):
    """A line."""

    time: str
    """UTC, ISO 8601."""
    input: str
    """Keyed hash of the files of the views, in their order; hex."""
    model: str
    version: str
    model_digest: str
    body_part: str | None
    """One that the model learned; `other`, or None where it is not known."""
    views: tuple[Looked, ...]
    distance: float | None
    """To the training data; None where the model cannot tell."""
    probability: float | None
    verdict: str
    seconds: float
    """From the whole request to its answer."""


class Logbook:
    """Where lines are written, each in one piece: several servers may write one file."""

    def __init__(self, file: Path | None = None, key: Path | None = None) -> None:
        """Open it.

        Args:
            file: to append to; None for stderr.
            key: a file with the key of hashes, made if it is not there; None for a key that nobody keeps.

        Raises:
            UsageError: a file cannot be opened, or the key is too short.
        """
        self._key = _key(key) if key else secrets.token_bytes(KEY_BYTES)
        self._file = 2
        if file is not None:
            self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._failed = False

    def hash(self, files: Iterable[bytes]) -> str:
        """The keyed hash (HMAC-SHA256, hex) of the files of a study.

        Args:
            files: in the order of the views.
        """
        found = hmac.new(self._key, digestmod=hashlib.sha256)
        for file in files:
            found.update(hashlib.sha256(file).digest())
        return found.hexdigest()

    def write(self, entry: Entry) -> None:
        """Write a line. A log that cannot be written is told once, and does not stop answers."""
        line = json.dumps(entry.model_dump(), allow_nan=False).encode() + b"\n"
        try:
            os.write(self._file, line)
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("serve: the log cannot be written (%s). Predictions go on.", error.strerror)
            self._failed = True


def now() -> str:
    """The time, as lines have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _key(file: Path) -> bytes:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(handle, "w") as made:
            made.write(secrets.token_hex(KEY_BYTES) + "\n")
    found = file.read_bytes().strip()
    if len(found) < KEY_BYTES:
        raise UsageError(
            f"{file}: a key of {len(found)} bytes, expected {KEY_BYTES} or more. Name a file not yet there."
        )
    return found
