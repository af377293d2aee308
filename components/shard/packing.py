"""`mura shard`: decide which image goes into which file, and write the index."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from components.archive.archive import Archive
from components.artifacts.artifact import File
from components.artifacts.manifest import SPLITS, TABLE, TRAIN, ValidManifest
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
    plan = Plan.of(manifest, params, out / CHECKPOINT)
    packed = write_files(archive, plan.jobs, params, out)
    shards = Shards.seal(out, plan.facts, written=packed)
    log(shards.facts, packed.values())
    return shards


class Plan(NamedTuple):
    """Which image goes into which file, and what that makes. It follows from the manifest and the parameters."""

    jobs: list[Job]
    """All files, in reading order."""
    facts: ShardsFacts

    @classmethod
    def of(cls, manifest: ValidManifest, params: ShardParams, folder: Path) -> "Plan":
        """Plan the shards of a manifest.

        Args:
            manifest: validated rows.
            params: image size and images per file.
            folder: where the files are written.
        """
        table = pd.read_parquet(manifest.path / TABLE, columns=["split", *Row._fields])
        rows = {split: table[table["split"] == split] for split in SPLITS}
        jobs = {split: _jobs(rows[split], split, params, folder) for split in SPLITS}
        facts = ShardsFacts(
            image_size=params.image_size,
            data_digest=manifest.facts.data_digest,
            archive_md5=manifest.facts.archive_md5,
            splits={split: _split_facts(rows[split], jobs[split]) for split in SPLITS},
            train_images={
                str(part): PartFacts(
                    normal=int((of_part["abnormal"] == 0).sum()), abnormal=int((of_part["abnormal"] == 1).sum())
                )
                for part, of_part in rows[TRAIN].groupby("body_part", sort=True)
            },
        )
        return cls([job for split in SPLITS for job in jobs[split]], facts)


def write_files(archive: Archive, jobs: Sequence[Job], params: ShardParams, out: Path) -> dict[str, File]:
    """Write files and the table of their records.

    Args:
        archive: with the images.
        jobs: the files, in reading order. They are written to the checkpoint first.
        params: image size.
        out: the directory of the files.

    Returns:
        Size and sha256 of each file by name.
    """
    (out / CHECKPOINT).mkdir(exist_ok=True)
    left = sum(len(job.rows) for job in jobs if not job.path.exists())
    space.require(out.parent, left * params.image_size**2, f"shards of {left:,} images")
    packed = []
    with (
        workers.in_order(partial(pack, archive), jobs) as written,
        Bar(sum(len(job.rows) for job in jobs), "shard: images") as bar,
    ):
        for job, done in zip(jobs, written, strict=True):
            packed.append(done)
            bar.advance(len(job.rows))
    _index(jobs, packed).to_parquet(out / RECORDS, index=False)
    for job in jobs:
        job.path.rename(out / job.path.name)
    return {job.path.name: done.file for job, done in zip(jobs, packed, strict=True)}


def log(facts: ShardsFacts, files: Iterable[File]) -> None:
    """Tell what was made."""
    images, side = sum(split.images for split in facts.splits.values()), facts.image_size
    sizes = [file.bytes for file in files]
    logger.info("shard: %s images of %sx%s -> %s files, %s", f"{images:,}", side, side, len(sizes), size(sum(sizes)))


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


def _index(jobs: Sequence[Job], packed: list[Packed]) -> pd.DataFrame:
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
