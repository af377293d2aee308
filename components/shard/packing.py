"""`mura shard`: write the files of a plan, and the table of their records."""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.archive.archive import Archive
from components.artifacts.artifact import File
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import RECORDS, Shards, ShardsFacts
from components.base import space, workers
from components.base.files import CHECKPOINT
from components.base.progress import Bar
from components.base.words import size
from components.params.shard import ShardParams
from components.shard.file_plan import Plan, Planned
from components.shard.records import Packed, Row, pack

logger = logging.getLogger(__name__)

# Records of a row group of their table. Its bytes depend on it.
GROUP = 2**20
TYPES = dict.fromkeys(("offset", "crc32c", "abnormal"), "int64")
TYPES |= dict.fromkeys(("split", "file", "image", "sha256", "study", "patient", "body_part"), "str")


def run(archive: Archive, manifest: ValidManifest, params: ShardParams, out: Path) -> Shards:
    """Do what `components.shard.shard` says."""
    whole = Plan.of(manifest, params)
    packed = write_files(archive, whole, whole.files, out)
    shards = Shards.seal(out, whole.facts, written=packed)
    log(shards.facts, packed.values())
    return shards


class Written(NamedTuple):
    """A file that was written."""

    file: File
    offsets: NDArray[np.int64]
    crc32c: NDArray[np.int64]

    @classmethod
    def of(cls, packed: Packed) -> "Written":
        """What a worker has told. Lists would be large, of millions of records."""
        return cls(packed.file, np.array(packed.offsets, np.int64), np.array(packed.crc32c, np.int64))


def write_files(archive: Archive, whole: Plan, files: Sequence[Planned], out: Path) -> dict[str, File]:
    """Write files and the table of their records.

    Args:
        archive: with the images.
        whole: all files.
        files: those to write, in reading order. They are written to the checkpoint first.
        out: the directory of the files.

    Returns:
        Size and sha256 of each file by name.
    """
    checkpoint = out / CHECKPOINT
    checkpoint.mkdir(exist_ok=True)
    left = sum(len(file.rows) for file in files if not (checkpoint / file.name).exists())
    space.require(out.parent, left * whole.facts.image_size**2, f"shards of {left:,} images")
    packed = []
    with (
        workers.in_order(partial(pack, archive), whole.jobs(files, checkpoint)) as written,
        Bar(sum(len(file.rows) for file in files), "shard: images") as bar,
    ):
        for file, done in zip(files, written, strict=True):
            packed.append(Written.of(done))
            bar.advance(len(file.rows))
    _write_index(whole, files, packed, out / RECORDS)
    for file in files:
        (checkpoint / file.name).rename(out / file.name)
    return {file.name: done.file for file, done in zip(files, packed, strict=True)}


def log(facts: ShardsFacts, files: Iterable[File]) -> None:
    """Tell what was made."""
    images, side = sum(split.images for split in facts.splits.values()), facts.image_size
    sizes = [file.bytes for file in files]
    logger.info("shard: %s images of %sx%s -> %s files, %s", f"{images:,}", side, side, len(sizes), size(sum(sizes)))


def _write_index(whole: Plan, files: Sequence[Planned], packed: Sequence[Written], path: Path) -> None:
    """Write the table of records, as `Shards` describes it."""
    rows = np.concatenate([np.empty(0, np.int64), *(file.rows for file in files)])
    offsets, crc32c = (
        np.concatenate([np.empty(0, np.int64), *(getattr(done, name) for done in packed)])
        for name in ("offsets", "crc32c")
    )
    number = np.repeat(np.arange(len(files)), [len(file.rows) for file in files])

    def group(start: int) -> pa.Table:
        some = slice(start, start + GROUP)
        place = {
            "split": np.array([file.split for file in files], object)[number[some]],
            "file": np.array([file.name for file in files], object)[number[some]],
            "offset": offsets[some],
            "crc32c": crc32c[some],
        }
        table = pd.concat([pd.DataFrame(place), whole.table(rows[some])[list(Row._fields)]], axis=1).astype(TYPES)
        # In one piece: the pages of a file depend on the pieces.
        return pa.Table.from_pandas(table, preserve_index=False).combine_chunks()

    first = group(0)
    with pq.ParquetWriter(path, first.schema) as index:
        index.write_table(first, GROUP)
        del first
        for start in range(GROUP, len(rows), GROUP):
            index.write_table(group(start), GROUP)
