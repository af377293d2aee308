"""The pixels of a split, in memory (an array) or on disk.

Both are indexed by the numbers of some images, `pixels[chosen]`, and give the same bytes.
"""

import math
import os
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import google_crc32c
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.artifacts.shards import Shards
from components.base.errors import DataRefused

Chosen = NDArray[np.int64]
Squares = NDArray[np.uint8]

# Files that are kept open; the limit of a process is 1,024 on most machines. Others are opened for each record.
HANDLES = 256
# TensorFlow takes memory without copying it only if it begins at a multiple of so many bytes.
ALIGNMENT = 64


class Pixels(Protocol):
    """uint8 [N, S, S, 1], in memory or on disk. An array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, S, S, 1."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, chosen: Any, /) -> Any:
        """uint8 [B, S, S, 1] for int64 [B]."""


class Record(NamedTuple):
    """Where the pixels of an image are."""

    file: int
    """Number of the file."""
    offset: int
    """Where the pixels begin in it, bytes."""
    crc32c: int
    """CRC-32C of the pixels."""
    image: str


class OnDisk:
    """Pixels that stay in their files. A record is compared with its checksum each time it is read.

    Files are read with `pread`, not mapped into memory: a record is one request to the disk instead of a page fault for
    every page, and a failing disk raises an error instead of killing the process with a signal.
    """

    def __init__(self, files: Sequence[Path], records: Sequence[Record], size: int) -> None:
        """Open the files.

        Args:
            files: the files that hold the records.
            records: one per image.
            size: side of the square images, pixels.

        Raises:
            DataRefused: a file is missing.
        """
        self._files = files
        self._records = records
        self._size = size
        self.refused: DataRefused | None = None
        """The refusal of a damaged record. TensorFlow does not pass our exception on, so it is kept here."""
        try:
            self._handles = [os.open(path, os.O_RDONLY) for path in files[:HANDLES]]
        except OSError as error:
            raise DataRefused(f"{error.filename}: {error.strerror}. Run `mura shard` again.") from error
        weakref.finalize(self, _close, self._handles)

    @classmethod
    def of(cls, shards: Shards, rows: pd.DataFrame) -> Self:
        """The pixels of some rows of the shards' table of records, in the order of the rows."""
        names = list(dict.fromkeys(rows["file"]))
        number = {name: i for i, name in enumerate(names)}
        chosen = rows[["file", "offset", "crc32c", "image"]].itertuples(index=False, name=None)
        records = [Record(number[file], offset, crc32c, image) for file, offset, crc32c, image in chosen]
        return cls([shards.path / name for name in names], records, shards.facts.image_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """N, S, S, 1."""
        return len(self), self._size, self._size, 1

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, chosen: Chosen) -> Squares:
        """Read some images.

        Raises:
            DataRefused: a record differs from the table of records.
        """
        squares = _aligned((len(chosen), *self.shape[1:]))
        for square, number in zip(squares, chosen.tolist(), strict=True):
            record = self._records[number]
            if self._read(record, square) != square.nbytes or google_crc32c.value(square) != record.crc32c:
                self.refused = DataRefused(
                    f"{self._files[record.file]}: {record.image}: its pixels changed since they were packed "
                    "(CRC-32C differs). Run `mura shard` again."
                )
                raise self.refused
        return squares

    def _read(self, record: Record, into: Squares) -> int:
        """Read a record; return the number of bytes, which is too small if the file ends early."""
        if record.offset < 0:
            return 0
        if record.file < len(self._handles):
            return os.preadv(self._handles[record.file], [into.data], record.offset)
        handle = os.open(self._files[record.file], os.O_RDONLY)
        try:
            return os.preadv(handle, [into.data], record.offset)
        finally:
            os.close(handle)


def _aligned(shape: tuple[int, ...]) -> Squares:
    """An array whose memory TensorFlow takes without copying."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].reshape(shape)


def _close(handles: Iterable[int]) -> None:
    for handle in handles:
        os.close(handle)
