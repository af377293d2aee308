"""The table of a manifest is the same however its rows come."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from components.ingest.table import COLUMNS, GROUP, TableWriter, read_in_batches


def row(number: int) -> dict[str, object]:
    return {"image": f"{number:07d}.png", "listed": True, "found": number % 7 > 0, "view": number, "spectrum": b"12"}


def written(path: Path, *pieces: range) -> bytes:
    with TableWriter(path) as table:
        for piece in pieces:
            table.add_described(row(number) for number in piece)
    return path.read_bytes()


def test_the_same_rows_give_the_same_bytes_however_they_come(tmp_path: Path) -> None:
    count = GROUP + 1000
    whole = written(tmp_path / "whole", range(count))
    assert written(tmp_path / "pieces", range(1), range(1, GROUP - 5), range(GROUP - 5, count)) == whole
    with TableWriter(tmp_path / "copied") as table:
        for rows in read_in_batches(tmp_path / "whole"):
            table.add(rows)
    assert (tmp_path / "copied").read_bytes() == whole
    file = pq.ParquetFile(tmp_path / "whole").metadata
    assert [file.row_group(number).num_rows for number in range(file.num_row_groups)] == [GROUP, 1000]


def test_a_table_has_the_types_that_a_manifest_promises(tmp_path: Path) -> None:
    for count in (0, 1):
        written(tmp_path / "table", range(count))
        table = pd.read_parquet(tmp_path / "table")
        assert {name: str(dtype) for name, dtype in table.dtypes.items()} == COLUMNS
        assert len(table) == count
