"""`mura ingest`: read an archive into a table of its images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import TABLE, Manifest
from components.base import space, workers
from components.base.progress import track
from components.ingest.contents import Contents, read_contents, read_names
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
        names = read_names(archive, params)
        with images_read(archive, names.chosen, out) as facts:
            # While the workers decode: the md5 of the whole file, and the CSVs.
            md5 = workers.aside(archive.md5)
            contents = read_contents(archive, names, overlay, params, seed)
            problems = write_rows(contents, contents.images, facts, out)
        archive.check_unchanged()
    contents.log(problems)
    return Manifest.seal(out, contents.facts.model_copy(update={"archive_md5": md5.result()}))


@contextmanager
def images_read(archive: Archive, images: Sequence[str], out: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """Facts of images of an open archive, in order, from workers that start at once.

    Raises:
        OutsideFailed: the disk of `out` is too small for their rows.
    """
    chunks = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
    space.require(out.parent, len(images) * ROW_BYTES, f"a manifest of {len(images):,} images")
    with workers.in_order(partial(read_images, archive), chunks) as results:
        yield iter(track((facts for some in results for facts in some), len(images), "ingest: images"))


def write_rows(contents: Contents, images: Sequence[str], facts: Iterator[dict[str, Any]], out: Path) -> int:
    """Write the rows of images.

    Args:
        contents: of the archive.
        images: some of its images, ascending.
        facts: of those that are in the archive, in order.
        out: the directory of the table.

    Returns:
        The number of images that cannot be read.
    """
    problems = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal problems
        for image in images:
            row = contents.describe(image)
            row |= next(facts) if row["found"] else missing()
            problems += row["problem"] is not None
            yield row

    with TableWriter(out / TABLE, contents.facts.kept) as table:
        table.add_described(rows())
    return problems
