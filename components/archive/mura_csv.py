"""Read MURA's four CSVs. A row that cannot be read is refused, with its file and number."""

import csv
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from components.archive.archive import Archive
from components.archive.csv_rows import rows
from components.artifacts.manifest import TEST, TRAIN
from components.base.errors import DataRefused

# By published directory. MURA's own test set is private, so its `valid` is our test set.
SOURCE_SPLITS = {"train": TRAIN, "valid": TEST}
# MURA's have at most 70 characters.
MAX_PATH = 1_000


class Listing(NamedTuple):
    """The content of the four CSVs."""

    images: dict[str, str]
    """Source split of every listed image, by member."""
    labels: dict[str, int]
    """Label of every listed study, by the study's directory."""
    files: set[str]
    """The CSVs themselves."""


def read_listing(archive: Archive, members: list[str]) -> Listing:
    """Read the four CSVs of an open archive.

    Args:
        archive: open.
        members: its members, ascending.

    Raises:
        DataRefused: a CSV is missing, unreadable or there twice, or one of its rows is wrong.
    """
    listing = Listing({}, {}, set())
    for source_split in SOURCE_SPLITS:
        for row in _csv_rows(archive, members, source_split, "image_paths", listing):
            if len(row.fields) != 1 or not row.path.lower().endswith(".png"):
                raise DataRefused(f"{row}: expected the path of a PNG, found {row.text}. Convert pictures to PNG.")
            if row.path in listing.images:
                raise DataRefused(f"{row}: {row.path} is listed twice.")
            listing.images[_the_same(row.path, members)] = source_split
        for row in _csv_rows(archive, members, source_split, "labeled_studies", listing):
            if len(row.fields) != 2 or row.fields[1].strip() not in ("0", "1"):
                raise DataRefused(f"{row}: expected a study's path and a label 0 or 1, found {row.text}.")
            label = int(row.fields[1])
            if (known := listing.labels.get(row.path)) is not None:
                raise DataRefused(f"{row}: {row.path} is labelled twice, {known} and {label}.")
            listing.labels[row.path] = label
    return listing


def _the_same(path: str, members: list[str]) -> str:
    """The member of that name: with millions of names, one string for each is enough."""
    place = bisect_left(members, path)
    return members[place] if place < len(members) and members[place] == path else path


def is_sidecar(member: str) -> bool:
    """Whether a member is an AppleDouble file: macOS' attributes of another file, no content."""
    return name_of(member).startswith("._") or "/__MACOSX/" in f"/{member}"


# Not pathlib: for all paths of MURA it takes three seconds longer.
def name_of(member: str) -> str:
    """The last part of a member's path."""
    return member.rpartition("/")[2]


def folder_of(member: str) -> str:
    """The path of a member without its last part."""
    return member.rpartition("/")[0]


class _CsvRow(NamedTuple):
    """A row of one of the CSVs."""

    file: str
    number: int
    fields: list[str]
    path: str
    """The first field, as a member of the archive."""

    def __str__(self) -> str:
        return f"{self.file}, row {self.number}"

    @property
    def text(self) -> str:
        return repr(",".join(self.fields)[:200])


def _csv_rows(
    archive: Archive, members: list[str], source_split: str, what: str, listing: Listing
) -> Iterator[_CsvRow]:
    """Rows of one CSV. Its name is added to the listing's files.

    Stanford's CSVs have no header line; some copies have one. A header contains no path and no label. Paths start with
    MURA-v1.1/, also if that directory lies deeper in the archive.
    """
    name = f"{source_split}_{what}.csv"
    found = [member for member in members if name_of(member) == name and not is_sidecar(member)]
    if len(found) != 1:
        near = [member for member in members if name_of(member).lower() == name and member not in found]
        what = f"{near[0]} instead: rename it" if near and not found else f"{len(found)}"
        raise DataRefused(
            f"{archive.place}: expected one {name}, found {what}. Is this MURA v1.1, or an archive of its layout?"
        )
    listing.files.add(found[0])
    folder, content = found[0].removesuffix(name), archive.list_of(found[0])
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        raise DataRefused(f"{found[0]}, row {line}: not UTF-8 ({error}). Save it as UTF-8.") from error
    number = 0
    try:
        for number, fields in rows(content, found[0], archive.max_members):
            if not fields or (number == 1 and _is_header(fields)):
                continue
            path = folder + fields[0].strip().partition("/")[2].rstrip("/")
            row = _CsvRow(name, number, fields, path)
            _check_path(row, f"{folder}{source_split}/")
            yield row
    except csv.Error as error:
        raise DataRefused(f"{found[0]}, row {number + 1}: not a CSV ({error}).") from error


def _is_header(fields: list[str]) -> bool:
    words = "".join(fields)
    return words.isprintable() and "/" not in words and fields[-1].strip() not in ("0", "1")


def _check_path(row: _CsvRow, below: str) -> None:
    if len(row.path) > MAX_PATH:
        raise DataRefused(f"{row}: expected a path, found {len(row.path):,} characters.")
    if not row.path.isprintable():
        raise DataRefused(f"{row}: unprintable characters in the path {row.text}.")
    if not row.path.startswith(below):
        hint = " Upper and lower case count." if row.path.lower().startswith(below.lower()) else ""
        raise DataRefused(f"{row}: expected a path below {below}, found {row.text}.{hint}")
    if "\\" in row.path or not {"", ".", ".."}.isdisjoint(row.path.split("/")):
        raise DataRefused(f"{row}: expected a path with single / and without `..`, found {row.text}.")
