"""What is to be found where: the phantom knows, and a file beside the archive tells.

A row for each finding and each view that shows it. A finding that a view does not show has no row there.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Truth(NamedTuple):
    """One finding in one view; the columns of the file."""

    member: str  # of the archive
    kind: str
    metal: int  # 1 for hardware, else 0
    # The box around it in pixels of the stored PNG, half open: columns left to right - 1, rows top to bottom - 1.
    left: int
    top: int
    right: int
    bottom: int


def path_beside(archive: Path) -> Path:
    """Where the truth of an archive lies: phantom.truth.csv beside phantom.zip."""
    return archive.with_suffix(".truth.csv")


def to_csv(rows: Iterable[Truth]) -> str:
    """The file's text: a head, LF endings."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Truth._fields)
    writer.writerows(rows)
    return text.getvalue()


def read(file: Path) -> list[Truth]:
    """The rows of a file."""
    with file.open(encoding="utf-8", newline="") as opened:
        return [
            Truth(row["member"], row["kind"], *(int(row[name]) for name in Truth._fields[2:]))
            for row in csv.DictReader(opened)
        ]
