"""What an archive of somebody's own says of its images beyond MURA's lists: a CSV that `mura import` writes.

    own/about_images.csv
        image,body_part,view_position,sex
        own/train/XR_KNEE/patient000012345678901/study000000000000017_negative/image1.png,knee,AP,female

Its body parts are those that the archive has, in place of MURA's seven. The other columns are some of KEPT. An empty
cell is not known.
"""

import csv
import re
from typing import NamedTuple

from components.archive.archive import Archive
from components.archive.csv_rows import rows
from components.archive.member_paths import body_part
from components.archive.mura_csv import Listing, is_sidecar, name_of
from components.artifacts.manifest import KEPT, Kept
from components.base.errors import DataRefused
from components.base.names import LONGEST, PATTERN

FILE = "about_images.csv"
IMAGE, BODY_PART = "image", "body_part"
# What a cell may be. Reports and cards show it.
WORDS = re.compile(r"[A-Za-z0-9][A-Za-z0-9 +-]{0,39}")
# Values of a column: each is a group of the report.
MOST_VALUES = 50


class About(NamedTuple):
    """What such a CSV says."""

    file: str
    """The member."""
    body_parts: tuple[str, ...]
    """Of the archive, ascending."""
    columns: tuple[Kept, ...]
    """Some of KEPT, in their order."""
    said: dict[str, tuple[str, ...]]
    """By image: a value for each column, empty where it is not known."""

    def of(self, image: str) -> dict[str, str | None]:
        """The values of an image by column."""
        return {name: value or None for name, value in zip(self.columns, self.said[image], strict=True)}


def read_about(archive: Archive, members: list[str], listing: Listing) -> About | None:
    """Read the CSV of an open archive, if it has one. Its name is added to the listing's files.

    Args:
        archive: open.
        members: its members.
        listing: its lists of images.

    Raises:
        DataRefused: there are two, or one is damaged; it and the lists have not the same images; or a row says another
            body part than its path.
    """
    found = [member for member in members if name_of(member) == FILE and not is_sidecar(member)]
    if not found:
        return None
    if len(found) > 1:
        raise DataRefused(f"{archive.place}: expected one {FILE}, found {len(found)}.")
    listing.files.add(found[0])
    reading = _Reading(found[0].removesuffix(FILE), listing)
    number = 0
    try:
        for number, fields in rows(archive.list_of(found[0]), found[0], archive.max_members):
            if number == 1:
                reading.begin(fields)
            elif fields:
                reading.add(fields)
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise DataRefused(f"{found[0]}, row {number}: {error}.") from error
    if lacking := sorted(set(listing.images) - set(reading.said)):
        raise DataRefused(f"{found[0]}: {len(lacking):,} listed images have no row in it, such as {lacking[0]}.")
    return About(found[0], tuple(sorted(reading.body_parts)), reading.columns, reading.said)


class _Reading:
    """The rows so far."""

    def __init__(self, folder: str, listing: Listing) -> None:
        self._folder, self._listing = folder, listing
        self.columns: tuple[Kept, ...] = ()
        self.body_parts: set[str] = set()
        self.said: dict[str, tuple[str, ...]] = {}
        self._values: list[set[str]] = []
        # Most images say the same: one tuple for all of them.
        self._same: dict[tuple[str, ...], tuple[str, ...]] = {}

    def begin(self, header: list[str]) -> None:
        """Take the header."""
        names = tuple(name for name in KEPT if name in header)
        if tuple(header) != (IMAGE, BODY_PART, *names):
            raise ValueError(f"expected the header {IMAGE},{BODY_PART} and then some of {','.join(KEPT)}")
        self.columns, self._values = names, [set() for _ in names]

    def add(self, fields: list[str]) -> None:
        """Take a row."""
        if len(fields) != len(self.columns) + 2:
            raise ValueError(f"expected {len(self.columns) + 2} fields, found {len(fields)}")
        image, part, values = self._folder + fields[0].partition("/")[2], fields[1], tuple(fields[2:])
        if image not in self._listing.images:
            raise ValueError("an image that is not listed")
        if image in self.said:
            raise ValueError("an image that has a row already")
        if len(part) > LONGEST or not re.search(PATTERN, part):
            raise ValueError("expected a body part of small letters, digits and _")
        if part != body_part(image):
            raise ValueError(f"the body part is {part}, the image's directory says otherwise")
        for name, known, value in zip(self.columns, self._values, values, strict=True):
            if value and not WORDS.fullmatch(value):
                raise ValueError(f"expected a word under {name}")
            known.add(value)
            if len(known) > MOST_VALUES:
                raise ValueError(f"{name} has more than {MOST_VALUES} values: they are no groups")
        self.body_parts.add(part)
        self.said[image] = self._same.setdefault(values, values)
