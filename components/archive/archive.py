"""The archive as it came: read-only, members by name, never unpacked."""

import hashlib
import os
import struct
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from components.archive import s3, zip_safety
from components.base.errors import DataChanged, DataRefused, MuraError, UsageError

# A member is read whole. MURA's images have about 86 kB, its longest CSV 3 MB.
MAX_BYTES = 64_000_000

# A damaged table of contents also shows as numbers and names that make no sense.
UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError)

# What tells a file from another one in the same place: a stamp and the size in bytes.
Version = tuple[str, int]


class Archive:
    """A zip as published, or a directory of the same layout; here or on S3.

    MURA-v1.1.zip, s3://bucket/MURA-v1.1.zip, or the directory with
        MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png
        MURA-v1.1/train_image_paths.csv, train_labeled_studies.csv, valid_...

    Of a zip on S3 the table of contents is read, and then each member by itself; it is never copied whole.
    An open archive belongs to one process. Pickled, it is the place and the version: each worker opens its own.
    """

    METAVAR: ClassVar[str] = "PATH|s3://BUCKET/KEY"
    BY_VALUE: ClassVar[bool] = True
    WITH_DIGEST: ClassVar[bool] = True

    def __init__(self, place: str, version: Version | None = None, key: str = "") -> None:
        """Use `read`."""
        self.place = place
        self._key = key or uuid.uuid4().hex
        """The same in all processes that were given this archive."""
        self.version = version
        """What tells the file from another one put in its place; None for a directory."""
        self._object: s3.Object | None = None
        self._zip: zipfile.ZipFile | None = None
        self._tree: s3.Tree | None = None
        self._ends: dict[int, int] = {}

    def __reduce__(self) -> tuple[type[Self], tuple[str, Version | None, str]]:
        return type(self), (self.place, self.version, self._key)

    @classmethod
    def read(cls, place: str | Path) -> Self:
        """Refer to an archive and see that it can be opened.

        Args:
            place: a file, a directory, `s3://bucket/key.zip` or `s3://bucket/directory/`.

        Raises:
            UsageError: nothing is there, or S3 does not let us see it.
            DataRefused: the file is not a zip, is cut short, or has a table of contents that makes no sense.
            ServiceUnreachable: S3 does not answer.
        """
        place = str(place)
        with cls(place, _version(place)) as found:
            if found._zip is not None:
                zip_safety.check_zip(found._zip, place)
            return cls(place, found.version)

    @property
    def name(self) -> str:
        """The last part of the place: the same for the same archive here and on S3."""
        return self.place.rstrip("/").rpartition("/")[2] or self.place

    @property
    def identity(self) -> list[str | int]:
        """What tells this archive from another: the place, and on S3 the version of the object."""
        return [self.place, *(self.version or ())] if is_remote(self.place) else [str(Path(self.place).absolute())]

    @property
    def location(self) -> str:
        """The place."""
        return self.place

    def reopen(self) -> "Archive":
        """This archive, opened by this process at the first call and kept open until the process ends.

        Workers read with it: a handle that several processes share has one position in the file for all of them.
        """
        return _opened(os.getpid(), self.place, self.version, self._key)

    def __enter__(self) -> Self:
        if is_remote(self.place):
            at = s3.place(self.place)
            if self.version is None:
                self._tree = s3.Tree(at)
                return self
            self._object = s3.Object(at, *self.version)
        elif self.version is None:
            return self
        elif _stamp(Path(self.place).stat()) != self.version:
            raise DataChanged(f"{self.place}: replaced while it was read. Run the step again.")
        try:
            if self._object is None:
                with Path(self.place).open("rb") as file:
                    zip_safety.check_end(file, self.place)
            else:
                zip_safety.check_end(self._object, self.place)
            self._zip = zipfile.ZipFile(self._object or self.place)
        except UNREADABLE as error:
            raise DataRefused(
                f"{self.place}: not a readable zip ({error}). Is the download complete? "
                "MURA-v1.1.zip has 3,380,245,855 bytes."
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._zip, self._object, self._tree):
            if each is not None:
                each.close()
        self._zip = self._object = self._tree = None

    def members(self) -> Iterator[str]:
        """Names of all files, `/`-separated, each once, in ascending order.

        Raises:
            DataRefused: a directory holds what is no file, or a file whose name no CSV and no table can tell of.
        """
        if self._zip is not None:
            yield from sorted({name for name in self._zip.namelist() if not name.endswith("/")})
            return
        if self._tree is not None:
            names = sorted(name for name, _ in self._tree.files())
        else:
            names = sorted(zip_safety.files_below(Path(self.place)))
        zip_safety.check_names(names, self.place)
        yield from names

    def expect(self, members: Iterable[str]) -> None:
        """Say which members will be asked for next, in order: on S3 they are fetched ahead, several at a time.

        Args:
            members: those that there are none of do no harm.
        """
        if self._tree is not None:
            self._tree.expect(members, MAX_BYTES)
        elif self._zip is not None and self._object is not None:
            if not self._ends:
                starts = sorted({entry.header_offset for entry in self._zip.infolist()})
                self._ends = dict(zip(starts, [*starts[1:], self._zip.start_dir], strict=True))
            entries = (self._zip.NameToInfo.get(member) for member in members)
            starts = [entry.header_offset for entry in entries if entry and entry.compress_size <= MAX_BYTES]
            self._object.expect((start, self._ends[start]) for start in starts)

    def md5(self) -> str | None:
        """The name DVC gives the file: the md5 of its bytes, read for this; None for a directory.

        A server's word for it is not taken: an ETag is no md5 where an object came in parts or is encrypted. Nor is
        that of a .dvc file, which says what the archive was once.

        Raises:
            DataChanged: the archive was replaced since it was read for the first time.
            ServiceUnreachable: S3 does not answer.
        """
        if self.version is None:
            return None
        digest = hashlib.md5(usedforsecurity=False)
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the file as it lies there, in order; of a directory, none.

        Raises:
            DataChanged: the archive was replaced since it was read for the first time.
            ServiceUnreachable: S3 does not answer.
        """
        if self.version is None:
            return
        if is_remote(self.place):
            with s3.Object(s3.place(self.place), *self.version) as content:
                yield from content.pieces()
            return
        with Path(self.place).open("rb") as file:
            while piece := file.read(s3.MOST):
                yield piece
            if _stamp(os.fstat(file.fileno())) != self.version:
                raise DataChanged(f"{self.place}: replaced while it was read. Run the step again.")

    def bytes_of(self, member: str) -> bytes:
        """The content of one member.

        Raises:
            KeyError: there is no such member.
            DataRefused: the member cannot be read (its checksum is wrong, it is encrypted, it is cut off).
            DataChanged: the archive was replaced since it was read for the first time.
            ServiceUnreachable: S3 does not answer.
        """
        if self._tree is not None:
            content = self._tree.read(member, MAX_BYTES)
            if content is None:
                raise DataRefused(_too_large(member))
            return content
        if self._zip is None:
            path = Path(self.place) / member
            try:
                if path.stat().st_size > MAX_BYTES:
                    raise DataRefused(_too_large(member))
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                raise KeyError(member) from None
            except OSError as error:
                raise DataRefused(_unreadable(member, self.name, error)) from error
        entry = self._zip.getinfo(member)
        # zipfile reads no more than the directory of the zip declares.
        if entry.file_size > MAX_BYTES:
            raise DataRefused(_too_large(member))
        try:
            zip_safety.check_entry(entry)
            content = self._zip.read(entry)
        except MuraError:
            raise
        # zlib raises its own error, an encrypted member RuntimeError, an unknown method NotImplementedError.
        except Exception as error:
            raise DataRefused(_unreadable(member, self.name, error)) from error
        if len(content) != entry.file_size:
            raise DataRefused(f"{member}: {len(content):,} bytes, where {self.name} declares {entry.file_size:,}.")
        return content


@cache
def _opened(process: int, place: str, version: Version | None, key: str) -> Archive:  # noqa: ARG001 - a fork opens anew
    return Archive(place, version, key).__enter__()


def is_remote(place: str) -> bool:
    """Whether a place is on S3."""
    return place.startswith(s3.SCHEME)


def _version(place: str) -> Version | None:
    """The version of the file that is there; None if a directory is."""
    if not is_remote(place):
        path = Path(place)
        if not path.exists():
            raise UsageError(
                f"{place}: no such archive. `mura phantom --out {place}` draws one to try things with; "
                "README.md says how to use the real MURA."
            )
        return _stamp(path.stat()) if path.is_file() else None
    at = s3.place(place)
    if at.key and not at.key.endswith("/") and (found := s3.Object.find(at)):
        return found.version, found.size
    if s3.Tree(at).exists():
        return None
    raise UsageError(f"{place}: no such archive: neither an object nor a directory on S3 at {s3.endpoint()}.")


def _stamp(status: os.stat_result) -> Version:
    return f"{status.st_ino}-{status.st_mtime_ns}", status.st_size


def _too_large(member: str) -> str:
    return f"{member}: more than {MAX_BYTES:,} bytes, which are not read."


def _unreadable(member: str, archive: str, error: Exception) -> str:
    # The name and not the place: the same archive elsewhere has the same manifest.
    return f"{member}: cannot be read from {archive} ({str(error) or type(error).__name__})."
