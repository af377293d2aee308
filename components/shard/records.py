"""Write one shard file. Workers import this module only, so it must not need pandas."""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import google_crc32c
from pydantic import BaseModel, ValidationError

from components.archive.archive import Archive
from components.artifacts.artifact import File
from components.base.errors import DataRefused, again
from components.base.files import json_sha256, write_text
from components.shard import tfrecord
from components.xray import png, square

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """The image of a record, and what the record says of it."""

    image: str
    sha256: str
    study: str
    patient: str
    body_part: str
    abnormal: int


class Job(NamedTuple):
    """A file to write."""

    split: str
    path: Path
    rows: list[Row]
    image_size: int


class Packed(BaseModel):
    """A file that was written: its entry on the card, and the position and CRC-32C of the pixels of each record."""

    file: File
    offsets: list[int]
    crc32c: list[int]
    checksum: str = ""
    """sha256 of all above, in a receipt: positions that rotted must not be believed."""

    def computed_checksum(self) -> str:
        """What `checksum` is if nothing has changed."""
        return json_sha256(self.model_dump(exclude={"checksum"}))


def pack(archive: Archive, job: Job) -> Packed:
    """Write a file in a worker process, unless an earlier attempt has done so.

    Args:
        archive: reopened by this process.
        job: the file and its rows.

    Raises:
        DataRefused: an image is missing, or is not the one that was validated.
    """
    receipt = job.path.with_suffix(".json")
    if (done := _packed_before(job.path, receipt)) is not None:
        return done
    # Named by process: the worker of a killed parent may still write for a moment.
    partial = job.path.with_suffix(f".{os.getpid()}.partial")
    places: list[tuple[int, int]] = []
    written = tfrecord.write(partial, _records(archive.reopen(), job, places))
    partial.replace(job.path)
    packed = Packed(
        file=File(bytes=written.bytes, sha256=written.sha256),
        offsets=[start + place for start, (place, _) in zip(written.starts, places, strict=True)],
        crc32c=[crc32c for _, crc32c in places],
    )
    write_text(receipt, packed.model_copy(update={"checksum": packed.computed_checksum()}).model_dump_json())
    return packed


def _packed_before(path: Path, receipt: Path) -> Packed | None:
    """What an earlier attempt has written, if the file is complete.

    Its digest is compared: after a power failure a file may have the right size and wrong content. What is anything
    else than these two files is removed.
    """
    try:
        packed = Packed.model_validate_json(receipt.read_bytes())
        if packed.checksum == packed.computed_checksum() and not path.is_symlink() and File.of(path) == packed.file:
            return packed
        damaged = True
    except FileNotFoundError:
        damaged = False  # not written to its end
    except (OSError, ValidationError):
        damaged = True
    if damaged:
        says = "shard: %s of an earlier attempt, or %s, is damaged; it is written anew"
        logger.warning(says, path.name, receipt.name)
    for each in (path, receipt):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink(missing_ok=True)
    return None


def _records(archive: Archive, job: Job, places: list[tuple[int, int]]) -> Iterator[bytes]:
    """The records of a file. Position and CRC-32C of the pixels of each one are added to `places`."""
    archive.expect(row.image for row in job.rows)
    for row in job.rows:
        try:
            content = archive.bytes_of(row.image)
        except KeyError:
            raise DataRefused(
                f"{archive.place}: not the archive that the manifest describes: it lacks {row.image}. Name the other "
                "one with --archive, or run `mura ingest` and `mura validate` on this one."
            ) from None
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise DataRefused(f"{row.image}: not the file that was validated. Run `mura ingest` on this archive again.")
        # Known: ingest has decoded bytes of this sha256, and validation has passed them.
        try:
            grey = again(row.image, partial(png.decode, content, known=True)).grey
        except png.BadImage as error:
            raise DataRefused(f"{row.image}: {error}. Run `mura ingest` on this archive again.") from error
        pixels = square.fit(grey, job.image_size).tobytes()
        record = tfrecord.example(
            {
                "pixels": pixels,
                "image": row.image.encode(),
                "study": row.study.encode(),
                "patient": row.patient.encode(),
                "body_part": row.body_part.encode(),
                "abnormal": row.abnormal,
            }
        )
        places.append((tfrecord.place(record, "pixels"), google_crc32c.value(pixels)))
        yield record
