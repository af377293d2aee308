"""The files of a directory, as worker processes read them.

Identity does not leave this module: what it returns has keyed hashes, pictures and words of few kinds.
"""

import os
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import cv2

from components.archive import disk
from components.archive.archive import MAX_BYTES
from components.base.errors import DataRefused, OutsideFailed, UsageError, again
from components.own_data import kept as keeping
from components.own_data.label_rows import FILE, PATIENT, STUDY
from components.own_data.pseudonyms import Key, same
from components.xray import dicom, dicom_header, picture, square
from components.xray.png import BadImage, Grey

# On pictures of 512 pixels, higher levels save 2 % and take twice as long.
_PNG_LEVEL = 6
INSTANCE = "instance"

R = TypeVar("R")


class Reading(NamedTuple):
    """How files are read. Worker processes get it."""

    folder: str
    pictures: bool
    """PNG and JPEG instead of DICOM."""
    key: Key
    kept: tuple[str, ...]
    longest_side: int | None
    """Of the pictures that are made, pixels; None for as many as they have."""
    force: bool
    """Also take single frames of fluoroscopy and angiography."""


class Seen(NamedTuple):
    """What a file says of itself. Hashes and words are empty where it says nothing."""

    file: str
    """Keyed hash of its path in the directory."""
    study: str = ""
    """Keyed hash of the StudyInstanceUID."""
    accession: str = ""
    """Keyed hash of the AccessionNumber, of the same kind: a row may have either."""
    patient: str = ""
    """Keyed hash of the PatientID."""
    instance: str = ""
    """Keyed hash of the SOPInstanceUID."""
    part: str = ""
    """BodyPartExamined, which may hold anything."""
    kept: tuple[str, ...] = ()
    """Cleaned values in the order of what is kept."""
    why: str = ""
    """Why it is no radiograph."""


class Drawn(NamedTuple):
    """A picture."""

    png: bytes = b""
    why: str = ""
    """Why there is none."""
    burned_in: bool | None = None
    """Whether it may show the patient's name; None if its file does not say."""


def find(folder: Path, most: int, flag: str) -> list[str]:
    """Paths of all files below a directory, ascending, without those whose names begin with a dot.

    Args:
        folder: the directory. Links to directories are not followed.
        most: files that it may have.
        flag: what to call it in messages.

    Raises:
        UsageError: there is no such directory, or a part of it cannot be read.
        DataRefused: it has more files.
    """

    def failed(error: OSError) -> NoReturn:
        raise UsageError(f"{flag}: a directory in it cannot be read ({error.strerror}).") from None

    def is_file(path: Path) -> bool:
        # In a directory that may be listed and not entered, this fails, and the error names the file.
        try:
            return path.is_file()
        except OSError as error:
            raise UsageError(f"{flag}: a file in it cannot be looked at ({error.strerror}).") from None

    try:
        there = folder.is_dir()
    except OSError as error:
        failed(error)
    if not there:
        raise UsageError(f"{flag}: no such directory.")
    names: list[str] = []
    for place, _, files in os.walk(folder, onerror=failed):
        above = os.path.relpath(place, folder)
        names += [
            name if above == "." else f"{above}/{name}"
            for name in files
            if not name.startswith(".") and is_file(Path(place, name))
        ]
        if len(names) > most:
            raise DataRefused(f"{flag}: more than {most:,} files. ingest.max_members of params.yaml allows more.")
    return sorted(names)


def look(reading: Reading, names: Sequence[str]) -> list[Seen]:
    """Read the headers of files.

    Raises:
        OutsideFailed, UsageError: the disk failed, or a file may not be read. No file is named.
    """
    return [_read(reading, name, _look) for name in names]


def draw(reading: Reading, names: Sequence[str]) -> list[Drawn]:
    """Read the pictures of files, and write them anew as grey PNGs without any text.

    Raises:
        OutsideFailed, UsageError: the disk failed, or a file may not be read. No file is named.
    """
    return [_read(reading, name, _draw) for name in names]


def _read(reading: Reading, name: str, do: Callable[[Reading, str, BufferedReader], R]) -> R:
    """Do something with an open file."""

    def work() -> R:
        with disk.opened(f"{reading.folder}/{name}", "a file") as file:
            return do(reading, name, file)

    try:
        return again("a file of the directory", work)
    except (UsageError, OutsideFailed) as error:
        # Its cause names the file.
        raise type(error)(str(error)) from None


def _look(reading: Reading, name: str, file: BufferedReader) -> Seen:
    key = reading.key
    hashed = key.hash(FILE, name)
    if reading.pictures:
        return Seen(hashed)
    if _is_large(file):
        return Seen(hashed, why=_TOO_LARGE)
    try:
        found = dicom_header.read(file, reading.force)
    except BadImage as error:
        return Seen(hashed, why=str(error))
    ages = keeping.age(found.age) or keeping.age_between(found.birth_date, found.study_date)
    said = {
        "view_position": keeping.CLEAN["view_position"](found.view_position),
        "manufacturer": keeping.CLEAN["manufacturer"](found.manufacturer),
        "sex": keeping.sex(found.sex),
        "age": ages,
    }
    return Seen(
        hashed,
        study=key.hash(STUDY, same(found.study_uid)),
        accession=key.hash(STUDY, same(found.accession)),
        patient=key.hash(PATIENT, same(found.patient_id)),
        instance=key.hash(INSTANCE, same(found.instance_uid)),
        part=found.body_part,
        kept=tuple(said[column] for column in reading.kept),
    )


def _draw(reading: Reading, name: str, file: BufferedReader) -> Drawn:  # noqa: ARG001 - as _look
    if _is_large(file):
        return Drawn(why=_TOO_LARGE)
    content = disk.whole(file, "a file")
    try:
        if not reading.pictures:
            found = dicom.decode(content, reading.force)
            return Drawn(_png(found.decoded.grey, reading.longest_side), burned_in=found.burned_in)
        if picture.is_dicom(content):
            return Drawn(why="a DICOM file: import it with --dicom")
        return Drawn(_png(picture.read(content).grey, reading.longest_side))
    except BadImage as error:
        return Drawn(why=str(error))


_TOO_LARGE = f"more than {MAX_BYTES:,} bytes"


def _is_large(file: BufferedReader) -> bool:
    return os.fstat(file.fileno()).st_size > MAX_BYTES


def _png(grey: Grey, longest_side: int | None) -> bytes:
    """The picture as a PNG of one channel; smaller where its longer side is too long, never larger."""
    height, width = grey.shape
    if longest_side is not None and max(height, width) > longest_side:
        inside = square.place(width, height, longest_side)
        grey = cv2.resize(grey, (inside.width, inside.height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    done, encoded = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    assert done, "OpenCV encodes every uint8 image"
    return encoded.tobytes()
