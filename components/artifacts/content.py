"""What a file says, whatever the bytes are that it is written with.

The bytes of a table depend on the version of the library that wrote it. Its digest must not: equal work has equal
digests. Files of other kinds, such as weights and TFRecords, are their bytes.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base import documents
from components.base.files import json_sha256

if TYPE_CHECKING:
    import pyarrow

# Rows of a table in memory at one time, and rows whose texts one reader keeps.
ROWS, GROUP = 8_192, 131_072
# Of a table. Each is read by itself, which takes longer the more there are; ours have 45 at most.
COLUMNS = 500
# Of a table, as of a zip: what it holds may be so many times its size, and so many bytes more.
EXPANSION = 100
SLACK = 64 << 20


class Unreadable(ValueError):
    """A file does not hold what its name promises."""


def content_sha256(path: Path) -> str | None:
    """sha256 (hex) of what a table or a JSON file says; None for a file of another kind.

    A Parquet table is its columns in order, each with its name, its kind (text, bytes, whole numbers, numbers, yes and
    no) and its values in the order of rows. Compression, row groups and the width of numbers do not count.

    Raises:
        Unreadable: the file is damaged, or holds something else than its name promises.
    """
    digest = _DIGESTS.get(path.suffix)
    if digest is None:
        return None
    try:
        return digest(path)
    except OSError as error:
        # pyarrow raises it for damaged files too, without a number.
        if error.errno:
            raise
        raise Unreadable(str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError, RecursionError, csv.Error) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _json(path: Path) -> str:
    return json_sha256(documents.json_of(documents.content(path)))


def _csv(path: Path) -> str:
    text = documents.content(path).decode("utf-8")
    # The sha256 of the JSON of all rows, without having all of them as lists: those take many times the file's size.
    digest, before = hashlib.sha256(b"["), ""
    for row in csv.reader(io.StringIO(text, newline="")):
        digest.update(f"{before}{json.dumps(row, separators=(',', ':'))}".encode())
        before = ","
    digest.update(b"]")
    return digest.hexdigest()


def _parquet(path: Path) -> str:
    # pyarrow takes a third of a second to import.
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    _check_names(schema.metadata or {})
    columns = [_Column(field) for field in schema]
    for number, values in pieces(path):
        columns[number].add(values)
    return json_sha256([column.says() for column in columns])


def pieces(path: Path) -> "Iterator[tuple[int, pyarrow.Array]]":
    """The values of a Parquet table, one column after the other, some at one time, each with the number of its column.

    Texts may come as dictionaries.

    Raises:
        Unreadable: it has too many columns, two of one name, or holds far more than its size: repeated values take
            nothing in the file, and each its room in memory.
        OSError, ValueError: it is damaged.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
    if len(schema) > COLUMNS:
        raise Unreadable(f"it has more than {COLUMNS} columns")
    left = EXPANSION * path.stat().st_size + SLACK
    runs = _runs(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    for number, field in enumerate(schema):
        # As dictionaries, so that repeated texts are counted before they are written out. A reader keeps every text
        # that it has seen, so it is not asked for all groups.
        texts = [field.name] if _is_text(field.type) else []
        for groups in runs:
            with pq.ParquetFile(path, metadata=metadata, read_dictionary=texts) as file:
                for batch in file.iter_batches(ROWS, row_groups=groups, columns=[field.name]):
                    if batch.schema.names != [field.name]:
                        raise Unreadable(f"two columns are called {field.name}")
                    left -= _room(batch.column(0))
                    if left < 0:
                        raise Unreadable(f"it holds more than {EXPANSION} times its size")
                    yield number, batch.column(0)


def _runs(groups: Iterable[int]) -> list[list[int]]:
    """The numbers of the row groups, in order, by reader: each takes groups until it has GROUP rows.

    Args:
        groups: the number of rows of each.
    """
    runs: list[list[int]] = []
    rows = GROUP
    for number, count in enumerate(groups):
        if rows >= GROUP:
            runs.append([])
            rows = 0
        runs[-1].append(number)
        rows += count
    return runs


def _is_text(found: "pyarrow.DataType") -> bool:
    import pyarrow.types as kinds

    return any(
        check(found) for check in (kinds.is_string, kinds.is_large_string, kinds.is_binary, kinds.is_large_binary)
    )


def _room(values: "pyarrow.Array") -> int:
    """Bytes that values take when each is written out."""
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if not kinds.is_dictionary(values.type) or not _is_text(values.type.value_type):
        return int(values.nbytes)
    return int(pc.sum(pc.binary_length(values.dictionary).take(values.indices)).as_py() or 0) + 8 * len(values)


def _check_names(metadata: Mapping[bytes, bytes]) -> None:
    """Refuse a table whose description for pandas gives columns other names than the table itself."""
    described = documents.json_of(metadata.get(b"pandas", b"{}"))
    renamed = [each for each in described.get("columns", ()) if each.get("field_name", each["name"]) != each["name"]]
    if renamed or any(not isinstance(each, dict) for each in described.get("index_columns", ())):
        raise Unreadable("its description for pandas renames columns")


class _Column:
    """A column of a table, read in pieces. The pieces do not show."""

    def __init__(self, field: "pyarrow.Field") -> None:
        import pyarrow as pa

        self._name = field.name
        self._kind, self._type = _kind(field.type)
        self._text = self._type in (pa.large_string(), pa.large_binary())
        self._count = self._valid = 0
        self._missing, self._lengths, self._values = (hashlib.sha256() for _ in range(3))

    def add(self, values: "pyarrow.Array") -> None:
        """Add the values of some rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._count += len(values)
        self._valid += len(values) - values.null_count
        self._missing.update(_bytes(values.is_null(), "u1"))
        if self._type == pa.null() or not len(values):
            return
        values = values.cast(self._type)
        if not self._text:
            self._values.update(_bytes(values.fill_null(0), "<f8" if self._kind == "numbers" else "<i8"))
            return
        values = values.fill_null(b"" if self._type == pa.large_binary() else "")
        self._lengths.update(_bytes(pc.binary_length(values), "<i8"))
        self._values.update(b"".join(values.cast(pa.large_binary()).to_pylist()))

    def says(self) -> list[Any]:
        """All that counts. A column without any value has no kind: libraries choose one."""
        kind = self._kind if self._valid else "missing"
        return [self._name, kind, self._count, *(d.hexdigest() for d in (self._missing, self._lengths, self._values))]


def _bytes(values: "pyarrow.Array", kind: str) -> bytes:
    return bytes(values.to_numpy(zero_copy_only=False).astype(kind).tobytes())


def _kind(found: "pyarrow.DataType") -> tuple[str, "pyarrow.DataType"]:
    """What the values of a column are, and the type they are compared as."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_dictionary(found):
        return _kind(found.value_type)
    for name, kind, holds in (
        ("text", pa.large_string(), (kinds.is_string, kinds.is_large_string, kinds.is_string_view)),
        ("bytes", pa.large_binary(), (kinds.is_binary, kinds.is_large_binary, kinds.is_binary_view)),
        ("whole numbers", pa.int64(), (kinds.is_integer,)),
        ("numbers", pa.float64(), (kinds.is_floating,)),
        ("yes and no", pa.int8(), (kinds.is_boolean,)),
        ("missing", pa.null(), (kinds.is_null,)),
    ):
        if any(check(found) for check in holds):
            return name, kind
    raise Unreadable(f"a column of {found}")


_DIGESTS: Mapping[str, Callable[[Path], str]] = {".csv": _csv, ".json": _json, ".parquet": _parquet}
