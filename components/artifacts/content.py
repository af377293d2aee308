"""What a file says, whatever the bytes are that it is written with.

The bytes of a table depend on the version of the library that wrote it. Its digest must not: equal work has equal
digests. Files of other kinds, such as weights and TFRecords, are their bytes.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base.files import json_sha256

if TYPE_CHECKING:
    import pyarrow

# Rows of a table in memory at one time.
ROWS = 8_192


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
    return json_sha256(json.loads(path.read_bytes()))


def _csv(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        return json_sha256(list(csv.reader(file)))


def _parquet(path: Path) -> str:
    # pyarrow takes a third of a second to import.
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _check_names(file.schema_arrow.metadata or {})
        columns = [_Column(field) for field in file.schema_arrow]
        for batch in file.iter_batches(ROWS):
            for column, values in zip(columns, batch.columns, strict=True):
                column.add(values)
        return json_sha256([column.says() for column in columns])


def _check_names(metadata: Mapping[bytes, bytes]) -> None:
    """Refuse a table whose description for pandas gives columns other names than the table itself."""
    described = json.loads(metadata.get(b"pandas", b"{}"))
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
