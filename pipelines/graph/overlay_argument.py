"""The overlay of labels as an argument of a run: its text, or the address of an object that is named by its content.

Every argument stands a dozen times in the state of a run, which Kubernetes limits. Kubeflow's cache compares arguments.
So a long overlay lies on S3, beside the archive, and its name has the digest of its content.
"""

import hashlib
import re
from pathlib import Path

from components.archive.overlay import Overlay
from components.base.errors import UsageError
from components.base.urls import S3_SCHEME
from components.params.ingest import MAX_MEMBERS

LONGEST = 1_000
"""Bytes of a text that is an argument: the header line and a few rows."""


def argument(path: Path, archive: str, most: int = MAX_MEMBERS) -> str:
    """The argument for an overlay of this machine. Nothing is stored; `store` does it.

    Args:
        path: the overlay.
        archive: address of the archive that the run reads; something else if there is none on S3.
        most: rows that the overlay may have.

    Raises:
        UsageError: there is no such file, or it is long and has no place on S3.
        DataRefused: the overlay makes no sense.
    """
    Overlay.read(path, most)
    text = path.read_text(encoding="utf-8-sig")
    if len(text.encode()) <= LONGEST:
        return text
    folder = re.sub(r"(/files/md5)?/[0-9a-f]{2}/[0-9a-f]{30}$", "", archive)
    if folder == archive:
        folder = archive.rstrip("/").rpartition("/")[0]
    if not re.match(rf"{S3_SCHEME}[^/]+", folder):
        raise UsageError(
            f"{path}: {len(text.encode()):,} bytes, more than the {LONGEST:,} that an argument of a run should have. "
            "`mura pipeline submit` stores it beside the archive on S3; `--overlay s3://...` names one that is there."
        )
    return f"{folder}/overlays/{hashlib.sha256(text.encode()).hexdigest()}.csv"


def store(path: Path, argument: str) -> bool:
    """Store an overlay where its argument says. Whether there was something to do.

    Raises:
        UsageError: no such bucket, no credentials, or access is denied.
        ServiceUnreachable: S3 does not answer.
    """
    if "\n" in argument:
        return False
    # boto3 is slow to import.
    from components.archive import s3

    at = s3.place(argument)
    content = path.read_text(encoding="utf-8-sig").encode()
    found = s3.Object.find(at)
    if found is not None and found.size == len(content):
        return False
    s3.put(at, content)
    return True
