import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts.content import GROUP, Unreadable, content_sha256

ROWS = 20_000


def table() -> pd.DataFrame:
    """Of each kind of column that artifacts have, longer than what is read at one time."""
    number = np.arange(ROWS)
    frame = pd.DataFrame({"image": [f"bild ä {each}" for each in number], "offset": number, "spectrum": b"\0\xff"})
    frame["logit"] = (number / 7).astype(np.float32)
    frame["found"] = number % 2 == 0
    frame["abnormal"] = pd.array([None if each % 3 == 0 else each % 2 for each in number], "Int64")
    frame["problem"] = pd.array(["broken" if each % 5 == 0 else None for each in number], "str")
    return frame.astype({"image": "str"})


@pytest.fixture
def digest(tmp_path: Path) -> Callable[..., Any]:
    """Digest of a table that is written so."""

    def written(frame: pd.DataFrame, **how: Any) -> Any:
        frame.to_parquet(tmp_path / "t.parquet", index=False, **how)
        return content_sha256(tmp_path / "t.parquet")

    return written


WRITTEN: dict[str, dict[str, Any]] = {
    "compression": {"compression": "gzip"},
    "row groups": {"row_group_size": 777},
    "no dictionaries": {"use_dictionary": False},
    "an old version of the format": {"version": "1.0"},
}


@pytest.mark.parametrize("how", WRITTEN.values(), ids=WRITTEN)
def test_a_table_that_is_written_in_another_way_says_the_same(how: dict[str, Any], digest: Callable[..., Any]) -> None:
    assert digest(table(), **how) == digest(table())


def test_the_width_of_numbers_and_the_encoding_of_text_do_not_count(tmp_path: Path) -> None:
    digests = set()
    texts = (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()))
    for text, number in zip(texts, (pa.int16(), pa.int32(), pa.int64()), strict=True):
        columns = {"a": pa.array(["x", None, "yz"]).cast(text), "b": pa.array([1, None, -3]).cast(number)}
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        digests.add(content_sha256(tmp_path / "t.parquet"))
    assert len(digests) == 1


CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "a number": lambda t: t.assign(offset=t["offset"].where(t.index != ROWS - 1, -1)),
    "the last bit of a float": lambda t: t.assign(logit=np.nextafter(t["logit"].to_numpy(), np.float32(9e9))),
    "a text": lambda t: t.assign(image=t["image"].where(t.index != 3, "bild")),
    "bytes": lambda t: t.assign(spectrum=b"\0\xfe"),
    "a yes": lambda t: t.assign(found=~t["found"]),
    "a missing value": lambda t: t.assign(abnormal=t["abnormal"].fillna(0)),
    "a missing text": lambda t: t.assign(problem=t["problem"].fillna("")),
    "the order of rows": lambda t: t.assign(offset=t["offset"].to_numpy()[::-1]),
    "the name of a column": lambda t: t.rename(columns={"found": "listed"}),
    "a column": lambda t: t.drop(columns="logit"),
    "the kind of a column": lambda t: t.assign(offset=t["offset"].astype(float)),
    "a row": lambda t: t.drop(index=0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_table_with_another_value_says_something_else(
    change: Callable[[pd.DataFrame], pd.DataFrame], digest: Callable[..., Any]
) -> None:
    assert digest(change(table())) != digest(table())


def test_where_one_text_ends_and_the_next_begins_counts(digest: Callable[..., Any]) -> None:
    assert digest(pd.DataFrame({"a": ["ab", "c"]})) != digest(pd.DataFrame({"a": ["a", "bc"]}))


def test_columns_that_pandas_would_read_under_other_names_are_refused(tmp_path: Path) -> None:
    written = pa.Table.from_pandas(pd.DataFrame({"logit": [1.0], "probability": [0.2]}), preserve_index=False)
    described = json.loads(written.schema.metadata[b"pandas"])
    one, other = described["columns"]
    one["name"], other["name"] = other["name"], one["name"]
    pq.write_table(written.replace_schema_metadata({b"pandas": json.dumps(described)}), tmp_path / "t.parquet")
    with pytest.raises(Unreadable, match="renames columns"):
        content_sha256(tmp_path / "t.parquet")


def test_the_spelling_of_json_and_csv_does_not_count(tmp_path: Path) -> None:
    for name, spellings in (
        ("a.json", ('{"a": 0.50, "b": [1, null]}', '{"b":[1,null],\n"a":5e-1}')),
        ("a.csv", ("a,b\n1,x\n", '"a","b"\r\n1,"x"\r\n')),
    ):
        digests = set()
        for text in spellings:
            (tmp_path / name).write_text(text, newline="")
            digests.add(content_sha256(tmp_path / name))
        assert len(digests) == 1


def test_other_files_are_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "model.weights.h5").write_bytes(b"x")
    assert content_sha256(tmp_path / "model.weights.h5") is None


def cut(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])


DAMAGED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty": ("t.parquet", lambda path: path.write_bytes(b"")),
    "no Parquet": ("t.parquet", lambda path: path.write_bytes(b"PAR1" * 50)),
    "cut": ("t.parquet", lambda path: cut(table(), path)),
    "a list in a column": ("t.parquet", lambda path: pq.write_table(pa.table({"a": [[1]]}), path)),
    "two columns of one name": ("t.parquet", lambda path: pq.write_table(pa.table([[1], [2]], names=["a", "a"]), path)),
    "more columns than any table of ours": (
        "t.parquet",
        lambda path: pq.write_table(pa.table({f"c{number}": [1] for number in range(501)}), path),
    ),
    "no JSON": ("t.json", lambda path: path.write_text("{")),
    "deep JSON": ("t.json", lambda path: path.write_text("[" * 200_000)),
    "JSON that is no text": ("t.json", lambda path: path.write_bytes(b'"\xff"')),
    "CSV that is no text": ("t.csv", lambda path: path.write_bytes(b"\xff")),
    "a long field": ("t.csv", lambda path: path.write_text("x" * 200_000)),
}


@pytest.mark.parametrize(("name", "make"), DAMAGED.values(), ids=DAMAGED)
def test_what_its_name_does_not_promise_is_refused(tmp_path: Path, name: str, make: Callable[[Path], object]) -> None:
    make(tmp_path / name)
    with pytest.raises(Unreadable):
        content_sha256(tmp_path / name)


@pytest.mark.parametrize(("rows", "text"), [(10_000_000, "x" * 20), (4_000, "x" * 1_000_000)])
def test_a_table_that_repeats_a_value_without_end_is_refused(tmp_path: Path, rows: int, text: str) -> None:
    # Repeated values take nothing in the file.
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), [text])
    pq.write_table(pa.table({"study": same}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 1_000_000
    with pytest.raises(Unreadable, match="more than 100 times its size"):
        content_sha256(tmp_path / "t.parquet")


PEAK = """
import sys, pathlib, pyarrow.parquet
from components.artifacts.content import content_sha256

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

before = peak()
content_sha256(pathlib.Path(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.long
def test_the_texts_of_a_table_are_not_all_in_memory(tmp_path: Path) -> None:
    path, groups, columns, length = tmp_path / "t.parquet", 4, 8, 100
    made = pa.schema([(f"text{number}", pa.string()) for number in range(columns)])
    with pq.ParquetWriter(path, made, compression="zstd") as file:
        for group in range(groups):
            texts = [f"{group * GROUP + row:0{length}}" for row in range(GROUP)]
            file.write_table(pa.table([texts] * columns, schema=made), row_group_size=GROUP)
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], check=True, stdout=subprocess.PIPE, text=True)
    assert int(done.stdout) < groups * GROUP * columns * length
