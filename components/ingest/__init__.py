"""Read an archive, once, into a table of its images.

reading.py      the step: members, CSVs, overlay, splits, the table
choice.py       the images of the chosen body parts
image_facts.py  what a worker reads from one image
"""

from pathlib import Path

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import Manifest
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
