"""Second opinions on labels. They are recorded beside the official labels and never replace them."""

import csv
import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from components.archive.csv_rows import Problems, rows
from components.artifacts.manifest import LABEL_NAMES
from components.base import documents
from components.base.errors import DataRefused, UsageError
from components.base.files import json_sha256
from components.base.urls import S3_SCHEME
from components.params.ingest import MAX_MEMBERS

COLUMNS = ("study", "old", "new", "source", "reason")
WORDS = {"0": 0, "normal": 0, "negative": 0, "1": 1, "abnormal": 1, "positive": 1}
MAX_BYTES = 64_000_000


class Opinion(NamedTuple):
    """A row: somebody says that a study's label is wrong."""

    row: int
    """In the file, the header being row 1."""
    study: str
    """The path in the archive from the published split on: train/XR_WRIST/patient00001/study1_negative."""
    old: int
    new: int
    source: str
    """Who says so: a reader, a list, a publication."""
    reason: str


class Overlay:
    """Second opinions on labels: a CSV with the columns study, old, new, source, reason.

        study,old,new,source,reason
        train/XR_WRIST/patient00006/study1_negative,0,1,Better-MURA v1.11,plate on the radius

    Studies are named as in the archive's own CSVs, with or without `MURA-v1.1/` in front and `/` at the end; labels are
    0, normal, negative or 1, abnormal, positive. A file with the header line alone is an overlay without opinions.
    """

    METAVAR: ClassVar[str] = "PATH"
    BY_VALUE: ClassVar[bool] = True
    WITH_DIGEST: ClassVar[bool] = False

    def __init__(self, path: Path, opinions: tuple[Opinion, ...]) -> None:
        """Use `read`."""
        self.path = path
        self.opinions = opinions

    @classmethod
    def read(cls, place: str | Path, most: int = MAX_MEMBERS) -> Self:
        """Read an overlay and check it without the archive.

        Args:
            place: the file; or what Kubeflow passes: its text, which has several lines, or `s3://.../<sha256>.csv`.
            most: rows that it may have: as many as the archive may have files.

        Raises:
            UsageError: there is no such file or object.
            DataRefused: the file is no such CSV, or rows are invalid, contradict each other or repeat a study; or an
                object has another content than its name says.
            ServiceUnreachable: S3 does not answer.
        """
        if isinstance(place, str) and "\n" in place:
            return cls._parse(Path("the overlay"), place.encode(), most)
        if isinstance(place, str) and place.startswith(S3_SCHEME):
            return cls._parse(Path("the overlay"), _stored(place), most)
        path = Path(place)
        try:
            content = documents.content(path, MAX_BYTES)
        except documents.TooLarge as error:
            raise DataRefused(f"{path}: no file, or more than {MAX_BYTES:,} bytes. Is this an overlay?") from error
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be read ({error.strerror}). `labels.overlay` of params.yaml names a CSV with the "
                f"columns {','.join(COLUMNS)}; data/overlay.csv is one without rows."
            ) from error
        return cls._parse(path, content, most)

    @classmethod
    def _parse(cls, path: Path, content: bytes, most: int) -> Self:
        header: tuple[str, ...] | None = None
        opinions: dict[str, Opinion] = {}
        problems = Problems(path)
        try:
            # Empty lines are skipped. Rows are counted as records: a field may contain a line break.
            for row, fields in rows(content, str(path), most, strict=True):
                if header is None:
                    header = _header(path, fields)
                elif any(field.strip() for field in fields):
                    try:
                        opinion = _opinion(row, header, fields)
                        if (first := opinions.setdefault(opinion.study, opinion)) is not opinion:
                            agree = "again" if first.new == opinion.new else "again, with another label"
                            raise ValueError(f"names {opinion.study!r} of row {first.row} {agree}")
                    except ValueError as error:
                        problems.add("row {} {}".format, row, error)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataRefused(f"{path}: not a CSV in UTF-8 ({error}).") from error
        if header is None:
            _header(path, [])
        problems.refuse()
        return cls(path, tuple(sorted(opinions.values(), key=lambda opinion: opinion.study)))

    @property
    def digest(self) -> str | None:
        """sha256 (hex) of the opinions, whatever their order and notation. None if there are none."""
        return json_sha256([list(opinion[1:]) for opinion in self.opinions]) if self.opinions else None

    @property
    def location(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def identity(self) -> str | None:
        """The digest."""
        return self.digest

    def by_study(self, official: Mapping[str, int]) -> dict[str, Opinion]:
        """The opinions by the archive's names of the studies.

        Args:
            official: labels by study, such as MURA-v1.1/train/XR_WRIST/patient00006/study1_negative, also below other
                directories.

        Raises:
            DataRefused: a study is not in the archive, or `old` is not its label there. The message names the rows.
        """
        if not self.opinions:
            return {}
        studies = {key(study): study for study in official}
        problems = Problems(self.path)
        for opinion in self.opinions:
            study = studies.get(opinion.study)
            if study is None:
                problems.add(_unknown, opinion.row, opinion.study, studies)
            elif official[study] != opinion.old:
                problems.add(_contradiction, opinion, official[study])
        problems.refuse()
        return {studies[opinion.study]: opinion for opinion in self.opinions}


def _header(path: Path, fields: list[str]) -> tuple[str, ...]:
    header = tuple(field.strip().lower() for field in fields)
    if sorted(header) != sorted(COLUMNS):
        found = ",".join(header)[:200] or "nothing"
        raise DataRefused(f"{path}: expected the header {','.join(COLUMNS)}, found {found!r}.")
    return header


def _contradiction(opinion: Opinion, official: int) -> str:
    """What to say of a row that takes another label for the official one."""
    return (
        f"row {opinion.row} says that {opinion.study!r} is {LABEL_NAMES[opinion.old]}, officially it is "
        f"{LABEL_NAMES[official]}"
    )


def _unknown(row: int, study: str, studies: Mapping[str, str]) -> str:
    """What to say of a row about a study that is not in the archive."""
    # Copies with corrected labels have renamed directories.
    near = difflib.get_close_matches(study, _relatives(study, studies), 1, 0)
    hint = f"; {near[0]} is" if near else ""
    return f"row {row} names {study[:300]!r}, which is not in the archive{hint}"


def _stored(uri: str) -> bytes:
    """The content of an object that is named by the digest of its content."""
    # boto3 takes half a second to import.
    from components.archive import s3

    named = re.search(r"/([0-9a-f]{64})\.csv$", uri)
    if named is None:
        raise UsageError(f"{uri}: expected an overlay named by its content, s3://.../<sha256>.csv.")
    found = s3.Object.find(s3.place(uri))
    if found is None:
        raise UsageError(f"{uri}: no such overlay on S3 at {s3.endpoint()}. `mura pipeline submit` stores it.")
    if found.size > MAX_BYTES:
        raise DataRefused(f"{uri}: more than {MAX_BYTES:,} bytes. Is this an overlay?")
    with found as file:
        content = b"".join(file.pieces())
    if hashlib.sha256(content).hexdigest() != named[1]:
        raise DataRefused(f"{uri}: its content has another sha256 than its name says. Remove it and submit again.")
    return content


def key(study: str) -> str:
    """A study's path from the published split on."""
    return "/".join(study.strip().strip("/").split("/")[-4:])


def _relatives(study: str, studies: Mapping[str, str]) -> Iterator[str]:
    """Studies with the same number, patient and body part, and any label."""
    stem = study.rpartition("_")[0]
    return (other for other in studies if stem and other.rpartition("_")[0] == stem)


def _opinion(row: int, header: tuple[str, ...], fields: list[str]) -> Opinion:
    if len(fields) != len(header):
        raise ValueError(f"has {len(fields)} fields, expected {len(header)}")
    said = {name: field.strip() for name, field in zip(header, fields, strict=True)}
    for name, field in said.items():
        if not field:
            raise ValueError(f"says nothing under {name}")
    labels = []
    for name in ("old", "new"):
        if (label := WORDS.get(said[name].lower())) is None:
            raise ValueError(f"says {said[name][:40]!r} under {name}, expected 0 (normal) or 1 (abnormal)")
        labels.append(label)
    if labels[0] == labels[1]:
        raise ValueError(f"changes nothing: old and new are both {LABEL_NAMES[labels[0]]}")
    return Opinion(row, key(said["study"]), labels[0], labels[1], said["source"], said["reason"])
