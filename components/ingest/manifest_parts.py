"""`mura ingest --part I/N` and the merging of its parts.

A part holds the rows of its share of the images, complete: splits follow from names, so every part knows all of them.
Merging joins the rows and adds the md5 of the archive, which no part reads as a whole.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import TABLE, Manifest
from components.artifacts.parts import ManifestOrigin, ManifestPart, ManifestPartFacts, complete
from components.base import code, workers
from components.base.errors import DataRefused
from components.base.part import Part
from components.base.words import count
from components.ingest.contents import read_contents, read_names
from components.ingest.reading import images_read, write_rows
from components.ingest.table import TableWriter, read_in_batches
from components.params.ingest import IngestParams

logger = logging.getLogger(__name__)

STEP = "components.ingest"


# Parameters: those of the step, and which part.
def run(
    archive: Archive, overlay: Overlay | None, params: IngestParams, seed: int, part: Part, out: Path
) -> ManifestPart:
    """Do what `components.ingest.ingest_part` says."""
    with archive:
        contents = read_contents(archive, read_names(archive, params), overlay, params, seed)
        origin = ManifestOrigin(
            code=code.digest(STEP),
            contents=archive.contents_digest(),
            params=params.model_dump(mode="json"),
            parts=part.of,
            seed=seed,
            manifest=contents.facts,
        )
        images = contents.images[part.share(len(contents.images))]
        with images_read(archive, [image for image in images if contents.has(image)], out) as facts:
            problems = write_rows(contents, images, facts, out)
        archive.check_unchanged()
    logger.info(
        "ingest: part %s: %s of %s; %s",
        part,
        f"{len(images):,}",
        count(len(contents.images), "image"),
        f"{problems:,} cannot be read" if problems else "all decoded",
    )
    return ManifestPart.seal(out, ManifestPartFacts(part=part.number, rows=len(images), origin=origin))


def merge(archive: Archive, parts: Sequence[ManifestPart], out: Path) -> Manifest:
    """Do what `components.ingest.merge_manifest` says."""
    parts = complete(parts)
    origin = parts[0].facts.origin
    with archive:
        if archive.contents_digest() != origin.contents or archive.name != origin.manifest.archive:
            raise DataRefused(
                f"{archive.place}: not the archive that the parts were made from, {origin.manifest.archive} with "
                f"contents {origin.contents[:12]}. Name that one with --archive."
            )
        md5 = workers.aside(archive.md5)
        with TableWriter(out / TABLE, origin.manifest.kept) as table:
            for part in parts:
                before = table.rows
                for rows in read_in_batches(part.path / TABLE, origin.manifest.kept):
                    table.add(rows)
                share = Part(part.facts.part, origin.parts).share(origin.manifest.images)
                if table.rows - before != share.stop - share.start:
                    raise DataRefused(
                        f"{part.path}: expected {share.stop - share.start:,} rows, found {table.rows - before:,}. Run "
                        "it again."
                    )
        facts = origin.manifest.model_copy(update={"archive_md5": md5.result()})
    logger.info("merge: %s of %s", count(facts.images, "image"), count(len(parts), "part"))
    return Manifest.seal(out, facts)
