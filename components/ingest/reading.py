"""`mura ingest`: read an archive into a table of its images."""

import hashlib
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from components.archive.archive import Archive
from components.archive.mura_csv import SOURCE_SPLITS, Listing, folder_of, is_sidecar, read_listing
from components.archive.overlay import Opinion, Overlay
from components.artifacts.manifest import TABLE, TRAIN, TUNING, Manifest, ManifestFacts
from components.base import space, workers
from components.base.errors import printable
from components.base.progress import track
from components.ingest.image_facts import missing, read_images
from components.params.ingest import IngestParams

logger = logging.getLogger(__name__)

DIRECTORY_LABELS = {"positive": 1, "negative": 0}
MEMBER = re.compile(
    # [0-9], because \d matches digits of every script; at most 18 digits, to fit into 64 bits.
    r"(?P<source_split>[^/]+)/XR_(?P<body_part>[^/]+)/(?P<patient>patient[0-9]+)"
    r"/study[0-9]+_(?P<label>[a-z]+)/image(?P<view>[0-9]{1,18})\.png$"
)
# Images that a worker gets at once. Passing single images to workers would cost too much.
CHUNK = 64
# What a row of the table takes at least.
ROW_BYTES = 400


def run(archive: Archive, overlay: Overlay | None, params: IngestParams, seed: int, out: Path) -> Manifest:
    """Do what `components.ingest.ingest` says."""
    with archive:
        members = list(archive.members())
        sidecars = {member for member in members if is_sidecar(member)}
        pictures = [member for member in members if member.lower().endswith(".png") and member not in sidecars]
        chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
        space.require(out.parent, len(pictures) * ROW_BYTES, f"a manifest of {len(pictures):,} images")
        with workers.in_order(partial(read_images, archive), chunks) as results:
            # While the workers decode: the md5 of the whole file, and the CSVs.
            md5 = workers.aside(archive.md5)
            listing = read_listing(archive, members)
            opinions = overlay.by_study(listing.labels) if overlay else {}
            facts_read = track((facts for some in results for facts in some), len(pictures), "ingest: images")
            read = dict(zip(pictures, facts_read, strict=True))

    images = sorted({*pictures, *listing.images})
    rows = [_describe(image, listing, opinions, image in read) | read.get(image, missing()) for image in images]
    table = _with_splits(pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS), params.tuning_fraction, seed)
    table.to_parquet(out / TABLE, index=False, compression="zstd")
    known = {*pictures, *sidecars, *listing.files}
    facts = ManifestFacts(
        archive=archive.name,
        archive_md5=md5.result(),
        images=len(table),
        studies=table["study"].nunique(),
        patients=table["patient"].nunique(),
        sidecars=len(sidecars),
        others=tuple(member for member in members if member not in known),
        overlay_digest=overlay.digest if overlay else None,
        overlay_studies=len(opinions),
    )
    _log(facts, set(listing.labels) - set(table["study"]), problems=int(table["problem"].notna().sum()))
    return Manifest.seal(out, facts)


def _with_splits(table: pd.DataFrame, tuning_fraction: float, seed: int) -> pd.DataFrame:
    """The table with its column `split`."""
    split = table["source_split"].map(SOURCE_SPLITS).astype("str")
    train = split == TRAIN
    tuning = tuning_patients(table[train & table["patient"].notna()], tuning_fraction, seed)
    split[train & table["patient"].isin(tuning)] = TUNING
    return table.assign(split=split)


def _log(facts: ManifestFacts, empty_studies: set[str], problems: int) -> None:
    if facts.others:
        logger.warning(
            "ingest: %s files are neither images nor CSVs, such as %s",
            f"{len(facts.others):,}",
            printable(facts.others[0]),
        )
    if empty_studies:
        logger.warning(
            "ingest: %s labelled studies have no image, such as %s", f"{len(empty_studies):,}", min(empty_studies)
        )
    if facts.overlay_studies:
        logger.info("ingest: %s studies have a second opinion on their label", f"{facts.overlay_studies:,}")
    logger.info(
        "ingest: %s images of %s studies; %s AppleDouble files left out; %s",
        f"{facts.images:,}",
        f"{facts.studies:,}",
        facts.sidecars,
        f"{problems:,} cannot be read" if problems else "all decoded",
    )


def tuning_patients(train: pd.DataFrame, fraction: float, seed: int) -> set[str]:
    """Choose the patients that move from the training split to the tuning split.

    Patients are ordered by stratum (the body parts and labels of their studies), and within it by a seeded hash of
    their name. Then every (1 / fraction)-th is chosen. So each stratum gives its share, as exactly as whole patients
    allow. The choice depends on names only, not on the order of rows.

    Args:
        train: rows of the published training split: `patient`, `body_part`, `directory_label`.
        fraction: share of the patients, in (0, 1).
        seed: decides which patients.

    Returns:
        Names of patients. All images of a patient go together, over all body parts.
    """
    strata: dict[str, set[str]] = {}
    for patient, part, label in zip(train["patient"], train["body_part"], train["directory_label"], strict=True):
        strata.setdefault(str(patient), set()).add(f"{part}:{label}")

    def order(patient: str) -> tuple[str, str]:
        return " ".join(sorted(strata[patient])), hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()

    ordered = sorted(strata, key=order)
    return {p for i, p in enumerate(ordered) if int((i + 0.5) * fraction + 0.5) > int((i - 0.5) * fraction + 0.5)}


COLUMNS = {
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


def _describe(image: str, listing: Listing, opinions: dict[str, Opinion], found: bool) -> dict[str, Any]:
    """What is known of an image from its path, the CSVs and the overlay."""
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
            "directory_label": DIRECTORY_LABELS.get(match["label"]),
        }
    return row
