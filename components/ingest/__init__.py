"""Read an archive, once, into a table of its images."""

from pathlib import Path

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import Manifest
from components.params.ingest import IngestParams


def ingest(archive: Archive, overlay: Overlay | None, params: IngestParams, seed: int, out: Path) -> Manifest:
    """Read every image of an archive once and write down what is there.

    The archive is neither unpacked nor changed. Images that are missing or do not decode get a row that
    says so: judging them is validation's part. A share of the published training patients is set aside for
    tuning, patient by patient, balanced over body parts and labels.

    Args:
        archive: MURA-v1.1.zip, or a zip or directory of its layout.
        overlay: second opinions on labels, written down beside the official ones.
        params: how large the tuning split is.
        seed: decides which patients are tuning patients.
        out: where the manifest is written.

    Raises:
        DataRefused: the CSVs are missing, or a row of them cannot be read; or a row of the overlay does not match the
            archive. It is named.
    """
    from components.ingest import reading

    return reading.run(archive, overlay, params, seed, out)
