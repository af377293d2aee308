"""`mura ingest`: read an archive into a table of its images."""

import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from components.archive import member_paths
from components.archive.archive import Archive
from components.archive.mura_csv import SOURCE_SPLITS, Listing, folder_of, is_sidecar, read_listing
from components.archive.overlay import Opinion, Overlay
from components.artifacts.manifest import TABLE, TRAIN, TUNING, Manifest, ManifestFacts
from components.base import space, workers
from components.base.errors import printable
from components.base.progress import track
from components.base.words import count
from components.ingest.choice import Choice
from components.ingest.image_facts import missing, read_images
from components.params.ingest import IngestParams

logger = logging.getLogger(__name__)

# Images that a worker gets at once. Passing single images to workers would cost too much.
CHUNK = 64
# What a row of the table takes at least.
ROW_BYTES = 400


def run(archive: Archive, overlay: Overlay | None, params: IngestParams, seed: int, out: Path) -> Manifest:
    """Do what `components.ingest.ingest` says."""
    choice = Choice(params.chosen)
    with archive:
        members = list(archive.members())
        sidecars = {member for member in members if is_sidecar(member)}
        pictures = [member for member in members if member.lower().endswith(".png") and member not in sidecars]
        chosen = [member for member in pictures if choice.has(member)]
        chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
        space.require(out.parent, len(chosen) * ROW_BYTES, f"a manifest of {len(chosen):,} images")
        with workers.in_order(partial(read_images, archive), chunks) as results:
            # While the workers decode: the md5 of the whole file, and the CSVs.
            md5 = workers.aside(archive.md5)
            listing = read_listing(archive, members)
            images = sorted({*pictures, *listing.images})
            choice.check(archive, images)
            opinions = overlay.by_study(listing.labels) if overlay else {}
            facts_read = track((facts for some in results for facts in some), len(chosen), "ingest: images")
            read = dict(zip(chosen, facts_read, strict=True))

    kept = [image for image in images if choice.has(image)]
    rows = [_describe(image, listing, opinions, image in read) | read.get(image, missing()) for image in kept]
    table = _with_splits(pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS), params.tuning_fraction, seed)
    table.to_parquet(out / TABLE, index=False, compression="zstd")
    known = {*pictures, *sidecars, *listing.files}
    left_out = sorted(set(images) - set(kept))
    facts = ManifestFacts(
        archive=archive.name,
        archive_md5=md5.result(),
        images=len(table),
        studies=table["study"].nunique(),
        patients=table["patient"].nunique(),
        sidecars=len(sidecars),
        others=tuple(member for member in members if member not in known),
        overlay_digest=overlay.digest if overlay else None,
        overlay_studies=sum(choice.has(study) for study in opinions),
        body_parts=params.chosen,
        left_out_images=len(left_out),
        left_out_studies=choice.studies_by_part(left_out),
    )
    labelled = {study for study in listing.labels if choice.has(study)}
    _log(facts, labelled - set(table["study"]), problems=int(table["problem"].notna().sum()))
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
            "ingest: %s: no image and no CSV, such as %s",
            count(len(facts.others), "other file"),
            printable(facts.others[0]),
        )
    if empty_studies:
        logger.warning(
            "ingest: %s without an image, such as %s", count(len(empty_studies), "labelled study"), min(empty_studies)
        )
    if facts.left_out_studies:
        logger.info(
            "ingest: %s of %s left out (ingest.body_parts of params.yaml)",
            count(sum(facts.left_out_studies.values()), "study"),
            ", ".join(map(printable, facts.left_out_studies)),
        )
    if facts.overlay_studies:
        logger.info("ingest: second opinions on the label of %s", count(facts.overlay_studies, "study"))
    logger.info(
        "ingest: %s of %s; %s left out; %s",
        count(facts.images, "image"),
        count(facts.studies, "study"),
        count(facts.sidecars, "AppleDouble file"),
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
    if said := member_paths.read(image):
        row |= said._asdict()
    return row
