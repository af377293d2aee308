"""`mura shard --part I/N` and the merging of its parts.

A part has a share of the files of the shards, as one run writes them. Merging collects the files and writes the index.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from components.archive.archive import Archive
from components.artifacts.artifact import File
from components.artifacts.manifest import ValidManifest
from components.artifacts.parts import ShardsOrigin, ShardsPart, ShardsPartFacts, complete
from components.artifacts.shards import RECORDS, Shards
from components.base import code
from components.base.errors import DataRefused
from components.base.part import Part
from components.base.words import count
from components.params.shard import ShardParams
from components.shard import packing
from components.shard.file_plan import Plan

logger = logging.getLogger(__name__)

STEP = "components.shard"


def run(archive: Archive, manifest: ValidManifest, params: ShardParams, part: Part, out: Path) -> ShardsPart:
    """Do what `components.shard.shard_part` says."""
    whole = Plan.of(manifest, params)
    with archive:
        contents = archive.contents_digest()
    origin = ShardsOrigin(
        code=code.digest(STEP),
        contents=contents,
        params=params.model_dump(mode="json"),
        parts=part.of,
        manifest_digest=manifest.digest,
        shards=whole.facts,
    )
    files = whole.files[part.share(len(whole.files))]
    written = packing.write_files(archive, whole, files, out)
    logger.info("shard: part %s: %s of %s", part, f"{len(files):,}", count(len(whole.files), "file"))
    return ShardsPart.seal(out, ShardsPartFacts(part=part.number, files=written, origin=origin), written)


def merge(parts: Sequence[ShardsPart], out: Path) -> Shards:
    """Do what `components.shard.merge_shards` says."""
    parts = complete(parts)
    origin = parts[0].facts.origin
    files = [file for split in origin.shards.splits.values() for file in split.files]
    written: dict[str, File] = {}
    tables = []
    for part in parts:
        share = files[Part(part.facts.part, origin.parts).share(len(files))]
        if list(part.facts.files) != share:
            raise DataRefused(f"{part.path}: expected {', '.join(share) or 'no file'}. Run it again.")
        written |= part.facts.files
        tables.append(pd.read_parquet(part.path / RECORDS))
        for name in share:
            _place(part.path / name, out / name)
    # In one piece: the pages of a file depend on the pieces.
    records = pd.concat(tables, ignore_index=True)
    records.astype(dict.fromkeys(records.columns, object)).astype(records.dtypes).to_parquet(out / RECORDS, index=False)
    shards = Shards.seal(out, origin.shards, written)
    shards.records()
    packing.log(origin.shards, written.values())
    return shards


def _place(file: Path, place: Path) -> None:
    """Put a file of a part into the shards. On one disk it is not copied: files of artifacts are never changed."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)
