"""Pack the images of a data set for training."""

import hashlib
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from components.archive.archive import Archive
from components.artifacts.artifact import File
from components.artifacts.manifest import SPLITS, TRAIN, ValidManifest
from components.artifacts.shards import RECORDS, PartFacts, Shards, ShardsFacts, SplitFacts, split_digest
from components.base import workers
from components.base.errors import DataRefused
from components.base.files import CHECKPOINT, write_text
from components.base.progress import Bar
from components.params.shard import ShardParams

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """What a record says of its image."""

    image: str
    sha256: str
    study: str
    patient: str
    body_part: str
    abnormal: int


class Job(NamedTuple):
    """One file to write."""

    split: str
    path: Path
    rows: list[Row]
    image_size: int


class Packed(BaseModel):
    """A file that was written: its entry on the card, and where its pixels lie."""

    file: File
    offsets: list[int]
    crc32c: list[int]


def run(archive: Archive, manifest: ValidManifest, params: ShardParams, out: Path) -> Shards:
    """Do what `components.shard.shard` says."""
    table = manifest.table
    jobs = {split: _jobs(table[table["split"] == split], split, params, out / CHECKPOINT) for split in SPLITS}
    every = [job for split in SPLITS for job in jobs[split]]
    (out / CHECKPOINT).mkdir(exist_ok=True)
    packed = []
    with (
        workers.in_order(partial(_write, archive), every) as written,
        Bar(len(table), "shard: images") as bar,
    ):
        for job, done in zip(every, written, strict=True):
            packed.append(done)
            bar.advance(len(job.rows))
    _index(every, packed).to_parquet(out / RECORDS, index=False)
    for job in every:
        job.path.rename(out / job.path.name)
    train = table[table["split"] == TRAIN]
    facts = ShardsFacts(
        image_size=params.image_size,
        data_digest=manifest.facts.data_digest,
        archive_md5=manifest.facts.archive_md5,
        splits={split: _split_facts(table[table["split"] == split], jobs[split]) for split in SPLITS},
        train_images={
            str(part): PartFacts(normal=int((rows["abnormal"] == 0).sum()), abnormal=int((rows["abnormal"] == 1).sum()))
            for part, rows in train.groupby("body_part", sort=True)
        },
    )
    files = {job.path.name: done.file for job, done in zip(every, packed, strict=True)}
    shards = Shards.seal(out, facts, written=files)
    size = sum(file.bytes for file in files.values())
    side = params.image_size
    logger.info(
        "shard: %s images of %sx%s -> %s files, %s", f"{len(table):,}", side, side, len(every), f"{size / 1e9:.2f} GB"
    )
    return shards


def _jobs(rows: "pandas.DataFrame", split: str, params: ShardParams, folder: Path) -> list[Job]:
    """The files of a split and the rows of each."""
    rows = rows.sort_values("image")
    if split == TRAIN:
        # Neighbours in the archive are views of one study. Read in order, they should be strangers.
        order = rows["image"].map(lambda image: hashlib.sha256(image.encode()).hexdigest())
        rows = rows.loc[order.sort_values().index]
    every = [
        Row(str(image), str(sha256), str(study), str(patient), str(part), int(abnormal))
        for image, sha256, study, patient, part, abnormal in rows[list(Row._fields)].itertuples(index=False, name=None)
    ]
    starts = range(0, len(every), params.images_per_shard)
    return [
        Job(
            split,
            folder / f"{split}-{number:05d}-of-{len(starts):05d}.tfrecord",
            every[start : start + params.images_per_shard],
            params.image_size,
        )
        for number, start in enumerate(starts)
    ]


def _split_facts(rows: "pandas.DataFrame", jobs: list[Job]) -> SplitFacts:
    return SplitFacts(
        images=len(rows),
        studies=rows["study"].nunique(),
        patients=rows["patient"].nunique(),
        abnormal=int(rows["abnormal"].sum()),
        files=tuple(job.path.name for job in jobs),
        records=tuple(len(job.rows) for job in jobs),
        digest=split_digest(rows),
    )


def _index(jobs: list[Job], packed: list[Packed]) -> "pandas.DataFrame":
    """The table of records, as `Shards` describes it."""
    import pandas

    records = [
        (job.split, job.path.name, offset, crc32c, *row)
        for job, done in zip(jobs, packed, strict=True)
        for row, offset, crc32c in zip(job.rows, done.offsets, done.crc32c, strict=True)
    ]
    integers = dict.fromkeys(("offset", "crc32c", "abnormal"), "int64")
    words = dict.fromkeys(("split", "file", "image", "sha256", "study", "patient", "body_part"), "str")
    table = pandas.DataFrame(records, columns=["split", "file", "offset", "crc32c", *Row._fields])
    return table.astype(integers | words)


def _write(archive: Archive, job: Job) -> Packed:
    """Write a file, unless an attempt before this one did."""
    from components.shard import tfrecord

    receipt = job.path.with_suffix(".json")
    if (done := _written_before(job.path, receipt)) is not None:
        return done
    # By process: a worker that outlives its killed parent for a moment must not write into the next one's file.
    partial = job.path.with_suffix(f".{os.getpid()}.partial")
    places: list[tuple[int, int]] = []
    written = tfrecord.write(partial, _records(archive.reopen(), job, places))
    partial.replace(job.path)
    packed = Packed(
        file=File(bytes=written.bytes, sha256=written.sha256),
        offsets=[start + place for start, (place, _) in zip(written.starts, places, strict=True)],
        crc32c=[crc32c for _, crc32c in places],
    )
    write_text(receipt, packed.model_dump_json())
    return packed


def _written_before(path: Path, receipt: Path) -> Packed | None:
    """What is known of a file of the checkpoint; nothing unless it is whole.

    A process that is killed leaves what it wrote; a machine that loses power may leave a file of the right size
    without its content.
    """
    try:
        packed = Packed.model_validate_json(receipt.read_bytes())
        return packed if File.of(path) == packed.file else None
    except (FileNotFoundError, ValidationError):
        return None


def _records(archive: Archive, job: Job, places: list[tuple[int, int]]) -> Iterator[bytes]:
    """The records of a file; where each has its pixels, and their CRC-32C, are added to `places`."""
    import google_crc32c

    from components.shard import tfrecord
    from components.xray import images

    archive.expect(row.image for row in job.rows)
    for row in job.rows:
        try:
            png = archive.bytes_of(row.image)
        except KeyError:
            raise DataRefused(f"{row.image}: in the manifest, but no longer in {archive.place}.") from None
        if hashlib.sha256(png).hexdigest() != row.sha256:
            raise DataRefused(f"{row.image}: not the file that was validated. Run `mura ingest` on this archive again.")
        pixels = images.fit(images.decode(png).grey, job.image_size).tobytes()
        features: dict[str, Any] = {
            "pixels": pixels,
            "image": row.image.encode(),
            "study": row.study.encode(),
            "patient": row.patient.encode(),
            "body_part": row.body_part.encode(),
            "abnormal": row.abnormal,
        }
        record = tfrecord.example(features)
        places.append((tfrecord.place(record, "pixels"), google_crc32c.value(pixels)))
        yield record
