"""What an archive says it holds, judged before anything in it is read.

Nothing is ever unpacked, so no name can make us write anywhere. But a table that names two things by one name, a
name that is another file's on the next machine, or sizes that cannot be true make a data set that nobody can speak of,
and they do not come about by honest zipping. An archive of that kind is refused as a whole, with the member named.
What is wrong with a single member only, such as a wrong checksum, is told when the member is read.
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

# Six times MURA. Of each member of an open zip Python keeps about 600 bytes, in every worker.
MAX_MEMBERS = 250_000
# That many entries of 46 bytes and a name, with room for what some tools add.
MAX_TABLE_BYTES = 50_000_000
# MURA's have at most 70 characters; what file systems and tables of other programs take.
MAX_NAME = 1_000
# Deflate makes at most 1,032 of one byte. Lists of paths shrink to a twentieth, PNGs hardly at all.
MAX_RATIO, BOMB_BYTES = 100, 10_000_000
MAX_TOTAL_RATIO, TOTAL_BYTES = 20, 1_000_000_000
# Where DVC puts a link to a file: into its cache, where it is called by its content.
DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")

_END, _END64, _LOCATOR64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")


class Readable(Protocol):
    """A file here or on S3."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place and say where it is."""

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes, or all."""


def check_end(file: Readable, place: str) -> None:
    """See that a zip ends where its last record says, and that its table of contents is not too large to read.

    Asked before `zipfile` reads that table into memory. What is no zip at all is left for it to refuse.

    Args:
        file: the zip, seekable.
        place: what to call it.

    Raises:
        DataRefused: bytes follow the zip, or the table is larger than any honest one.
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
        raise DataRefused(f"{place}: {what} the end of the zip. Is the download what was published?")
    if found >= _LOCATOR64.size and tail[found - _LOCATOR64.size :].startswith(b"PK\6\7"):
        where = _LOCATOR64.unpack_from(tail, found - _LOCATOR64.size)[2]
        file.seek(min(where, size))
        record = file.read(_END64.size)
        if record.startswith(b"PK\6\6") and len(record) == _END64.size:
            table = _END64.unpack(record)[8]
    if table > MAX_TABLE_BYTES:
        raise DataRefused(
            f"{place}: a table of contents of {table:,} bytes, more than {MAX_TABLE_BYTES:,} are not read."
        )
    # An entry has 46 bytes and a name. What the end says of their number, zipfile does not believe either.
    if table > 47 * MAX_MEMBERS:
        file.seek(max(0, size - len(tail) + found - table - _LOCATOR64.size - _END64.size))
        if file.read(table + _LOCATOR64.size + _END64.size).count(b"PK\1\2") > MAX_MEMBERS:
            raise DataRefused(_too_many(place))


def check_zip(opened: zipfile.ZipFile, place: str) -> None:
    """See that a zip's table of contents makes sense.

    Args:
        opened: the zip.
        place: what to call it.

    Raises:
        DataRefused: a name that leads elsewhere or cannot be said, two members of one name or of names that differ by
            case only, a link, members that overlap, or more bytes than honest compression gives; the member is named.
    """
    entries = opened.infolist()
    for entry in entries:
        # zipfile cuts a name at a NUL and keeps the whole one beside it.
        _check_name(entry.orig_filename, place)
        if not entry.flag_bits & 0x800 and not entry.orig_filename.isascii():
            raise _refused(place, entry.filename, "a name that is not marked as UTF-8. Zip it again with UTF-8 names.")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(place, entry.filename, "a link or a device, expected a file.")
        if entry.file_size > max(BOMB_BYTES, MAX_RATIO * entry.compress_size):
            sizes = f"{entry.compress_size:,} bytes that become {entry.file_size:,}"
            raise _refused(place, entry.filename, f"{sizes}: a bomb.")
    files = [entry for entry in entries if not entry.is_dir()]
    check_names((entry.filename for entry in files), place)
    _check_extents(entries, opened, place)
    packed, whole = sum(entry.compress_size for entry in files), sum(entry.file_size for entry in files)
    if whole > max(TOTAL_BYTES, MAX_TOTAL_RATIO * packed):
        raise DataRefused(f"{place}: {packed:,} bytes that become {whole:,}: a bomb.")


def check_names(names: Iterable[str], place: str) -> None:
    """See that every file has a name of its own, here and on machines that do not tell case or accents apart.

    Args:
        names: of all files.
        place: what to call the archive.

    Raises:
        DataRefused: a name that leads elsewhere or cannot be said, or that clashes with another.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        _check_name(name, place)
        key = _folded(name)
        if (other := seen.setdefault(key, name)) is not name:
            what = "is there twice" if other == name else f"differs from {printable(other)} by case or accents only"
            raise _refused(place, name, f"{what}. Keep one of the two.")
        if len(seen) > MAX_MEMBERS:
            raise DataRefused(_too_many(place))
        folders.setdefault(name.rpartition("/")[0], name)
    for folder, name in folders.items():
        while folder:
            if _folded(folder) in seen:
                raise _refused(place, name, f"lies below {printable(folder)}, which is a file.")
            folder = folder.rpartition("/")[0]


def check_entry(entry: zipfile.ZipInfo) -> None:
    """See that a member is packed in a way that can be unpacked in bounded memory.

    Raises:
        DataRefused: it is encrypted, or packed by another method than MURA's and every common tool's.
    """
    if entry.flag_bits & 1:
        raise DataRefused(f"{entry.filename}: encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataRefused(f"{entry.filename}: packed by method {entry.compress_type}, expected stored or deflated.")


def files_below(folder: Path) -> Iterator[str]:
    """Names of all files below a directory, relative and `/`-separated, in no order.

    Links are followed to what lies in the directory too, and to DVC's cache, which is where DVC's links lead.

    Raises:
        DataRefused: a link leads elsewhere, nowhere or round in a circle, or something is neither file nor directory.
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
                # The entries' own `is_file` knows without asking the disk, but fails at a link to itself.
                if Path(path).is_file() if entry.is_symlink() else entry.is_file():
                    yield name
                elif not Path(path).is_dir():
                    what = "a link to nowhere" if entry.is_symlink() else "neither a file nor a directory"
                    raise _refused(str(folder), name, f"{what}. Remove it.")
                elif path in above:
                    raise _refused(str(folder), name, "a link to a directory that holds it. Remove it.")
                else:
                    waiting.append((f"{name}/", path, above | {path} if entry.is_symlink() else above))


def _followed(path: str, root: str, name: str, place: str) -> str:
    """Where a link leads, if it may."""
    target = os.path.realpath(path)
    if target != root and not target.startswith(f"{root}/") and not DVC_CACHE.search(target):
        raise _refused(
            place,
            name,
            f"a link to {printable(target)}, outside of the archive. Put the file itself there, or name the directory "
            "it leads to as the archive.",
        )
    return target


def _check_name(name: str, place: str) -> None:
    parts = name.rstrip("/").split("/")
    if name != name.encode(errors="replace").decode():
        raise _refused(place, name, "a name that is not UTF-8. Rename the file.")
    if not name.isprintable():
        raise _refused(place, name, "a name with characters that cannot be printed. Rename the file.")
    if len(name) > MAX_NAME:
        raise _refused(place, name, f"a name of {len(name):,} characters, more than {MAX_NAME:,} are not accepted.")
    if "\\" in name or name[1:2] == ":" or not {"", ".", ".."}.isdisjoint(parts):
        raise _refused(place, name, "a name that leads elsewhere; expected a relative path with single /.")


def _check_extents(entries: list[zipfile.ZipInfo], opened: zipfile.ZipFile, place: str) -> None:
    """See that each member has bytes of its own: members that share theirs are how small zips become huge."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    if ordered and ordered[0].header_offset:
        raise DataRefused(
            f"{place}: {ordered[0].header_offset:,} bytes before the first member. Is it another file too?"
        )
    for entry, following in pairwise(ordered):
        if _least_end(entry) > following.header_offset:
            raise _refused(place, following.filename, f"shares its bytes with {printable(entry.filename)}.")
    if ordered and _least_end(ordered[-1]) > opened.start_dir:
        raise _refused(place, ordered[-1].filename, "is longer than the file.")


def _least_end(entry: zipfile.ZipInfo) -> int:
    # 30 bytes of header, then its name, then perhaps more.
    return entry.header_offset + 30 + len(entry.orig_filename) + entry.compress_size


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _too_many(place: str) -> str:
    return f"{place}: more than {MAX_MEMBERS:,} files. Is this an archive of MURA's layout?"


def _refused(place: str, name: str, what: str) -> DataRefused:
    return DataRefused(f"{place}: {printable(name[:300])}: {what}")
