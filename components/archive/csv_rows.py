"""Rows of CSVs that somebody else wrote: one row, and all rows together, take bounded memory."""

import csv
import io
from collections.abc import Iterator

from components.base.errors import DataRefused

# Of one row. MURA's have at most 100, opinions on labels a sentence or two. csv's own limit, 131,072, is for one field:
# a row of commas would have millions.
MAX_ROW = 200_000


def rows(content: bytes, place: str, most: int, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Number, from 1, and fields of every row; an empty line is a row without fields.

    Args:
        content: the file, in UTF-8. Lines may end as on Unix, Windows or old Macs.
        place: its name in the message.
        most: rows that it may have.
        strict: whether quotes must be as the format has them.

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

    for number, fields in enumerate(csv.reader(lines(), strict=strict), 1):
        if number > most:
            raise DataRefused(f"{place}: more than {most:,} rows. ingest.max_members of params.yaml allows more.")
        yield number, fields
        length = 0
