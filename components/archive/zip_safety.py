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
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from components.base.errors import DataRefused, printable

# Of the table of contents, for each member: 46 bytes, a name, and room for extra fields that some tools add.
ENTRY_BYTES = 200
RAISE = "ingest.max_members of params.yaml allows more."
# MURA's names have at most 70 characters. File systems and other programs accept about so many.
MAX_NAME = 1_000
# Deflate packs at most 1,032 bytes into one. Lists of paths shrink to a twentieth, PNGs hardly at all.
MAX_RATIO, BOMB_BYTES = 100, 10_000_000
MAX_TOTAL_RATIO, TOTAL_BYTES = 20, 1_000_000_000
# Target of DVC's links: a file in its cache, named by its md5.
DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")

_END, _END64, _LOCATOR64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")


class Readable(Protocol):
    """A file on disk or on S3."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position and return it."""

    def read(self, size: int = -1, /) -> bytes:
        """Read so many bytes, or all."""


def check_end(file: Readable, place: str, most: int) -> None:
    """Check that a zip ends where its last record says, and that its table of contents is not too large.

    Call it before `zipfile` reads the table into memory. A file that is no zip passes; `zipfile` refuses it.

    Args:
        file: the zip, seekable.
        place: its name in messages.
        most: members that are allowed.

    Raises:
        DataRefused: bytes follow the zip, or the table is too large.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - 0xFFFF))
    tail = file.read()
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + _END.size > len(tail):
        return
    *_, table, _, comment = _END.unpack_from(tail, found)
    if behind := len(tail) - found - _END.size - comment:
        what = f"{behind:,} bytes follow" if behind > 0 else f"{-behind:,} bytes are missing from"
        raise DataRefused(f"{place}: {what} the end of the zip. Is the download complete?")
    if found >= _LOCATOR64.size and tail[found - _LOCATOR64.size :].startswith(b"PK\6\7"):
        where = _LOCATOR64.unpack_from(tail, found - _LOCATOR64.size)[2]
        file.seek(min(where, size))
        record = file.read(_END64.size)
        if record.startswith(b"PK\6\6") and len(record) == _END64.size:
            table = _END64.unpack(record)[8]
    if table > ENTRY_BYTES * most:
        raise DataRefused(
            f"{place}: the table of contents has {table:,} bytes, more than {ENTRY_BYTES} for each of {most:,} files. "
            f"{RAISE}"
        )
    # An entry has at least 46 bytes and a name. The number of entries in the last record cannot be trusted.
    if table > 47 * most:
        file.seek(max(0, size - len(tail) + found - table - _LOCATOR64.size - _END64.size))
        if file.read(table + _LOCATOR64.size + _END64.size).count(b"PK\1\2") > most:
            raise DataRefused(_too_many(place, most))


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
        _check_name(entry.orig_filename, place)
        if not entry.flag_bits & 0x800 and not entry.orig_filename.isascii():
            raise _refused(place, entry.filename, "the name is not marked as UTF-8. Zip it again with UTF-8 names.")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(place, entry.filename, "a link or a device, expected a file.")
        if entry.file_size > max(BOMB_BYTES, MAX_RATIO * entry.compress_size):
            sizes = f"{entry.compress_size:,} bytes expand to {entry.file_size:,}"
            raise _refused(place, entry.filename, f"a zip bomb: {sizes}.")
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
    folders: dict[str, str] = {}
    for name in names:
        _check_name(name, place)
        key = _folded(name)
        if (other := seen.setdefault(key, name)) is not name:
            what = "is there twice" if other == name else f"differs from {printable(other)} only by case or accents"
            raise _refused(place, name, f"{what}. Keep one of the two.")
        if len(seen) > most:
            raise DataRefused(_too_many(place, most))
        folders.setdefault(name.rpartition("/")[0], name)
    for folder, name in folders.items():
        while folder:
            if _folded(folder) in seen:
                raise _refused(place, name, f"lies below {printable(folder)}, which is a file.")
            folder = folder.rpartition("/")[0]


def check_entry(entry: zipfile.ZipInfo) -> None:
    """Check that a member can be read in bounded memory.

    Raises:
        DataRefused: it is encrypted, or its compression method is not a common one.
    """
    if entry.flag_bits & 1:
        raise DataRefused(f"{entry.filename}: encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataRefused(f"{entry.filename}: compression method {entry.compress_type}, expected stored or deflated.")


def files_below(folder: Path) -> Iterator[str]:
    """Names of all files below a directory, relative and `/`-separated, in no order.

    Links are followed if their target is inside the directory or in DVC's cache.

    Raises:
        DataRefused: a link has another target, no target or is part of a circle, or an entry is neither a file nor a
            directory.
    """
    root = os.path.realpath(folder)
    waiting = [("", root, frozenset({root}))]
    while waiting:
        prefix, here, above = waiting.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                name, path = prefix + entry.name, entry.path
                if entry.is_symlink():
                    path = _followed(path, root, name, str(folder))
                # `entry.is_file` needs no system call, but fails for a link to itself.
                if Path(path).is_file() if entry.is_symlink() else entry.is_file():
                    yield name
                elif not Path(path).is_dir():
                    what = "a broken link" if entry.is_symlink() else "neither a file nor a directory"
                    raise _refused(str(folder), name, f"{what}. Remove it.")
                elif path in above:
                    raise _refused(str(folder), name, "a link to a directory that contains it. Remove it.")
                else:
                    waiting.append((f"{name}/", path, above | {path} if entry.is_symlink() else above))


def _followed(path: str, root: str, name: str, place: str) -> str:
    """The target of a link, if it is allowed."""
    target = os.path.realpath(path)
    if target != root and not target.startswith(f"{root}/") and not DVC_CACHE.search(target):
        raise _refused(
            place,
            name,
            f"a link to {printable(target)}, outside of the archive. Replace the link by the file, or use the link's "
            "target as the archive.",
        )
    return target


def _check_name(name: str, place: str) -> None:
    parts = name.rstrip("/").split("/")
    if name != name.encode(errors="replace").decode():
        raise _refused(place, name, "the name is not UTF-8. Rename the file.")
    if not name.isprintable():
        raise _refused(place, name, "the name has unprintable characters. Rename the file.")
    if len(name) > MAX_NAME:
        raise _refused(place, name, f"the name has {len(name):,} characters, more than the limit of {MAX_NAME:,}.")
    if "\\" in name or name[1:2] == ":" or not {"", ".", ".."}.isdisjoint(parts):
        raise _refused(place, name, "an unsafe name. Expected a relative path with single / and without `..`.")


def _check_extents(entries: list[zipfile.ZipInfo], opened: zipfile.ZipFile, place: str) -> None:
    """Check that members do not overlap. Overlapping members make small zip bombs possible."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    if ordered and ordered[0].header_offset:
        raise DataRefused(
            f"{place}: {ordered[0].header_offset:,} bytes before the first member. Is the file something else too?"
        )
    for entry, following in pairwise(ordered):
        if _least_end(entry) > following.header_offset:
            raise _refused(place, following.filename, f"shares its bytes with {printable(entry.filename)}.")
    if ordered and _least_end(ordered[-1]) > opened.start_dir:
        raise _refused(place, ordered[-1].filename, "is longer than the file.")


def _least_end(entry: zipfile.ZipInfo) -> int:
    # A header of 30 bytes, the name, perhaps extra fields, the content.
    return entry.header_offset + 30 + len(entry.orig_filename) + entry.compress_size


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _too_many(place: str, most: int) -> str:
    return f"{place}: more than {most:,} files. Is this an archive of MURA's layout? {RAISE}"


def _refused(place: str, name: str, what: str) -> DataRefused:
    return DataRefused(f"{place}: {printable(name[:300])}: {what}")
