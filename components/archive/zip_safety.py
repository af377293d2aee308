"""Check names, sizes and table of contents of an archive before any member is read.

Nothing is ever unpacked, so a malicious name cannot make us write a file. But two members of one name, names that
clash on other file systems, or impossible sizes make the data set ambiguous, and no common zip tool produces them. Such
an archive is refused as a whole; the message names the member. A fault of a single member, such as a wrong checksum, is
reported when that member is read.
"""

import os
import re
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol

from components.base.errors import DataRefused, printable

# Of the table of contents, for each member: 46 bytes, a name, and room for extra fields that some tools add.
ENTRY_BYTES = 200
# `predict` and `evaluate --archive` read archives too, and have no such choice.
RAISE = "ingest.max_members of params.yaml allows more, to `mura ingest` and `mura import`."
# MURA's names have at most 70 characters. File systems and other programs accept about so many.
MAX_NAME = 1_000
# Deflate packs at most 1,032 bytes into one. Lists of paths shrink to a twentieth, PNGs hardly at all.
MAX_RATIO, BOMB_BYTES = 100, 10_000_000
MAX_TOTAL_RATIO, TOTAL_BYTES = 20, 1_000_000_000
# Between two members: extra fields that only the second header has, and a descriptor.
MAX_GAP = 0xFFFF + 24

# Names that Windows cannot keep, or takes for a device: whoever unpacks the archive there gets other files.
_NOT_ON_WINDOWS = re.compile(
    r"""[<>:"|?*]|[. ](?:/|\Z)|(?:\A|/)(?:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3])(?:\.[^/]*)?(?:/|\Z)""",
    re.IGNORECASE,
)
_END = struct.Struct("<4s4H2LH")


class Readable(Protocol):
    """A file on disk or on S3."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position and return it."""

    def tell(self) -> int:
        """The position."""

    def read(self, size: int = -1, /) -> bytes:
        """Read so many bytes, or all."""


class Guarded:
    """A zip as `zipfile` may read it: at once not more than a table of contents may have, whatever the file claims."""

    def __init__(self, file: Readable, place: str, most: int) -> None:
        """Guard a file.

        Args:
            file: the zip, seekable.
            place: its name in messages.
            most: members that are allowed.
        """
        self._file = file
        self._place = place
        self._most = most
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes.

        Raises:
            DataRefused: those are more than a table of so many members has, or there are more members in them.
        """
        # The end of a zip with the longest comment is read in any case.
        limit = max(ENTRY_BYTES * self._most, _END.size + 0x10000)
        if size > limit:
            raise DataRefused(
                f"{self._place}: the table of contents has {size:,} bytes, more than {ENTRY_BYTES} for each of "
                f"{self._most:,} files. {RAISE}"
            )
        content = self._file.read(limit if size < 0 else size)
        # The number of entries in the last record cannot be trusted.
        if content.count(b"PK\1\2") > self._most:
            raise DataRefused(too_many(self._place, self._most))
        return content


def check_end(file: Readable, place: str) -> None:
    """Check that a zip ends where its last record says. A file that is no zip passes; `zipfile` refuses it.

    Args:
        file: the zip, seekable.
        place: its name in messages.

    Raises:
        DataRefused: bytes follow the zip, or are missing from it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - 0xFFFF))
    tail = file.read(_END.size + 0xFFFF)
    last = len(tail) - _END.size
    # As zipfile looks for it: without a comment the last record is the last bytes, whatever its fields look like.
    found = (
        last if last >= 0 and tail[last:].startswith(b"PK\5\6") and tail.endswith(b"\0\0") else tail.rfind(b"PK\5\6")
    )
    if found < 0 or found > last:
        return
    if behind := last - found - _END.unpack_from(tail, found)[-1]:
        what = f"{behind:,} bytes follow" if behind > 0 else f"{-behind:,} bytes are missing from"
        raise DataRefused(f"{place}: {what} the end of the zip. Is the download complete?")


def check_zip(opened: zipfile.ZipFile, place: str, most: int) -> None:
    """Check a zip's table of contents.

    Args:
        opened: the zip.
        place: its name in messages.
        most: members that are allowed.

    Raises:
        DataRefused: an unsafe or unprintable name, two members of one name or of names that differ by case only, a
            link, overlapping members, or an impossible compression ratio. The message names the member.
    """
    entries = opened.infolist()
    for entry in entries:
        # zipfile cuts `filename` at a NUL; `orig_filename` has the whole name.
        check_name(entry.orig_filename, place)
        if not entry.flag_bits & 0x800 and not entry.orig_filename.isascii():
            raise refused(place, entry.filename, "the name is not marked as UTF-8. Zip it again with UTF-8 names.")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refused(place, entry.filename, "a link or a device, expected a file.")
        if entry.file_size > max(BOMB_BYTES, MAX_RATIO * entry.compress_size):
            sizes = f"{entry.compress_size:,} bytes expand to {entry.file_size:,}"
            raise refused(place, entry.filename, f"a zip bomb: {sizes}.")
    files = [entry for entry in entries if not entry.is_dir()]
    check_names((entry.filename for entry in files), place, most)
    _check_extents(entries, opened, place)
    packed, whole = sum(entry.compress_size for entry in files), sum(entry.file_size for entry in files)
    if whole > max(TOTAL_BYTES, MAX_TOTAL_RATIO * packed):
        raise DataRefused(f"{place}: a zip bomb: {packed:,} bytes expand to {whole:,}.")


def check_names(names: Iterable[str], place: str, most: int) -> None:
    """Check that names are unique, also on file systems that ignore case or the encoding of accents.

    Args:
        names: of all files.
        place: the archive's name in messages.
        most: files that are allowed.

    Raises:
        DataRefused: a name is unsafe or unprintable, or clashes with another one.
    """
    seen: dict[str, str] = {}
    for name in names:
        check_name(name, place)
        key = _folded(name)
        if (other := seen.setdefault(key, name)) is not name:
            what = "is there twice" if other == name else f"differs from {printable(other)} only by case or accents"
            raise refused(place, name, f"{what}. Keep one of the two.")
        if len(seen) > most:
            raise DataRefused(too_many(place, most))
    # In this order a file and what lies below it are neighbours, and so are the files of a directory.
    for before, after in pairwise(sorted(seen)):
        one, other = seen[before], seen[after]
        if after.startswith(f"{before}\0"):
            raise refused(place, other, f"lies below {printable(one)}, which is a file.")
        if one.rpartition("/")[0] != other.rpartition("/")[0]:
            _check_folders(one.split("/")[:-1], other.split("/")[:-1], place)


def _check_folders(one: list[str], other: list[str], place: str) -> None:
    """Check that the directories of two files do not differ by case or accents only."""
    for number, (left, right) in enumerate(zip(one, other, strict=False), 1):
        if left != right:
            if _folded(left) == _folded(right):
                what = f"differs from {printable('/'.join(one[:number])[:300])} only by case or accents"
                raise refused(place, "/".join(other[:number]), f"{what}. Rename one of the two.")
            return


def check_name(name: str, place: str) -> None:
    """Check a name by itself.

    Raises:
        DataRefused: it is unsafe, unprintable or too long.
    """
    check_text(name, place)
    parts = name.rstrip("/").split("/")
    if "\\" in name or name[1:2] == ":" or not {"", ".", ".."}.isdisjoint(parts):
        raise refused(place, name, "an unsafe name. Expected a relative path with single / and without `..`.")
    if _NOT_ON_WINDOWS.search(name):
        raise refused(place, name, "a name that Windows cannot keep. Rename the file.")


def check_text(name: str, place: str) -> None:
    """Check that a name can be told. That is enough where nobody unpacks the archive elsewhere.

    Raises:
        DataRefused: it is unprintable or too long.
    """
    if name != name.encode(errors="replace").decode():
        raise refused(place, name, "the name is not UTF-8. Rename the file.")
    if not name.isprintable():
        raise refused(place, name, "the name has unprintable characters. Rename the file.")
    if len(name) > MAX_NAME:
        raise refused(place, name, f"the name has {len(name):,} characters, more than the limit of {MAX_NAME:,}.")


def _check_extents(entries: list[zipfile.ZipInfo], opened: zipfile.ZipFile, place: str) -> None:
    """Check that members do not overlap. Overlapping members make small zip bombs possible."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    if ordered and ordered[0].header_offset:
        raise DataRefused(
            f"{place}: {ordered[0].header_offset:,} bytes before the first member. Is the file something else too?"
        )
    for entry, following in pairwise(ordered):
        gap = following.header_offset - _least_end(entry)
        if gap < 0:
            raise refused(place, following.filename, f"shares its bytes with {printable(entry.filename)}.")
        if gap > MAX_GAP:
            raise refused(place, entry.filename, f"up to {gap:,} bytes are hidden behind it. Zip it again.")
    if ordered and _least_end(ordered[-1]) > opened.start_dir:
        raise refused(place, ordered[-1].filename, "is longer than the file.")
    if ordered and (gap := opened.start_dir - _least_end(ordered[-1])) > MAX_GAP:
        raise refused(place, ordered[-1].filename, f"up to {gap:,} bytes are hidden behind it. Zip it again.")


def _least_end(entry: zipfile.ZipInfo) -> int:
    # A header of 30 bytes, the name, perhaps extra fields, the content.
    return entry.header_offset + 30 + len(entry.orig_filename) + entry.compress_size


def _folded(name: str) -> str:
    """A name without case and accents' encoding. The separator comes before all letters, for `check_names`."""
    folded = name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()
    return folded.replace("/", "\0")


def too_many(place: str, most: int, what: str = "files") -> str:
    """What to say of an archive with more files."""
    return f"{place}: more than {most:,} {what}. Is this an archive of MURA's layout? {RAISE}"


def refused(place: str, name: str, what: str) -> DataRefused:
    """What to raise for a member: it is named, and its name moves no cursor."""
    return DataRefused(f"{_told(place, name)}{what}")


def reason(error: DataRefused, place: str, name: str) -> str:
    """What was said of a member, without its name."""
    return str(error).removeprefix(_told(place, name))


def _told(place: str, name: str) -> str:
    return f"{place}: {printable(name[:300])}: "
