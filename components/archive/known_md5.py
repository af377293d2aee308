"""The md5 that an archive should have, as DVC has it: what its address or an orchestrator says of its content.

DVC names an object by the md5 of its bytes, `.../files/md5/a5/0d74...`. A directory is named by the md5 of the list of
its files, which is JSON, and `.dir`.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable

from components.base.errors import DataRefused

# The end of a file's place in DVC's cache or on its remote.
_STORED = re.compile(r"/([0-9a-f]{2})/([0-9a-f]{30})$")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
# S3's name for an object that was uploaded in parts.
_ETAG = re.compile(r"[0-9a-f]{32}-[0-9]+")


def of_place(place: str, remote: bool) -> str | None:
    """The md5 that an address names, also that of the file that a link leads to. None if it names none."""
    found = _STORED.search(place) or (None if remote else _STORED.search(os.path.realpath(place)))
    return found[1] + found[2] if found else None


def told(place: str, named: str | None, digest: str, etag: str | None) -> str | None:
    """The md5 to expect, if somebody tells a digest.

    Args:
        place: of the archive.
        named: the md5 that its address names.
        digest: md5, md5 and `.dir`, or ETag; any other text is a name that says nothing of the content.
        etag: of the object that is there; None if it is no object.

    Raises:
        DataRefused: there is another object than the one that was told, or its address says otherwise.
    """
    if digest == etag:
        return named
    if _ETAG.fullmatch(digest) and etag is not None:
        raise DataRefused(
            f"{place}: expected the object of ETag {digest}, found {etag}. It was replaced since the run was "
            "submitted: submit again."
        )
    if not _MD5.fullmatch(digest):
        return named
    if named is not None and named != digest:
        raise _refused(place, digest, named)
    return digest


def compare(place: str, expected: str | None, found: str) -> None:
    """Compare an md5.

    Raises:
        DataRefused: it is not the expected one.
    """
    if expected is not None and expected != found:
        raise _refused(place, expected, found)


def of_directory(files: Iterable[tuple[str, bytes]]) -> str:
    """The md5 of a directory, with `.dir`, as DVC computes it.

    Args:
        files: names, relative and `/`-separated, in ascending order, and contents.
    """
    listed = [
        {"md5": hashlib.md5(content, usedforsecurity=False).hexdigest(), "relpath": name} for name, content in files
    ]
    return f"{hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest()}.dir"


def _refused(place: str, expected: str, found: str) -> DataRefused:
    return DataRefused(
        f"{place}: expected the archive of md5 {expected}, found md5 {found}. Another one lies in its place: "
        "`dvc push` the right one again, or name this one by an address of its own."
    )
