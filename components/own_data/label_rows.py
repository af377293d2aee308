"""The CSV that says what is known of each study or file: its label, and where the file does not say it, the rest.

Identity is hashed as it is read: a row holds keyed hashes. Columns that are not listed here are not looked at.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from components.archive.csv_rows import Problems, rows
from components.archive.overlay import WORDS
from components.artifacts.manifest import KEPT
from components.base import documents
from components.base.errors import DataRefused, UsageError
from components.own_data.kept import CLEAN
from components.own_data.pseudonyms import Key, same

PLACE = "--labels"
# What the columns are called.
STUDY, FILE, LABEL, PART, PATIENT, SPLIT = "study", "file", "label", "part", "patient", "split"
COLUMNS = (STUDY, FILE, LABEL, PART, PATIENT, SPLIT, *KEPT)
PUBLISHED = {"train": "train", "test": "valid"}
"""The directory of MURA's layout by the word of a row."""
MAX_BYTES = 64_000_000


class Row(NamedTuple):
    """A row. Empty where it says nothing."""

    number: int
    """In the file, the header being row 1."""
    study: str
    """Keyed hash."""
    file: str
    """Keyed hash."""
    patient: str
    """Keyed hash."""
    label: int
    """1 abnormal, 0 normal."""
    part: str
    """As it is written."""
    split: str
    """train or valid, as MURA's directories are called."""
    kept: tuple[tuple[str, str], ...]
    """Columns of KEPT and cleaned values."""


class Labels(NamedTuple):
    """All rows."""

    rows: Sequence[Row]
    has_split: bool
    not_read: int
    """Columns of other names."""


def read(path: Path, key: Key, pictures: bool, most: int) -> Labels:
    """Read the CSV. Fields are separated by commas, or by semicolons as spreadsheets of some countries write them.

    Args:
        path: the file.
        key: hashes what identifies.
        pictures: whether the files say nothing themselves: then every row needs file, patient, study and part, and
            patients may have studies of the same name. DICOM needs study (StudyInstanceUID or AccessionNumber) or file.
        most: rows that it may have.

    Raises:
        UsageError: it cannot be read.
        DataRefused: it is no such CSV, a row is wrong, or two rows are about the same. Rows are named by number.
    """
    try:
        content = documents.content(path, MAX_BYTES)
    except documents.TooLarge:
        raise DataRefused(f"{PLACE}: no file, or more than {MAX_BYTES:,} bytes.") from None
    except OSError as error:
        raise UsageError(f"{PLACE}: cannot be read ({error.strerror}).") from None
    first = content.partition(b"\n")[0]
    delimiter = ";" if b";" in first and b"," not in first else ","
    reading: _Reading | None = None
    number = 0
    try:
        for number, fields in rows(content, PLACE, most, strict=True, delimiter=delimiter):
            if reading is None:
                reading = _Reading(fields, key, pictures)
            elif any(field.strip() for field in fields):
                reading.add(number, fields)
    except (csv.Error, UnicodeDecodeError):
        raise DataRefused(f"{PLACE}: after row {number}: not a CSV in UTF-8. Save it as one.") from None
    if reading is not None:
        reading.problems.refuse()
    if reading is None or not reading.rows:
        raise DataRefused(f"{PLACE}: no row. Expected a header with {LABEL} and rows below it.")
    return Labels(reading.rows, SPLIT in reading.header, reading.not_read)


class _Reading:
    """The rows so far."""

    def __init__(self, header: Sequence[str], key: Key, pictures: bool) -> None:
        self.header = [name.strip().lower() for name in header]
        self._key, self._pictures = key, pictures
        self.not_read = sum(name not in COLUMNS for name in self.header)
        twice = sorted({name for name in COLUMNS if self.header.count(name) > 1})
        needed = (PATIENT, STUDY, PART, LABEL, FILE) if pictures else (LABEL,)
        lacking = [name for name in needed if name not in self.header]
        if not pictures and STUDY not in self.header and FILE not in self.header:
            lacking.append(f"{STUDY} or {FILE}")
        if twice or lacking:
            what = f"{twice[0]} is there twice" if twice else f"{', '.join(lacking)} is missing"
            raise DataRefused(f"{PLACE}: {what} in the header. Columns that are read: {', '.join(COLUMNS)}.")
        self.rows: list[Row] = []
        self.problems = Problems(PLACE)
        self._known: dict[str, int] = {}

    def add(self, number: int, fields: Sequence[str]) -> None:
        """Take a row, or note what is wrong with it."""
        try:
            row = self._row(number, fields)
            # What a row is about: a file, or a whole study.
            if (first := self._known.setdefault(row.file or row.study, number)) != number:
                raise ValueError(f"is about the {FILE if row.file else STUDY} of row {first}")
        except ValueError as error:
            self.problems.add("row {} {}".format, number, error)
            return
        self.rows.append(row)

    def _row(self, number: int, fields: Sequence[str]) -> Row:
        if len(fields) != len(self.header):
            raise ValueError(f"has {len(fields)} fields, the header has {len(self.header)}")
        said = {name: field.strip() for name, field in zip(self.header, fields, strict=True)}
        label = WORDS.get(said[LABEL].lower())
        if label is None:
            raise ValueError(f"has no {LABEL} of 0 (normal) or 1 (abnormal)")
        split = PUBLISHED.get(said.get(SPLIT, "").lower(), "")
        if SPLIT in said and not split:
            raise ValueError(f"has no {SPLIT} of train or test (tuning is taken from train later)")
        patient, study, file = (said.get(name, "") for name in (PATIENT, STUDY, FILE))
        if self._pictures and not (patient and study and file and said[PART]):
            raise ValueError(f"lacks {PATIENT}, {STUDY}, {PART} or {FILE}")
        if not study and not file:
            raise ValueError(f"lacks {STUDY} and {FILE}")
        studies = (same(patient), same(study)) if self._pictures else (same(study),)
        return Row(
            number=number,
            study=self._key.hash(STUDY, *studies),
            file=self._key.hash(FILE, file.replace("\\", "/").removeprefix("./")),
            patient=self._key.hash(PATIENT, same(patient)),
            label=label,
            part=said.get(PART, ""),
            split=split,
            kept=tuple((name, CLEAN[name](said[name])) for name in KEPT if name in said),
        )
