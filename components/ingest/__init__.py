"""Read an archive, once, into a table of its images.

reading.py          the step: members, CSVs, overlay, workers
contents.py         what is known before a picture is read: names, labels, splits, counts
table.py            the rows, written as they come
manifest_parts.py   a share of the rows, and the manifest of all shares
choice.py           the images of the chosen body parts
image_facts.py      what a worker reads from one image
"""

from pathlib import Path

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import Manifest
from components.artifacts.parts import ManifestPart
from components.base.part import Part
from components.base.step import Declaration
from components.params.ingest import IngestParams


def ingest(archive: Archive, overlay: Overlay | None, params: IngestParams, seed: int, out: Path) -> Manifest:
    """Read every image of an archive once and record what is there.

    The archive is neither unpacked nor changed. An image that is missing or does not decode gets a row with the
    problem; `mura validate` judges it. A share of the published training patients becomes the tuning split, whole
    patients, balanced over body parts and labels.

    Args:
        archive: MURA-v1.1.zip, or a zip or directory of its layout.
        overlay: second opinions on labels, recorded beside the official ones.
        params: the size of the tuning split, and which body parts are read.
        seed: decides which patients are tuning patients.
        out: the directory of the manifest.

    Raises:
        DataRefused: a CSV is missing or has an unreadable row, the archive lacks a chosen body part, or a row of the
            overlay does not match the archive. The message names the row.
    """
    from components.ingest import reading

    return reading.run(archive, overlay, params, seed, out)


# Parameters: those of the step, and which part.
def ingest_part(
    archive: Archive, overlay: Overlay | None, params: IngestParams, seed: int, part: Part, out: Path
) -> ManifestPart:
    """Read a share of the images of an archive. `mura merge` makes the manifest of all shares.

    Of the archive, the table of contents, the CSVs and the images of this share are read.

    Args:
        archive: as for `ingest`.
        overlay: as for `ingest`.
        params: as for `ingest`.
        seed: as for `ingest`.
        part: which share of the images, in the order of their names.
        out: the directory of the part.

    Raises:
        DataRefused: as `ingest`.
    """
    from components.ingest import manifest_parts

    return manifest_parts.run(archive, overlay, params, seed, part, out)


def merge_manifest(archive: Archive, parts: list[ManifestPart], out: Path) -> Manifest:
    """Make the manifest of all its parts: the same, to the byte, as `ingest` makes in one run.

    The archive is read once as a whole, for its md5.

    Args:
        archive: the one that the parts were made from.
        parts: all of them, in order, as `read_parts` gives them.
        out: the directory of the manifest.

    Raises:
        DataRefused: the archive is another one, or other code made the parts.
    """
    from components.ingest import manifest_parts

    return manifest_parts.merge(archive, parts, out)


DECLARES = Declaration(part=ingest_part)
