"""Pack the images of a data set for training."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components import workers
from components.artifacts.archive import Archive
from components.artifacts.artifact import json_sha256
from components.artifacts.manifest import SPLITS, TRAIN, ValidManifest
from components.artifacts.shards import PartFacts, Shards, ShardsFacts, SplitFacts
from components.errors import DataRefused
from components.params.shard import ShardParams
from components.progress import track

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

    path: Path
    rows: list[Row]
    image_size: int


def shard(archive: Archive, manifest: ValidManifest, params: ShardParams, out: Path) -> Shards:
    """Decode every image, fit it to a square and pack the squares into TFRecord files.

    The same archive and parameters give the same bytes, whatever the number of workers.

    Args:
        archive: the archive that the manifest describes.
        manifest: proven rows.
        params: image size and images per file.
        out: where the shards are written.

    Raises:
        DataRefused: an image is not the one that was validated.
    """
    table = manifest.table
    jobs = {split: _jobs(table[table["split"] == split], split, params, out) for split in SPLITS}
    every = [job for split in SPLITS for job in jobs[split]]
    written = workers.in_order(_write, every, initialise=_open, arguments=(archive,))
    for _ in track(written, len(every), "shard: files"):
        pass
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
    shards = Shards.seal(out, facts)
    size = sum(file.stat().st_size for file in out.glob("*.tfrecord"))
    side = params.image_size
    logger.info(
        "shard: %s images of %sx%s -> %s files, %s", f"{len(table):,}", side, side, len(every), f"{size / 1e9:.2f} GB"
    )
    return shards


def _jobs(rows: "pandas.DataFrame", split: str, params: ShardParams, out: Path) -> list[Job]:
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
            out / f"{split}-{number:05d}-of-{len(starts):05d}.tfrecord",
            every[start : start + params.images_per_shard],
            params.image_size,
        )
        for number, start in enumerate(starts)
    ]


def _split_facts(rows: "pandas.DataFrame", jobs: list[Job]) -> SplitFacts:
    identity = rows.sort_values("image")[["image", "sha256", "abnormal"]].astype({"abnormal": int})
    return SplitFacts(
        images=len(rows),
        studies=rows["study"].nunique(),
        patients=rows["patient"].nunique(),
        abnormal=int(rows["abnormal"].sum()),
        files=tuple(job.path.name for job in jobs),
        records=tuple(len(job.rows) for job in jobs),
        digest=json_sha256(identity.to_numpy().tolist()),
    )


_archive: Archive


def _open(archive: Archive) -> None:
    """Each worker reads with its own handle."""
    global _archive
    _archive = archive.__enter__()


def _write(job: Job) -> None:
    from components import tfrecord

    tfrecord.write(job.path, _records(job))


def _records(job: Job) -> Iterator[bytes]:
    from components import images, tfrecord

    _archive.expect(row.image for row in job.rows)
    for row in job.rows:
        try:
            png = _archive.bytes_of(row.image)
        except KeyError:
            raise DataRefused(f"{row.image}: in the manifest, but no longer in {_archive.place}.") from None
        if hashlib.sha256(png).hexdigest() != row.sha256:
            raise DataRefused(f"{row.image}: not the file that was validated. Run `mura ingest` on this archive again.")
        features: dict[str, Any] = {
            "pixels": images.fit(images.decode(png).grey, job.image_size).tobytes(),
            "image": row.image.encode(),
            "study": row.study.encode(),
            "patient": row.patient.encode(),
            "body_part": row.body_part.encode(),
            "abnormal": row.abnormal,
        }
        yield tfrecord.example(features)
