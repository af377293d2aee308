"""The views that paths name, and the study that each belongs to.

A picture alone is a study of one view. In a directory, a zip or a bucket, the pictures of one directory are one study,
and DICOM files are grouped by StudyInstanceUID wherever they lie. A StudyInstanceUID identifies a patient's visit: it
stays in memory, and studies are named by the path that the caller gave.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from components.archive import disk, member_paths, mura_csv
from components.archive.archive import MAX_BYTES, Archive, Version, is_remote
from components.base.errors import DataChanged, DataRefused, MuraError, UsageError, again, classified, printable
from components.params.ingest import MAX_MEMBERS
from components.xray import body_parts, picture
from components.xray.picture import Picture
from components.xray.png import BadImage

# Files of a directory that are no pictures, and are passed over in silence.
_OTHERS = (".csv", ".txt", ".json", ".html", ".md", ".xml", ".pdf", ".zip", ".dvc")
# How a zip with members begins.
_ZIP = b"PK\3\4"

logger = logging.getLogger(__name__)


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
    archive: Archive | None = None
    """None for a single file of this disk, and for what is refused."""
    members: tuple[str, ...] = ()
    """Files below it that may be pictures."""
    lost: Mapping[str, str] = {}
    """What is below it and cannot be read, with the reason. Names of directories end with a slash."""
    is_picture: bool = False
    """Whether the one member is the path itself: an object on S3."""
    refused: MuraError | None = None
    """Why nothing of it can be read."""

    @property
    def files(self) -> int:
        """How many views it gives."""
        return len(self.members) + len(self.lost) if self.archive else 1


def find(paths: Sequence[str]) -> list[Place]:
    """Look at paths. One that cannot be read says nothing of the others, and is refused as a view.

    Raises:
        UsageError, DataRefused, DataChanged: none of them can be read.
        OutsideFailed, ServiceUnreachable: the disk failed, or S3 does not answer.
    """
    places = [_find(path) for path in paths]
    wrong = [place.refused for place in places if place.refused]
    if len(wrong) == len(places):
        for other in wrong[1:]:
            logger.warning("predict: %s", other)
        raise wrong[0]
    return places


def _find(path: str) -> Place:
    try:
        return _looked_at(path)
    except (UsageError, DataRefused, DataChanged) as error:
        return Place(path, refused=error)
    except OSError as error:
        # A path that is too long, or below a directory that may not be entered.
        if not isinstance(classified(error), UsageError):
            raise
        return Place(path, refused=UsageError(f"{path}: {error.strerror}."))


def _looked_at(path: str) -> Place:
    if not is_remote(path) and Path(path).is_file() and not path.lower().endswith(".zip"):
        return Place(path)
    if not is_remote(path) and not Path(path).exists():
        raise UsageError(f"{path}: no such file or directory.")
    archive = Archive.find(path)
    if is_remote(path) and archive.version is not None and not _is_zip(path, archive.version):
        above, _, name = path.rpartition("/")
        return Place(path, Archive(f"{above}/"), (name,), is_picture=True)
    archive = archive.checked(MAX_MEMBERS)
    with archive as opened:
        names, lost = opened.readable()
    members = tuple(name for name in names if _may_be_picture(name))
    lost = {name: why for name, why in lost.items() if name.endswith("/") or _may_be_picture(name)}
    if not members and not lost:
        raise UsageError(f"{path}: no picture in it. Pictures are PNG, JPEG or DICOM.")
    return Place(path, archive, members, lost)


def _is_zip(path: str, version: Version) -> bool:
    """Whether an object on S3 is a zip, by its name or its first bytes: DVC names files by their content."""
    from components.archive import s3

    if path.lower().endswith(".zip"):
        return True
    with s3.Object(s3.place(path), *version) as content:
        return content.read(len(_ZIP)) == _ZIP


def read(places: Sequence[Place], force: bool) -> Iterator[View]:
    """Read the views, one after another. Those that cannot be read are refused, each with the reason.

    Args:
        places: where they are.
        force: also take single frames of fluoroscopy and angiography.

    Raises:
        OutsideFailed, ServiceUnreachable: the disk or S3 failed. That says nothing about a picture.
    """
    for number, place in enumerate(places):
        if place.refused is not None:
            yield _lost(place.path, place.path, str(number), place.refused)
        elif place.archive is None:
            yield _view(place.path, place.path, str(number), partial(_content, place.path), force)
        else:
            try:
                with place.archive as opened:
                    yield from _below(place, opened, number, force)
            except (UsageError, DataRefused, DataChanged) as error:
                # A zip that was replaced: nothing more comes of it.
                yield _lost(place.path, place.path, str(number), error)


def _below(place: Place, opened: Archive, number: int, force: bool) -> Iterator[View]:
    """The views of a directory, a zip, or an object on S3."""
    above = place.path.rstrip("/")

    def at(folder: str) -> tuple[str, str]:
        return (f"{above}/{folder}" if folder else place.path), f"{number}/{folder}"

    for name, why in place.lost.items():
        said = printable(name)
        yield _lost(f"{above}/{said}", *at(mura_csv.folder_of(said)), DataRefused(why))
    opened.expect(place.members)
    for member in place.members:
        content = partial(opened.bytes_of, member)
        if place.is_picture:
            yield _view(place.path, place.path, str(number), content, force)
        else:
            in_zip = opened.version is not None
            yield _view(f"{above}/{member}", *at(mura_csv.folder_of(member)), content, force, in_zip)


# Parameters: where a view is, how it is read, and what that says of others.
def _view(path: str, folder: str, key: str, content_of: Callable[[], bytes], force: bool, in_zip: bool = False) -> View:
    part = member_paths.body_part(folder) or ""
    try:
        content = content_of()
    except (DataRefused, UsageError) as error:
        return _lost(path, folder, key, error)
    except DataChanged as error:
        if in_zip:
            raise
        return _lost(path, folder, key, error)
    except KeyError:
        return _lost(path, folder, key, DataChanged("removed while it was read"))
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


def _lost(path: str, folder: str, key: str, error: MuraError) -> View:
    """A view that cannot be read. The reason does not repeat its path, which stands before it."""
    name, _, said = str(error).partition(": ")
    why = said if said and printable(path).endswith(name) else str(error)
    return View(path, folder, key, member_paths.body_part(folder) or "", None, why.removesuffix("."))


def _content(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        DataRefused: it is too large.
        DataChanged: it is written to, or no file any more.
        UsageError: it may not be read.
        KeyError: it was removed.
        OutsideFailed: the disk failed twice.
    """

    def read() -> bytes:
        try:
            with disk.opened(path, path) as file:
                if os.fstat(file.fileno()).st_size > MAX_BYTES:
                    raise DataRefused(f"{path}: more than {MAX_BYTES:,} bytes, the limit.")
                return disk.whole(file, path)
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(path) from None

    return again(path, read)


def _may_be_picture(member: str) -> bool:
    """Whether a name is one of a picture. DICOM files often have no suffix, or a number as one."""
    name = mura_csv.name_of(member).lower()
    if mura_csv.is_sidecar(member) or name.startswith(".") or name == "dicomdir":
        return False
    return not name.endswith(_OTHERS)
