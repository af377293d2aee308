"""`mura shards verify`: find everything that is wrong with shards, down to single records."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import pandas as pd

from components.artifacts.artifact import OtherFormat
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.base.errors import DataRefused
from components.base.progress import Bar
from components.shard import tfrecord

WORDS = ("image", "study", "patient", "body_part")


class _Row(NamedTuple):
    """The row of a record in the table."""

    offset: int
    crc32c: int
    image: str
    study: str
    patient: str
    body_part: str
    abnormal: int


def faults(path: Path, manifest: ValidManifest | None = None) -> list[str]:
    """All faults of shards, each with its file and, if known, its image.

    Size and sha256 of every file and of the table of records are compared with the index. Every record is compared with
    its checksums and with its row of the table.

    Args:
        path: the shards.
        manifest: the data set that they should contain; not compared if None.

    Raises:
        UsageError: there are no shards at `path`.
        OtherFormat: another version of this program wrote them.
    """
    try:
        shards = Shards.peek(path)
        found = Shards.faults(path)
    except OtherFormat:
        raise
    except DataRefused as error:
        return [str(error)]
    try:
        table = shards.records()
    except DataRefused as error:
        return [*found, str(error)]
    with Bar(len(table), "shards: records") as bar:
        for split in shards.facts.splits:
            for file in shards.files(split):
                rows = _rows(table, file.name)
                found += [f"{file}: {fault}" for fault in _record_faults(file, rows, shards.facts.image_size)]
                bar.advance(len(rows))
    if manifest is not None and manifest.facts.data_digest != shards.facts.data_digest:
        found.append(
            f"{path}: packed from data set {shards.facts.data_digest[:12]}, but {manifest.path} is "
            f"{manifest.facts.data_digest[:12]}."
        )
    return found


def _rows(table: pd.DataFrame, file: str) -> list[_Row]:
    rows = table[table["file"] == file][list(_Row._fields)]
    return [_Row(*row) for row in rows.itertuples(index=False, name=None)]


def _record_faults(file: Path, rows: list[_Row], image_size: int) -> Iterator[str]:
    """Faults of the records of a file. Reading ends at the first damaged length or checksum."""
    if not file.is_file():
        return  # reported by Shards.faults
    number = -1
    try:
        for number, (start, record) in enumerate(tfrecord.read(file)):
            if number == len(rows):
                yield f"has more records than the {len(rows)} of the table."
                return
            try:
                differing = _differing(start, record, rows[number], image_size)
            except tfrecord.Damaged as error:
                yield f"{rows[number].image}: its record is {error}."
                continue
            if differing:
                yield f"{rows[number].image}: its record differs from the table in {', '.join(differing)}."
        if number + 1 < len(rows):
            yield f"ends before {rows[number + 1].image}."
    except tfrecord.Damaged as error:
        yield f"{rows[number + 1].image if number + 1 < len(rows) else 'after the last image'}: {error}."


def _differing(start: int, record: bytes, row: _Row, image_size: int) -> list[str]:
    """In what a record and its row differ."""
    features = tfrecord.features(record)
    try:
        place = tfrecord.place(record, "pixels")
    except KeyError:
        return ["the pixels"]
    pixels = features.get("pixels")
    if not isinstance(pixels, bytes) or len(pixels) != image_size**2:
        return ["the number of pixels"]
    same = {
        "pixels": google_crc32c.value(pixels) == row.crc32c,
        "offset": start + place == row.offset,
        "abnormal": features.get("abnormal") == row.abnormal,
        **{name: features.get(name) == str(getattr(row, name)).encode() for name in WORDS},
    }
    return [name for name, agrees in same.items() if not agrees]
