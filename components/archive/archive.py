"""An archive, read-only: a zip or a directory, on disk or on S3. Members are read by name and never unpacked."""

import hashlib
import os
import re
import shlex
import struct
import uuid
import zipfile
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from io import BufferedReader
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from components.archive import disk, known_md5, zip_member, zip_safety
from components.archive.folder import Folder
from components.base.errors import DataChanged, DataRefused, UsageError, again, system_error
from components.base.urls import S3_SCHEME
from components.params.ingest import MAX_MEMBERS

# boto3 takes half a second to import: `s3` is imported where an archive is on S3.
if TYPE_CHECKING:
    from components.archive.s3 import Object, Tree

# A member is read at once. MURA's images have about 86 kB, its longest CSV 3 MB.
MAX_BYTES = 64_000_000
# Of a list, for each member of the archive: a path and a label.
LIST_ROW_BYTES = 200
# A zip is copied in pieces of so many bytes.
PIECE = 1 << 22

# What zipfile raises for damaged files. A damaged table of contents also gives impossible numbers and names: an OSError
# is that of an impossible position. Those of the system come first.
UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, OverflowError, struct.error, NotImplementedError)

# Tells a file from another one that is put in its place later: a stamp, and the size in bytes.
Version = tuple[str, int]


class Archive:
    """A zip as published, or a directory of the same layout; on disk or on S3.

    MURA-v1.1.zip, s3://bucket/MURA-v1.1.zip, or the directory with
        MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png
        MURA-v1.1/train_image_paths.csv, train_labeled_studies.csv, valid_...

    A zip on S3 is not copied: its table of contents is fetched, then single members.

    An open archive belongs to one process. Pickle keeps the place and the version only; a worker process calls
    `reopen` to get a handle of its own.
    """

    METAVAR: ClassVar[str] = "PATH|s3://BUCKET/KEY"
    BY_VALUE: ClassVar[bool] = True
    WITH_DIGEST: ClassVar[bool] = True

    def __init__(
        self, place: str, version: Version | None = None, key: str = "", name: str = "", max_members: int = MAX_MEMBERS
    ) -> None:
        """Use `read`."""
        self.place = place
        self.name = name or _name(place)
        """For people. It does not change when an archive is copied to S3, and is part of what a manifest says."""
        self.max_members = max_members
        self._key = key or uuid.uuid4().hex
        """The same for all copies of this object, in all processes."""
        self.version = version
        """None for a directory."""
        self.expected_md5 = known_md5.of_place(place, is_remote(place))
        """The md5 that its address names, or that was told; None if nothing is known."""
        self._object: Object | None = None
        self._zip: zipfile.ZipFile | None = None
        self._tree: Tree | None = None
        self._folder: Folder | None = None
        self._file: BufferedReader | Object | None = None
        """Of the zip."""
        self._starts: array[int] = array("Q")
        """Where members begin, ascending, and where the last one ends."""

    def __reduce__(self) -> tuple[type[Self], tuple[str, Version | None, str, str, int]]:
        return type(self), (self.place, self.version, self._key, self.name, self.max_members)

    @classmethod
    def read(cls, place: str | Path, max_members: int = MAX_MEMBERS) -> Self:
        """Refer to an archive, and check that it can be opened.

        Args:
            place: a file, a directory, `s3://bucket/key.zip` or `s3://bucket/directory/`.
            max_members: files that it may have: a table of contents must not fill the memory.

        Raises:
            UsageError: there is no such archive, or S3 denies access.
            DataRefused: the file is not a zip, is incomplete, or has an invalid table of contents.
            ServiceUnreachable: S3 does not answer.
        """
        return cls.find(place).checked(max_members)

    @classmethod
    def find(cls, place: str | Path) -> Self:
        """Refer to an archive, and check that there is one. `checked` comes next.

        Raises:
            UsageError: there is no such archive, or S3 denies access.
            ServiceUnreachable: S3 does not answer.
        """
        return cls(str(place), _version(str(place)))

    def checked(self, max_members: int) -> Self:
        """This archive, if it can be opened and has at most so many files.

        Raises:
            DataRefused, ServiceUnreachable: as `read`.
        """
        checked = type(self)(self.place, self.version, name=self.name, max_members=max_members)
        with checked as opened:
            if opened._zip is not None:
                zip_safety.check_zip(opened._zip, self.place, max_members)
        return checked

    @property
    def identity(self) -> list[str | int]:
        """The place, and on S3 also the version of the object."""
        return [self.place, *(self.version or ())] if is_remote(self.place) else [str(Path(self.place).absolute())]

    @property
    def location(self) -> str:
        """The place."""
        return self.place

    def reopen(self) -> "Archive":
        """This archive, opened in this process. The next calls return the same handle.

        Workers read with it: processes that share a handle also share its position in the file. The handle stays open
        until the process opens another archive or ends.

        Raises:
            DataChanged: the file was replaced since `read`.
            ServiceUnreachable: S3 does not answer.
        """
        self._check_unchanged()
        return _opened(os.getpid(), self.place, self.version, self._key, self.name, self.max_members)

    def __enter__(self) -> Self:
        try:
            again(self.place, self._open)
        except BaseException:
            self._close()
            raise
        return self

    def _open(self) -> None:
        self._close()
        if is_remote(self.place):
            from components.archive import s3

            if self.version is None:
                self._tree = s3.Tree(s3.place(self.place))
                return
            self._file = self._object = s3.Object(s3.place(self.place), *self.version)
        elif self.version is None:
            self._folder = Folder(self.place, self.max_members)
            return
        else:
            self._check_unchanged()
            self._file = disk.opened(self.place, self.place)
            if _stamp(os.fstat(self._file.fileno())) != self.version:
                raise disk.changed(self.place)
        try:
            zip_safety.check_end(self._file, self.place)
            guarded = zip_safety.Guarded(self._file, self.place, self.max_members)
            # It reads and seeks, and nothing else.
            self._zip = zipfile.ZipFile(guarded)
        except UNREADABLE as error:
            if system_error(error) is not None:
                raise
            raise DataRefused(
                f"{self.place}: not a readable zip ({error}). Is the download complete? "
                "MURA-v1.1.zip has 3,380,245,855 bytes."
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __del__(self) -> None:
        # A handle that `reopen` keeps ends with the process or with the next one.
        self._close()

    def _close(self) -> None:
        for each in (self._zip, self._file, self._tree):
            if each is not None:
                each.close()
        self._zip = self._file = self._object = self._tree = self._folder = None

    def _check_unchanged(self) -> None:
        """Check that a zip on disk is the one that was read first. S3 checks the version with every request."""
        if self.version is None or is_remote(self.place):
            return
        try:
            same = _stamp(Path(self.place).stat()) == self.version
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            raise DataChanged(f"{self.place}: replaced while it was read. Run the step again.")

    def check_unchanged(self) -> None:
        """Check that an open archive on disk is still the one that was listed.

        Raises:
            DataChanged: files were added, removed or changed. What was read so far is worth nothing.
        """
        if self._folder is not None:
            self._folder.check_unchanged()
        self._check_unchanged()

    def members(self) -> Iterator[str]:
        """Names of all files, `/`-separated, each once, in ascending order.

        Raises:
            DataRefused: a directory contains something else than files, or a file with an unusable name.
        """
        if self._zip is not None:
            yield from sorted({name for name in self._zip.namelist() if not name.endswith("/")})
            return
        names = []
        for name, _, _ in self._contents():
            names.append(name)
            if len(names) > self.max_members:
                raise DataRefused(zip_safety.too_many(self.place, self.max_members))
        names.sort()
        zip_safety.check_names(names, self.place, self.max_members)
        yield from names

    def readable(self) -> tuple[list[str], dict[str, str]]:
        """Names of the files that can be read, ascending, and of what cannot be, with the reason.

        Where each file is asked for itself, one that is lost says nothing of the others. A zip is taken or refused as a
        whole. Names of directories end with a slash.

        Raises:
            DataRefused: there are too many files.
        """
        if self._zip is not None:
            return list(self.members()), {}
        if self._folder is not None:
            names, lost = self._folder.readable()
        else:
            names, lost = [], {}
            for name, _, _ in sorted(self._contents()):
                try:
                    zip_safety.check_text(name, self.place)
                    names.append(name)
                except DataRefused as error:
                    lost[name] = error
            if len(names) + len(lost) > self.max_members:
                raise DataRefused(zip_safety.too_many(self.place, self.max_members))
        return names, {name: zip_safety.reason(error, self.place, name) for name, error in lost.items()}

    def contents_digest(self) -> str:
        """sha256 (hex) of the table of contents: name and size of every file, in a zip also its CRC-32.

        No member is read. Copies of an archive have the same, wherever they lie.
        """
        digest = hashlib.sha256()
        for entry in sorted(self._contents()):
            digest.update(repr(entry).encode())
        return digest.hexdigest()

    def _contents(self) -> Iterator[tuple[str, int, int]]:
        if self._zip is not None:
            entries = (entry for entry in self._zip.infolist() if not entry.is_dir())
            yield from ((entry.filename, entry.file_size, entry.CRC) for entry in entries)
        elif self._tree is not None:
            yield from ((name, size, 0) for name, size in self._tree.files(self.max_members))
        elif self._folder is not None:
            yield from ((entry.name, entry.size, 0) for entry in self._folder.files())

    def expect(self, members: Iterable[str]) -> None:
        """Announce the next members to read, in order. On S3 they are prefetched, several at a time.

        Args:
            members: names. Unknown names are ignored.
        """
        if self._tree is not None:
            self._tree.expect(members, MAX_BYTES)
        elif self._zip is not None and self._object is not None:
            entries = (self._zip.NameToInfo.get(member) for member in members)
            starts = [entry.header_offset for entry in entries if entry and entry.compress_size <= MAX_BYTES]
            self._object.expect((start, self._end_of(start)) for start in starts)

    def _end_of(self, start: int) -> int:
        """Where the next member of the zip begins, or the table of contents."""
        assert self._zip is not None
        if not self._starts:
            starts = sorted(entry.header_offset for entry in self._zip.infolist())
            self._starts = array("Q", chain(starts, [self._zip.start_dir]))
        return self._starts[bisect_right(self._starts, start)]

    def expect_digest(self, told: str) -> None:
        """Take a digest that somebody says of the content. `md5` compares it.

        Raises:
            DataRefused: the object is another one, or its address says otherwise.
        """
        etag = self.version[0].strip('"') if self.version and is_remote(self.place) else None
        self.expected_md5 = known_md5.told(self.place, self.expected_md5, told, etag)

    def md5(self) -> str | None:
        """The md5 of the file, which is its name in DVC. All its bytes are read. None for a directory.

        It is compared with the expected one. A directory is read only if an md5 of one was told.

        The ETag on S3 is not used: it is no md5 if the object was uploaded in parts or is encrypted. A .dvc file is
        not used either: the archive may have changed since.

        Raises:
            DataRefused: it is not the expected one.
            DataChanged: the archive was replaced since `read`.
            ServiceUnreachable: S3 does not answer.
        """
        if self.version is None:
            if self.expected_md5 is not None:
                # Opened anew: this runs beside whoever reads members.
                with type(self)(self.place, name=self.name, max_members=self.max_members) as again:
                    names = list(again.members())
                    again.expect(names)
                    found = known_md5.of_directory((name, again.list_of(name)) for name in names)
                known_md5.compare(self.place, self.expected_md5, found)
            return None
        digest = hashlib.md5(usedforsecurity=False)
        for piece in self.pieces():
            digest.update(piece)
        known_md5.compare(self.place, self.expected_md5, digest.hexdigest())
        return digest.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the zip file, in order. Nothing for a directory.

        Raises:
            DataChanged: the archive was replaced since `read`.
            ServiceUnreachable: S3 does not answer.
        """
        if self.version is None:
            return
        if is_remote(self.place):
            from components.archive import s3

            with s3.Object(s3.place(self.place), *self.version) as content:
                yield from content.pieces()
            return
        with disk.opened(self.place, self.place) as file:
            # Not more than it had: somebody may write to it.
            for start in range(0, self.version[1], PIECE):
                yield again(self.place, partial(_piece, file, start, min(PIECE, self.version[1] - start)))
            if _stamp(os.fstat(file.fileno())) != self.version:
                raise DataChanged(f"{self.place}: replaced while it was read. Run the step again.")

    def list_of(self, member: str) -> bytes:
        """The content of one of the lists. It may be longer where more members are allowed.

        Raises:
            DataRefused, DataChanged, ServiceUnreachable, KeyError: as `bytes_of`.
        """
        return self.bytes_of(member, max(MAX_BYTES, LIST_ROW_BYTES * self.max_members))

    def bytes_of(self, member: str, most: int = MAX_BYTES) -> bytes:
        """The content of one member, of at most so many bytes. An error of the disk is given a second chance.

        Raises:
            KeyError: there is no such member.
            DataRefused: the member cannot be read (wrong checksum, encrypted, incomplete, another header).
            DataChanged: the archive was replaced since `read`, or a file of a directory is not what it was.
            OutsideFailed: the disk or the memory failed, or S3 does not answer.
        """
        content = again(member, lambda: self._bytes_of(member, most))
        if content is None:
            raise DataRefused(f"{member}: more than {most:,} bytes, the limit.")
        return content

    def _bytes_of(self, member: str, most: int) -> bytes | None:
        if self._tree is not None:
            return self._tree.read(member, most)
        if self._zip is None or self._file is None:
            return (self._folder or Folder(self.place, self.max_members)).read(member, most)
        entry = self._zip.getinfo(member)
        if entry.file_size > most:
            return None
        try:
            zip_member.check_entry(entry)
            return zip_member.read(self._file, entry, self._end_of(entry.header_offset))
        except zip_member.Wrong as error:
            # The name, not the place: a copy of the archive elsewhere must give the same manifest.
            raise DataRefused(f"{member}: cannot be read from {self.name} ({error}).") from error


# One handle: a worker reads one archive.
@lru_cache(maxsize=1)
def _opened(
    process: int,  # noqa: ARG001 - not after a fork
    place: str,
    version: Version | None,
    key: str,
    name: str,
    max_members: int,
) -> Archive:
    return Archive(place, version, key, name, max_members).__enter__()


def _piece(file: BufferedReader, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _name(place: str) -> str:
    """The last part of a place. Of an object that DVC named by its content, the md5 that DVC knows it by."""
    stored = known_md5.of_place(place, remote=True)
    return f"md5 {stored}" if stored else place.rstrip("/").rpartition("/")[2] or place


def is_remote(place: str) -> bool:
    """Whether a place is on S3."""
    return place.startswith(S3_SCHEME)


def missing(place: str) -> str:
    """What to say of an archive that is not on this disk."""
    if meant := re.match(r"s3:/*(?=[^/])", place, re.IGNORECASE):
        return f"{place}: no such archive. On S3, write two slashes: {S3_SCHEME}{place[meant.end() :]}."
    return (
        f"{place}: no such archive. `mura phantom --out {shlex.quote(place)}` draws one for trying out. "
        "README.md says how to use the real MURA."
    )


def _version(place: str) -> Version | None:
    """The version of the file at a place. None for a directory."""
    if not is_remote(place):
        path = Path(place)
        if not path.exists():
            raise UsageError(missing(place))
        return _stamp(path.stat()) if path.is_file() else None
    from components.archive import s3

    at = s3.place(place)
    if str(at) != place:
        raise UsageError(
            f"{place}: this is a bucket alone. Write {place}/KEY, or {place}/ if all of it is the archive."
        )
    if at.key and not at.key.endswith("/") and (found := s3.Object.find(at)):
        return found.version, found.size
    if s3.Tree(at).exists():
        return None
    raise UsageError(f"{place}: no such archive: neither an object nor a directory on S3 at {s3.endpoint()}.")


def _stamp(status: os.stat_result) -> Version:
    return f"{status.st_ino}-{status.st_mtime_ns}", status.st_size
