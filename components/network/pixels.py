"""Where the pixels of a split are while it is read: in memory, on disk, or on the accelerator.

All three are indexed with the places of some images, `pixels[chosen]`, and give the same bytes.
"""

import math
import os
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from components.artifacts.shards import Shards
from components.base.errors import DataRefused

if TYPE_CHECKING:
    import pandas

Chosen = NDArray[np.int64]
Squares = NDArray[np.uint8]

# Files that are kept open; a process may have 1,024 on most machines. The others are opened for each record.
HANDLES = 256
# What TensorFlow computes on begins at a multiple of so many bytes.
ALIGNMENT = 64


class Pixels(Protocol):
    """uint8 [N, S, S, 1], somewhere. An array in memory is one."""

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
    """Which of the files."""
    offset: int
    """Where in it they begin."""
    crc32c: int
    """Their CRC-32C."""
    image: str


class OnDisk:
    """Pixels that stay in their files; whenever a record is read, it is compared with its checksum.

    Read with `pread` rather than mapped into memory: a record is one request to the disk instead of a fault for every
    page, and a disk that fails is an error that can be told instead of a signal that kills.
    """

    def __init__(self, files: Sequence[Path], records: Sequence[Record], size: int) -> None:
        """Open the files.

        Args:
            files: in which the records are.
            records: one per image.
            size: side of the square images, pixels.

        Raises:
            DataRefused: a file is not there.
        """
        self._files = files
        self._records = records
        self._size = size
        self.refused: DataRefused | None = None
        """What was wrong with a record, when one was: TensorFlow passes on no exception of ours."""
        try:
            self._handles = [os.open(path, os.O_RDONLY) for path in files[:HANDLES]]
        except OSError as error:
            raise DataRefused(f"{error.filename}: {error.strerror}. Run `mura shard` again.") from error
        weakref.finalize(self, _close, self._handles)

    @classmethod
    def of(cls, shards: Shards, rows: "pandas.DataFrame") -> Self:
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
            DataRefused: a record is not the one in the index.
        """
        squares = _aligned((len(chosen), *self.shape[1:]))
        for square, place in zip(squares, chosen.tolist(), strict=True):
            record = self._records[place]
            if self._read(record, square) != square.nbytes or google_crc32c.value(square) != record.crc32c:
                self.refused = DataRefused(
                    f"{self._files[record.file]}: {record.image}: its pixels changed since they were packed "
                    "(CRC-32C differs). Run `mura shard` again."
                )
                raise self.refused
        return squares

    def _read(self, record: Record, into: Squares) -> int:
        """Bytes read: fewer than asked for if the file ends."""
        if record.file < len(self._handles):
            return os.preadv(self._handles[record.file], [into.data], record.offset)
        handle = os.open(self._files[record.file], os.O_RDONLY)
        try:
            return os.preadv(handle, [into.data], record.offset)
        finally:
            os.close(handle)


class OnDevice:
    """Pixels that lie on the accelerator: its steps take theirs from there, and only their places travel."""

    def __init__(self, pixels: Squares) -> None:
        """Copy pixels there; to the CPU's memory where there is no accelerator."""
        import tensorflow as tf

        with tf.device("GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"):
            self.tensor = tf.identity(tf.constant(pixels))

    @property
    def shape(self) -> tuple[int, ...]:
        """N, S, S, 1."""
        return tuple(self.tensor.shape)

    def __len__(self) -> int:
        return int(self.tensor.shape[0])

    def __getitem__(self, chosen: Chosen) -> Squares:
        """Fetch some images back."""
        squares: Squares = self.gather(chosen).numpy()
        return squares

    def gather(self, chosen: Any) -> Any:
        """The same as a tensor that stays there."""
        import tensorflow as tf

        return tf.gather(self.tensor, chosen)


def _aligned(shape: tuple[int, ...]) -> Squares:
    """An array whose memory TensorFlow can take as it is."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].reshape(shape)


def _close(handles: Iterable[int]) -> None:
    for handle in handles:
        os.close(handle)
