"""Rows of CSVs that somebody else wrote: one row, and all rows together, take bounded memory."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from components.base.errors import DataRefused

# Of one row. MURA's have at most 100, opinions on labels a sentence or two. csv's own limit, 131,072, is for one field:
# a row of commas would have millions.
MAX_ROW = 200_000
# Rows that a refusal names.
NAMED_ROWS = 5


def rows(
    content: bytes, place: str, most: int, strict: bool = False, delimiter: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """Number, from 1, and fields of every row; an empty line is a row without fields.

    Args:
        content: the file, in UTF-8. Lines may end as on Unix, Windows or old Macs.
        place: its name in the message.
        most: rows that it may have.
        strict: whether quotes must be as the format has them.
        delimiter: between fields.

    Raises:
        DataRefused: there are more rows.
        csv.Error, UnicodeDecodeError: it is no CSV.
    """
    length = 0
    # Not StringIO: it takes four bytes for each character.
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")

    def lines() -> Iterator[str]:
        nonlocal length
        while line := text.readline(MAX_ROW + 1):
            # A row may have many lines, within quotes.
            length += len(line)
            if length > MAX_ROW:
                raise csv.Error(f"a row of more than {MAX_ROW:,} characters")
            yield line

    for number, fields in enumerate(csv.reader(lines(), strict=strict, delimiter=delimiter), 1):
        if number > most:
            raise DataRefused(f"{place}: more than {most:,} rows. ingest.max_members of params.yaml allows more.")
        yield number, fields
        length = 0


class Problems:
    """Rows that are refused. The first are named; of the others only the number counts, and costs nothing."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._named: list[str] = []
        self._count = 0

    def add(self, say: Callable[..., str], *about: object) -> None:
        """Add a row. `say` tells what is wrong with it."""
        self._count += 1
        if self._count <= NAMED_ROWS:
            self._named.append(say(*about))

    def refuse(self) -> None:
        """Refuse the file if there are any.

        Raises:
            DataRefused: there are.
        """
        if not self._count:
            return
        more = f"; and {self._count - NAMED_ROWS:,} more" if self._count > NAMED_ROWS else ""
        many = f"{self._count:,} rows are" if self._count > 1 else "one row is"
        raise DataRefused(f"{self._path}: {many} refused: {'; '.join(self._named)}{more}. Correct them or remove them.")
