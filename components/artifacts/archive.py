"""The archive as it came: read-only, members by name, never unpacked."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from components.errors import DataRefused, UsageError


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
            except (zipfile.BadZipFile, OSError) as error:
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
        """Names of all files, `/`-separated, in ascending order."""
        if self._zip is not None:
            yield from sorted(name for name in self._zip.namelist() if not name.endswith("/"))
        else:
            found = (Path(top, name) for top, _, names in os.walk(self.path) for name in names)
            yield from sorted(path.relative_to(self.path).as_posix() for path in found)

    def bytes_of(self, member: str) -> bytes:
        """The content of one member.

        Raises:
            KeyError: there is no such member.
            DataRefused: the member cannot be read (its checksum is wrong, it is encrypted, it is cut off).
        """
        if self._zip is None:
            try:
                return (self.path / member).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                raise KeyError(member) from None
            except OSError as error:
                raise DataRefused(f"{member}: cannot be read from {self.path} ({error}).") from error
        entry = self._zip.getinfo(member)
        try:
            return self._zip.read(entry)
        # zlib raises its own error, an encrypted member RuntimeError, an unknown method NotImplementedError.
        except Exception as error:
            raise DataRefused(f"{member}: cannot be read from {self.path} ({error}).") from error
