"""`mura shard`: decide which image goes into which file, and write the index."""

import hashlib
import logging
from functools import partial
from pathlib import Path

import pandas as pd

from components.archive.archive import Archive
from components.artifacts.manifest import SPLITS, TRAIN, ValidManifest
from components.artifacts.shards import RECORDS, PartFacts, Shards, ShardsFacts, SplitFacts, split_digest
from components.base import space, workers
from components.base.files import CHECKPOINT
from components.base.progress import Bar
from components.base.words import size
from components.params.shard import ShardParams
from components.shard.records import Job, Packed, Row, pack

logger = logging.getLogger(__name__)


def run(archive: Archive, manifest: ValidManifest, params: ShardParams, out: Path) -> Shards:
    """Do what `components.shard.shard` says."""
    table = manifest.table
    jobs = {split: _jobs(table[table["split"] == split], split, params, out / CHECKPOINT) for split in SPLITS}
    every = [job for split in SPLITS for job in jobs[split]]
    (out / CHECKPOINT).mkdir(exist_ok=True)
    left = sum(len(job.rows) for job in every if not job.path.exists())
    space.require(out.parent, left * params.image_size**2, f"shards of {left:,} images")
    packed = []
    with (
        workers.in_order(partial(pack, archive), every) as written,
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
    in_all = size(sum(file.bytes for file in files.values()))
    side = params.image_size
    logger.info("shard: %s images of %sx%s -> %s files, %s", f"{len(table):,}", side, side, len(every), in_all)
    return shards


def _jobs(rows: pd.DataFrame, split: str, params: ShardParams, folder: Path) -> list[Job]:
    """The files of a split and the rows of each."""
    rows = rows.sort_values("image")
    if split == TRAIN:
        # Neighbours in the archive are views of one study. A hash of the name is an order without such neighbours.
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


def _split_facts(rows: pd.DataFrame, jobs: list[Job]) -> SplitFacts:
    return SplitFacts(
        images=len(rows),
        studies=rows["study"].nunique(),
        patients=rows["patient"].nunique(),
        abnormal=int(rows["abnormal"].sum()),
        files=tuple(job.path.name for job in jobs),
        records=tuple(len(job.rows) for job in jobs),
        digest=split_digest(rows),
    )


def _index(jobs: list[Job], packed: list[Packed]) -> pd.DataFrame:
    """The table of records, as `Shards` describes it."""
    records = [
        (job.split, job.path.name, offset, crc32c, *row)
        for job, done in zip(jobs, packed, strict=True)
        for row, offset, crc32c in zip(job.rows, done.offsets, done.crc32c, strict=True)
    ]
    integers = dict.fromkeys(("offset", "crc32c", "abnormal"), "int64")
    words = dict.fromkeys(("split", "file", "image", "sha256", "study", "patient", "body_part"), "str")
    table = pd.DataFrame(records, columns=["split", "file", "offset", "crc32c", *Row._fields])
    return table.astype(integers | words)
