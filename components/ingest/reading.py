"""`mura ingest`: read an archive into a table of its images."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import TABLE, Manifest
from components.base import space, workers
from components.base.progress import track
from components.ingest.contents import Contents, read_contents
from components.ingest.image_facts import missing, read_images
from components.ingest.table import TableWriter
from components.params.ingest import IngestParams

# Images that a worker gets at once. Passing single images to workers would cost too much.
CHUNK = 64
# What a row of the table takes at least.
ROW_BYTES = 400


def run(archive: Archive, overlay: Overlay | None, params: IngestParams, seed: int, out: Path) -> Manifest:
    """Do what `components.ingest.ingest` says."""
    with archive:
        contents = read_contents(archive, overlay, params, seed)
        # While the workers decode: the md5 of the whole file.
        md5 = workers.aside(archive.md5)
        problems = write_rows(archive, contents, contents.images, out)
    contents.log(problems)
    return Manifest.seal(out, contents.facts.model_copy(update={"archive_md5": md5.result()}))


def write_rows(archive: Archive, contents: Contents, images: Sequence[str], out: Path) -> int:
    """Read images and write their rows.

    Args:
        archive: open.
        contents: of the archive.
        images: some of its images, ascending.
        out: the directory of the table.

    Returns:
        The number of images that cannot be read.
    """
    chosen = [image for image in images if contents.has(image)]
    chunks = (chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK))
    space.require(out.parent, len(chosen) * ROW_BYTES, f"a manifest of {len(chosen):,} images")
    problems = 0

    def rows(read: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        nonlocal problems
        for image in images:
            row = contents.describe(image)
            row |= next(read) if row["found"] else missing()
            problems += row["problem"] is not None
            yield row

    with (
        workers.in_order(partial(read_images, archive), chunks) as results,
        TableWriter(out / TABLE) as table,
    ):
        facts = track((each for some in results for each in some), len(chosen), "ingest: images")
        table.add_described(rows(iter(facts)))
    return problems
