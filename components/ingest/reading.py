"""Read an archive, once, into a table of its images."""

import hashlib
import logging
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.archive.archive import Archive
from components.archive.mura_csv import SOURCE_SPLITS, Listing, folder_of, is_sidecar, read_listing
from components.archive.overlay import Opinion, Overlay
from components.artifacts.manifest import TABLE, TRAIN, TUNING, Manifest, ManifestFacts
from components.base import workers
from components.base.errors import DataRefused, printable
from components.base.progress import track
from components.params.ingest import IngestParams

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)

LABELS = {"positive": 1, "negative": 0}
MEMBER = re.compile(
    # Not \d, which is every script's digits; and no more of them than a number of 64 bits has.
    r"(?P<source_split>[^/]+)/XR_(?P<body_part>[^/]+)/(?P<patient>patient[0-9]+)"
    r"/study[0-9]+_(?P<label>[a-z]+)/image(?P<view>[0-9]{1,18})\.png$"
)
# Images a worker takes at once: enough to make handing them over cheap.
CHUNK = 64


def run(archive: Archive, overlay: Overlay | None, params: IngestParams, seed: int, out: Path) -> Manifest:
    """Do what `components.ingest.ingest` says."""
    with archive:
        members = list(archive.members())
        sidecars = {member for member in members if is_sidecar(member)}
        pictures = [member for member in members if member.lower().endswith(".png") and member not in sidecars]
        chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
        with workers.in_order(partial(_read_images, archive), chunks) as results:
            # While the workers decode: the name of the whole file, the CSVs, the second that pandas takes to import.
            md5 = workers.aside(archive.md5)
            listing = read_listing(archive, members)
            opinions = overlay.by_study(listing.labels) if overlay else {}
            import pandas as pd

            rows_read = track((row for rows in results for row in rows), len(pictures), "ingest: images")
            read = dict(zip(pictures, rows_read, strict=True))

    known = {*pictures, *sidecars, *listing.files}
    others = tuple(member for member in members if member not in known)
    if others:
        logger.warning(
            "ingest: %s files are neither images nor lists, such as %s", f"{len(others):,}", printable(others[0])
        )
    images = sorted({*pictures, *listing.images})
    if empty := set(listing.labels) - {folder_of(image) for image in images}:
        logger.warning("ingest: %s labelled studies have no image, such as %s", f"{len(empty):,}", min(empty))
    rows = [_describe(image, listing, opinions, image in read) for image in images]
    table = pd.DataFrame([row | read.get(str(row["image"]), _UNREAD) for row in rows], columns=list(_COLUMNS))
    table = table.astype(_COLUMNS)
    table["split"] = table["source_split"].map(SOURCE_SPLITS).astype("str")
    tuning = tuning_patients(table[(table["split"] == TRAIN) & table["patient"].notna()], params.tuning_fraction, seed)
    table.loc[(table["split"] == TRAIN) & table["patient"].isin(tuning), "split"] = TUNING

    table.to_parquet(out / TABLE, index=False, compression="zstd")
    facts = ManifestFacts(
        archive=archive.name,
        archive_md5=md5.result(),
        images=len(table),
        studies=table["study"].nunique(),
        patients=table["patient"].nunique(),
        sidecars=len(sidecars),
        others=others,
        overlay_digest=overlay.digest if overlay else None,
        overlay_studies=len(opinions),
    )
    if opinions:
        logger.info("ingest: %s studies have a second opinion on their label", f"{len(opinions):,}")
    problems = int(table["problem"].notna().sum())
    logger.info(
        "ingest: %s images of %s studies; %s AppleDouble files left out; %s",
        f"{facts.images:,}",
        f"{facts.studies:,}",
        facts.sidecars,
        f"{problems:,} cannot be read" if problems else "all decoded",
    )
    return Manifest.seal(out, facts)


def tuning_patients(train: "pandas.DataFrame", fraction: float, seed: int) -> set[str]:
    """Patients that leave the training split for the tuning split.

    Patients are ordered by stratum, the body parts and labels of their studies, and within it by a seeded
    hash of their name; then one is taken every 1 / fraction. So each stratum gives its share, as nearly as
    whole patients can, and the number of a patient decides alone, not the order of rows.

    Args:
        train: rows of the published training split: `patient`, `body_part`, `directory_label`.
        fraction: share of the patients, in (0, 1).
        seed: decides which.

    Returns:
        Patient names; a patient's images go together, over all body parts.
    """
    strata: dict[str, set[str]] = {}
    for patient, part, label in zip(train["patient"], train["body_part"], train["directory_label"], strict=True):
        strata.setdefault(str(patient), set()).add(f"{part}:{label}")

    def place(patient: str) -> tuple[str, str]:
        return " ".join(sorted(strata[patient])), hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()

    ordered = sorted(strata, key=place)
    return {p for i, p in enumerate(ordered) if int((i + 0.5) * fraction + 0.5) > int((i - 0.5) * fraction + 0.5)}


_COLUMNS = {
    "image": "str",
    "study": "str",
    "patient": "str",
    "body_part": "str",
    "view": "Int64",
    "source_split": "str",
    "split": "str",
    "abnormal": "Int64",
    "overlay": "Int64",
    "overlay_source": "str",
    "overlay_reason": "str",
    "directory_label": "Int64",
    "listed": "bool",
    "found": "bool",
    "problem": "str",
    "bytes": "Int64",
    "sha256": "str",
    "width": "Int64",
    "height": "Int64",
    "mode": "str",
    "channel_difference": "Int64",
    "pixels_sha256": "str",
    "mean": "Float64",
    "std": "Float64",
    "low": "Int64",
    "median": "Int64",
    "high": "Int64",
    "black": "Float64",
    "white": "Float64",
    "frame": "Float64",
    "rim": "Float64",
    "centre": "Float64",
    "phash": "str",
    "spectrum": "object",
}
# What is known of an image only when it has been read.
_READ = tuple(_COLUMNS)[list(_COLUMNS).index("problem") :]
_UNREAD: dict[str, Any] = dict.fromkeys(_READ) | {"problem": "missing from the archive"}


def _describe(image: str, listing: Listing, opinions: dict[str, Opinion], found: bool) -> dict[str, Any]:
    """What the path, the CSVs and the overlay say of an image."""
    study = folder_of(image)
    row: dict[str, Any] = {
        "image": image,
        "study": study,
        "source_split": listing.images.get(image),
        "abnormal": listing.labels.get(study),
        "listed": image in listing.images,
        "found": found,
    }
    if opinion := opinions.get(study):
        row |= {"overlay": opinion.new, "overlay_source": opinion.source, "overlay_reason": opinion.reason}
    if match := MEMBER.search(image):
        row |= {
            "patient": match["patient"],
            "body_part": match["body_part"].lower(),
            "view": int(match["view"]),
            "source_split": match["source_split"],
            "directory_label": LABELS.get(match["label"]),
        }
    return row


def _read_images(archive: Archive, members: list[str]) -> list[dict[str, Any]]:
    mine = archive.reopen()
    mine.expect(members)
    return [_read_image(mine, member) for member in members]


def _read_image(archive: Archive, member: str) -> dict[str, Any]:
    """One pass over one image: bytes, digest, header, pixels, hash."""
    from components.ingest import grey_levels
    from components.xray import images

    row: dict[str, Any] = dict.fromkeys(_READ)
    try:
        png = archive.bytes_of(member)
    except KeyError:
        return row | {"problem": "vanished from the archive"}
    except DataRefused as error:
        return row | {"problem": str(error)}
    row |= {"bytes": len(png), "sha256": hashlib.sha256(png).hexdigest()}
    try:
        grey, mode, channel_difference = images.decode(png)
    except images.BadImage as error:
        return row | {"problem": str(error)}
    return (
        row
        | {
            "width": grey.shape[1],
            "height": grey.shape[0],
            "mode": mode,
            "channel_difference": channel_difference,
            "pixels_sha256": grey_levels.pixels_sha256(grey),
        }
        | images.signature(grey)._asdict()
        | grey_levels.grey_levels(grey)._asdict()
    )
