"""A manifest's table that may be too large for the memory: read in pieces, with its names on disk."""

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# Rows of a piece.
ROWS = 2**15
# Without a buffer, Arrow reads a column of a whole row group at once, and keeps the memory of several.
_BUFFER = 2**20


def pieces(path: Path, columns: Sequence[str], rows: int = ROWS) -> Iterator[pd.DataFrame]:
    """Some columns of all rows. The index goes on from piece to piece. An empty table is one empty piece."""
    with pq.ParquetFile(path, buffer_size=_BUFFER) as file:
        start = 0
        for batch in file.iter_batches(rows, columns=list(columns)):
            piece = batch.to_pandas()
            piece.index = pd.RangeIndex(start, start + len(piece))
            start += len(piece)
            yield piece
        if not start:
            yield file.schema_arrow.empty_table().select(list(columns)).to_pandas()


@contextmanager
def words_on_disk(folder: Path) -> Iterator["WordsOnDisk"]:
    """Begin a column of words. Its files have no names, and go with the column.

    Args:
        folder: on a disk with room for the words.
    """
    with tempfile.TemporaryFile(dir=folder) as texts, tempfile.TemporaryFile(dir=folder) as ends:
        yield WordsOnDisk(texts, ends)


class WordsOnDisk:
    """A column of words, of which only what is looked at comes into the memory.

    The words lie in two files, as Arrow has them in memory.
    """

    def __init__(self, texts: IO[bytes], ends: IO[bytes]) -> None:
        """Use `words_on_disk`."""
        self._texts, self._ends = texts, ends
        self._ends.write(bytes(8))
        self._size = 0
        self._known: list[np.ndarray[tuple[int], np.dtype[np.bool_]]] = []

    def add(self, words: pd.Series) -> None:
        """Add words. Some may be missing."""
        found = pa.array(words, pa.large_string())
        array = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
        _, ends, texts = array.buffers()
        places = np.frombuffer(ends, np.int64, len(array) + 1, array.offset * 8)
        self._texts.write(memoryview(texts or b"")[places[0] : places[-1]])
        self._ends.write((places[1:] - places[0] + self._size).tobytes())
        self._size += int(places[-1] - places[0])
        self._known.append(array.is_valid().to_numpy(zero_copy_only=False))

    def column(self) -> pd.Series:
        """All words that were added. Nothing can be added any more."""
        known = np.concatenate([np.empty(0, bool), *self._known])
        valid = pa.py_buffer(np.packbits(known, bitorder="little").tobytes())
        buffers = [valid, _mapped(self._ends), _mapped(self._texts)]
        array = pa.Array.from_buffers(pa.large_string(), len(known), buffers)
        return pd.Series(array, dtype="str")


def _mapped(file: IO[bytes]) -> pa.Buffer:
    file.flush()
    # An empty file cannot be mapped.
    return pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b"")
