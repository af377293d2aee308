"""The table of a manifest, written as its rows come: memory does not grow with their number."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# Rows of a row group: 100 MB in memory. The bytes of a table depend on it.
GROUP = 131_072
# Rows that are dictionaries at one time: 2.5 kB each.
BATCH = 4_096

# Of every table; those of KEPT come after them where an archive has them.
COLUMNS = {
    "image": "str",
    "study": "str",
    "patient": "str",
    "body_part": "str",
    "view": "Int64",
    "source_split": "str",
    "split": "str",
    "abnormal": "Int64",
    "overlay": "Int64",
    "overlay_source": "str",
    "overlay_reason": "str",
    "directory_label": "Int64",
    "listed": "bool",
    "found": "bool",
    "problem": "str",
    "bytes": "Int64",
    "sha256": "str",
    "width": "Int64",
    "height": "Int64",
    "mode": "str",
    "channel_difference": "Int64",
    "pixels_sha256": "str",
    "mean": "Float64",
    "std": "Float64",
    "low": "Int64",
    "median": "Int64",
    "high": "Int64",
    "black": "Float64",
    "white": "Float64",
    "frame": "Float64",
    "rim": "Float64",
    "centre": "Float64",
    "phash": "str",
    "spectrum": "object",
}


class TableWriter:
    """Writes rows in order. The same rows give the same bytes, however they are split over calls."""

    def __init__(self, path: Path, kept: tuple[str, ...] = ()) -> None:
        """Begin a file.

        Args:
            path: the file.
            kept: columns of KEPT that it has besides COLUMNS.
        """
        self._schema = schema(kept)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self.rows = 0
        """Written, or waiting for a whole group."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._waiting or not self.rows):
            self._write(pa.concat_tables([self._schema.empty_table(), *self._waiting]))
        self._writer.close()

    def add(self, rows: pa.Table) -> None:
        """Add rows, with the columns of the table."""
        while len(rows):
            room = GROUP - self.rows % GROUP
            self._waiting.append(rows[:room])
            self.rows += len(self._waiting[-1])
            rows = rows[room:]
            if self.rows % GROUP == 0:
                self._write(pa.concat_tables(self._waiting))
                self._waiting = []

    def add_described(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows as dictionaries. What a row lacks is missing."""
        iterator = iter(rows)
        while some := list(islice(iterator, BATCH)):
            self.add(pa.Table.from_pylist(some, self._schema))

    def _write(self, rows: pa.Table) -> None:
        # In one piece: the pages of a file depend on the pieces.
        self._writer.write_table(rows.combine_chunks(), row_group_size=GROUP)


def read_in_batches(path: Path, kept: tuple[str, ...] = ()) -> Iterator[pa.Table]:
    """The rows of a table, a few at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            yield pa.Table.from_batches([batch]).cast(schema(kept))


@cache
def schema(kept: tuple[str, ...] = ()) -> pa.Schema:
    """Types of the columns, and pandas' description of them."""
    columns = COLUMNS | dict.fromkeys(kept, "str")
    values = {"str": "", "Int64": 0, "Float64": 0.0, "bool": False, "object": b""}
    row = pd.DataFrame([{name: values[kind] for name, kind in columns.items()}]).astype(columns)
    return pa.Table.from_pandas(row, preserve_index=False).schema
