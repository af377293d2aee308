"""The views that paths name, and the study that each belongs to.

A picture alone is a study of one view. In a directory, a zip or a bucket, the pictures of one directory are one study,
and DICOM files are grouped by StudyInstanceUID wherever they lie. A StudyInstanceUID identifies a patient's visit: it
stays in memory, and studies are named by the path that the caller gave.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from components.archive import member_paths, mura_csv
from components.archive.archive import MAX_BYTES, Archive, is_remote
from components.base.errors import DataRefused, UsageError, again
from components.xray import body_parts, picture
from components.xray.picture import Picture
from components.xray.png import BadImage

# Files of a directory that are no pictures, and are passed over in silence.
_OTHERS = (".csv", ".txt", ".json", ".html", ".md", ".xml", ".pdf", ".zip", ".dvc")


class View(NamedTuple):
    """A picture file."""

    path: str
    """The path that the caller gave, and the place below it."""
    folder: str
    """The path of its directory; its own if it was given alone."""
    key: str
    """The same for all views of a study, and for no others. It may hold a StudyInstanceUID."""
    body_part: str
    """As the path or the file says; empty where neither does."""
    picture: Picture | None
    """None if it was refused."""
    refused: str = ""
    """Why."""


class Place(NamedTuple):
    """A path that the caller gave, looked at."""

    path: str
    archive: Archive | None
    """None for a single file."""
    members: tuple[str, ...]
    """Files below it that may be pictures."""

    @property
    def files(self) -> int:
        """How many files may be pictures."""
        return len(self.members) if self.archive else 1


def find(path: str) -> Place:
    """Look at a path.

    Raises:
        UsageError: there is no such file, directory or object, or no picture in it.
        DataRefused, ServiceUnreachable: as `Archive.read`.
    """
    if not is_remote(path) and Path(path).is_file() and not path.lower().endswith(".zip"):
        return Place(path, None, ())
    if not is_remote(path) and not Path(path).exists():
        raise UsageError(f"{path}: no such file or directory.")
    archive = Archive.read(path)
    with archive as opened:
        members = tuple(each for each in opened.members() if _may_be_picture(each))
    if not members:
        raise UsageError(f"{path}: no picture in it. Pictures are PNG, JPEG or DICOM.")
    return Place(path, archive, members)


def read(places: list[Place], force: bool) -> Iterator[View]:
    """Read the views, one after another.

    Args:
        places: where they are.
        force: also take single frames of fluoroscopy and angiography.

    Raises:
        OutsideFailed, ServiceUnreachable: the disk or S3 failed. That says nothing about a picture.
    """
    for number, place in enumerate(places):
        if place.archive is None:
            yield _view(place.path, place.path, str(number), partial(_content, Path(place.path)), force)
            continue
        above = place.path.rstrip("/")
        with place.archive as opened:
            opened.expect(place.members)
            for member in place.members:
                folder = mura_csv.folder_of(member)
                where = f"{above}/{folder}" if folder else place.path
                read = partial(opened.bytes_of, member)
                yield _view(f"{above}/{member}", where, f"{number}/{folder}", read, force)


def _view(path: str, folder: str, key: str, content_of: Callable[[], bytes], force: bool) -> View:
    part = member_paths.body_part(folder) or ""
    try:
        content = content_of()
    except DataRefused as error:
        return View(path, folder, key, part, None, str(error))
    try:
        found = picture.read(content, force)
    except BadImage as error:
        # A DICOM file that is refused says nothing of the others beside it: they may be of another study.
        alone = picture.is_dicom(content)
        return View(path, path if alone else folder, f"{key}:{path}" if alone else key, part, None, str(error))
    if found.study_uid:
        # Of one place: a study that was given twice is answered twice.
        key = f"{key.partition('/')[0]}:{found.study_uid}"
    return View(path, folder, key, part or body_parts.of_dicom(found.body_part), found)


def _content(file: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataRefused: it is too large.
        OutsideFailed: the disk failed twice.
    """

    def read() -> bytes:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)

    content = again(str(file), read)
    if len(content) > MAX_BYTES:
        raise DataRefused(f"{file}: more than {MAX_BYTES:,} bytes, the limit.")
    return content


def _may_be_picture(member: str) -> bool:
    """Whether a name is one of a picture. DICOM files often have no suffix, or a number as one."""
    name = mura_csv.name_of(member).lower()
    if mura_csv.is_sidecar(member) or name.startswith(".") or name == "dicomdir":
        return False
    return not name.endswith(_OTHERS)
