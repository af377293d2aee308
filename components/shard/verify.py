"""Everything that can be wrong with shards, down to the record."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import google_crc32c

from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.base.errors import DataRefused
from components.base.progress import Bar
from components.shard import tfrecord

if TYPE_CHECKING:
    import pandas

WORDS = ("image", "study", "patient", "body_part")


class _Row(NamedTuple):
    """What the table says of a record."""

    offset: int
    crc32c: int
    image: str
    study: str
    patient: str
    body_part: str
    abnormal: int


def faults(path: Path, manifest: ValidManifest | None = None) -> list[str]:
    """All that is wrong with shards, each thing with the file and, where it is known, the image.

    Every file is compared with the index by size and sha256, the table of records with the index, and every record
    with its own checksums and with its row of the table.

    Args:
        path: the shards.
        manifest: the data set they should be of, if that is to be compared too.

    Raises:
        UsageError: there are no shards at `path`.
    """
    try:
        shards = Shards.peek(path)
        found = Shards.faults(path)
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
            f"{path}: packed from data set {shards.facts.data_digest[:12]}, {manifest.path} is "
            f"{manifest.facts.data_digest[:12]}."
        )
    return found


def _rows(table: "pandas.DataFrame", file: str) -> list[_Row]:
    rows = table[table["file"] == file][list(_Row._fields)]
    return [_Row(*row) for row in rows.itertuples(index=False, name=None)]


def _record_faults(file: Path, rows: list[_Row], image_size: int) -> Iterator[str]:
    """What is wrong with the records of a file; none is read beyond one whose length or checksum is damaged."""
    if not file.is_file():
        return  # has been told
    number = -1
    try:
        for number, (start, record) in enumerate(tfrecord.read(file)):
            if number == len(rows):
                yield f"has more records than the {len(rows)} of the table."
                return
            if differing := _differing(start, record, rows[number], image_size):
                yield f"{rows[number].image}: its record differs from the table in {', '.join(differing)}."
        if number + 1 < len(rows):
            yield f"ends before {rows[number + 1].image}."
    except tfrecord.Damaged as error:
        yield f"{rows[number + 1].image if number + 1 < len(rows) else 'after the last image'}: {error}."


def _differing(start: int, record: bytes, row: _Row, image_size: int) -> list[str]:
    """What a record and its row do not agree on."""
    features = tfrecord.features(record)
    pixels = features.get("pixels")
    if not isinstance(pixels, bytes) or len(pixels) != image_size**2:
        return ["the number of pixels"]
    same = {
        "pixels": google_crc32c.value(pixels) == row.crc32c,
        "offset": start + tfrecord.place(record, "pixels") == row.offset,
        "abnormal": features.get("abnormal") == row.abnormal,
        **{name: features.get(name) == getattr(row, name).encode() for name in WORDS},
    }
    return [name for name, agrees in same.items() if not agrees]
