"""The archive as it came: read-only, members by name, never unpacked."""

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from components.errors import DataRefused, UsageError

# A member is read whole. MURA's images have about 86 kB, its longest CSV 3 MB.
MAX_BYTES = 256_000_000


class Archive:
    """A zip as published, or a directory of the same layout.

    MURA-v1.1.zip
        MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png
        MURA-v1.1/train_image_paths.csv, train_labeled_studies.csv, valid_...

    An open archive belongs to one process: each worker opens its own.
    """

    def __init__(self, path: Path) -> None:
        """Use `read`."""
        self.path = path
        self._zip: zipfile.ZipFile | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Refer to an archive and see that it can be opened.

        Raises:
            UsageError: nothing is there.
            DataRefused: the file is not a zip, or is cut short.
        """
        if not path.exists():
            raise UsageError(
                f"{path}: no such archive. `mura phantom --out {path}` draws one to try things with; "
                "README.md says how to use the real MURA."
            )
        with cls(path):
            return cls(path)

    def __enter__(self) -> Self:
        if self.path.is_file():
            try:
                self._zip = zipfile.ZipFile(self.path)
            # A damaged table of contents also shows as numbers and names that make no sense.
            except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
                raise DataRefused(
                    f"{self.path}: not a readable zip ({error}). Is the download complete? "
                    "MURA-v1.1.zip has 3,380,245,855 bytes."
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._zip is not None:
            self._zip.close()
            self._zip = None

    def members(self) -> Iterator[str]:
        """Names of all files, `/`-separated, each once, in ascending order.

        In a directory links are followed; what is not a file (a broken link, a pipe) is no member.

        Raises:
            DataRefused: a directory holds a file whose name is not UTF-8, which no CSV and no table can tell of.
        """
        if self._zip is not None:
            yield from sorted({name for name in self._zip.namelist() if not name.endswith("/")})
            return
        names = sorted(path.relative_to(self.path).as_posix() for path in _files(self.path))
        for name in names:
            if name != name.encode(errors="replace").decode():
                raise DataRefused(f"{self.path}: the file name {name!r} is not UTF-8. Rename the file, or remove it.")
        yield from names

    def bytes_of(self, member: str) -> bytes:
        """The content of one member.

        Raises:
            KeyError: there is no such member.
            DataRefused: the member cannot be read (its checksum is wrong, it is encrypted, it is cut off).
        """
        if self._zip is None:
            try:
                if (size := (self.path / member).stat().st_size) > MAX_BYTES:
                    raise DataRefused(_too_large(member, size))
                return (self.path / member).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                raise KeyError(member) from None
            except OSError as error:
                raise DataRefused(_unreadable(member, self.path, error)) from error
        entry = self._zip.getinfo(member)
        # zipfile reads no more than the directory of the zip declares.
        if entry.file_size > MAX_BYTES:
            raise DataRefused(_too_large(member, entry.file_size))
        try:
            return self._zip.read(entry)
        # zlib raises its own error, an encrypted member RuntimeError, an unknown method NotImplementedError.
        except Exception as error:
            raise DataRefused(_unreadable(member, self.path, error)) from error


def _files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files below a directory, through links, but not round in circles."""
    here = folder.resolve()
    if here in above:
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path, above | {here})
        elif path.is_file():
            yield path


def _too_large(member: str, size: int) -> str:
    return f"{member}: {size:,} bytes, more than {MAX_BYTES:,} are not read."


def _unreadable(member: str, path: Path, error: Exception) -> str:
    return f"{member}: cannot be read from {path} ({str(error) or type(error).__name__})."
