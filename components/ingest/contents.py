"""What is known of an archive before a picture is read: names, labels, splits, counts."""

import hashlib
import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from components.archive import member_paths
from components.archive.about_images import About, read_about
from components.archive.archive import Archive
from components.archive.mura_csv import SOURCE_SPLITS, Listing, folder_of, is_sidecar, read_listing
from components.archive.overlay import Opinion, Overlay
from components.artifacts.manifest import TRAIN, TUNING, ManifestFacts
from components.base.errors import printable
from components.base.words import count
from components.ingest.choice import Choice
from components.params.ingest import MAX_MEMBERS, IngestParams

logger = logging.getLogger(__name__)


class Contents(NamedTuple):
    """The images of a manifest, and everything but their pixels. Nothing of it depends on which part is read."""

    images: list[str]
    """Members and listed images of the chosen body parts, ascending."""
    pictures: list[str]
    """Those of the archive, ascending."""
    listing: Listing
    opinions: dict[str, Opinion]
    """By study."""
    tuning: set[str]
    """Patients of the tuning split."""
    facts: ManifestFacts
    """Without the archive's md5."""
    empty_studies: set[str]
    """Labelled studies without an image."""
    about: About | None
    """What an archive of somebody's own says besides."""

    def has(self, image: str) -> bool:
        """Whether an image is in the archive."""
        # Not a set: with millions of names it takes more memory than the names' list.
        place = bisect_left(self.pictures, image)
        return place < len(self.pictures) and self.pictures[place] == image

    def describe(self, image: str) -> dict[str, Any]:
        """What is known of an image from its path, the CSVs and the overlay."""
        study = folder_of(image)
        row: dict[str, Any] = {
            "image": image,
            "study": study,
            "source_split": self.listing.images.get(image),
            "abnormal": self.listing.labels.get(study),
            "listed": image in self.listing.images,
            "found": self.has(image),
        }
        if opinion := self.opinions.get(study):
            row |= {"overlay": opinion.new, "overlay_source": opinion.source, "overlay_reason": opinion.reason}
        if said := member_paths.read(image):
            row |= said._asdict()
        if self.about and row["listed"]:
            row |= self.about.of(image)
        split = SOURCE_SPLITS.get(row["source_split"])
        row["split"] = TUNING if split == TRAIN and row.get("patient") in self.tuning else split
        return row

    def log(self, problems: int) -> None:
        """Tell what was found.

        Args:
            problems: number of images that cannot be read.
        """
        facts = self.facts
        if facts.others:
            others = count(len(facts.others), "other file")
            logger.warning("ingest: %s: no image and no CSV, such as %s", others, printable(facts.others[0]))
        if self.empty_studies:
            studies = count(len(self.empty_studies), "labelled study")
            logger.warning("ingest: %s without an image, such as %s", studies, min(self.empty_studies))
        if facts.left_out_studies:
            studies = count(sum(facts.left_out_studies.values()), "study")
            parts = ", ".join(map(printable, facts.left_out_studies))
            logger.info("ingest: %s of %s left out (ingest.body_parts of params.yaml)", studies, parts)
        if facts.overlay_studies:
            logger.info("ingest: second opinions on the label of %s", count(facts.overlay_studies, "study"))
        logger.info(
            "ingest: %s of %s; %s left out; %s",
            count(facts.images, "image"),
            count(facts.studies, "study"),
            count(facts.sidecars, "AppleDouble file"),
            f"{problems:,} cannot be read" if problems else "all decoded",
        )


class Names(NamedTuple):
    """The files of an archive."""

    members: list[str]
    """All of them, ascending."""
    pictures: list[str]
    chosen: list[str]
    """Pictures of the chosen body parts."""


def read_names(archive: Archive, params: IngestParams) -> Names:
    """The table of contents of an open archive."""
    members = list(archive.members())
    pictures = [member for member in members if _is_picture(member)]
    choice = Choice(params.chosen)
    return Names(members, pictures, [picture for picture in pictures if choice.has(picture)])


def read_contents(archive: Archive, names: Names, overlay: Overlay | None, params: IngestParams, seed: int) -> Contents:
    """Read the CSVs of an open archive, and what follows from them.

    Raises:
        DataRefused: as `components.ingest.ingest`.
    """
    choice = Choice(params.chosen)
    listing = read_listing(archive, names.members)
    about = read_about(archive, names.members, listing)
    every = sorted({*names.pictures, *listing.images})
    choice.check(archive, every)
    images = [image for image in every if choice.has(image)]
    left_out = [image for image in every if not choice.has(image)]
    opinions = overlay.by_study(listing.labels) if overlay else {}
    without_image = {study for study in listing.labels if choice.has(study)}
    studies = 0
    for study in _studies(images):
        studies += 1
        without_image.discard(study)
    patients, tuning = _patients(images, params.tuning_fraction, seed)
    others = (name for name in names.members if not _is_picture(name) and not is_sidecar(name))
    facts = ManifestFacts(
        archive=archive.name,
        images=len(images),
        studies=studies,
        patients=patients,
        sidecars=sum(map(is_sidecar, names.members)),
        others=tuple(name for name in others if name not in listing.files),
        overlay_digest=overlay.digest if overlay else None,
        overlay_studies=sum(choice.has(study) for study in opinions),
        body_parts=params.chosen,
        empty_studies=len(without_image),
        left_out_images=len(left_out),
        left_out_studies=choice.studies_by_part(left_out),
        max_members=None if params.max_members == MAX_MEMBERS else params.max_members,
        archive_parts=about.body_parts if about else None,
        kept=about.columns if about else (),
    )
    return Contents(images, names.chosen, listing, opinions, tuning, facts, without_image, about)


def _is_picture(member: str) -> bool:
    return member[-4:].lower() == ".png" and not is_sidecar(member)


def _studies(images: Iterable[str]) -> Iterator[str]:
    """The directories of images, each once: in ascending order, the images of a directory are neighbours.

    Those of a directory may stand before and after those of a directory in it.
    """
    seen: set[str] = set()
    last = None
    for image in images:
        study = folder_of(image)
        if study != last and study not in seen:
            seen.add(study)
            yield study
        last = study


def _patients(images: Iterable[str], fraction: float, seed: int) -> tuple[int, set[str]]:
    """The number of patients, and which of them are tuning patients."""
    patients: set[str] = set()

    def train() -> Iterator[tuple[str, str, int | None]]:
        for image in images:
            if said := member_paths.read(image):
                patients.add(said.patient)
                if SOURCE_SPLITS.get(said.source_split) == TRAIN:
                    yield said.patient, said.body_part, said.directory_label

    tuning = tuning_patients(train(), fraction, seed)
    return len(patients), tuning


def tuning_patients(train: Iterable[tuple[str, str, int | None]], fraction: float, seed: int) -> set[str]:
    """Choose the patients that move from the training split to the tuning split.

    Patients are ordered by stratum (the body parts and labels of their studies), and within it by a seeded hash of
    their name. Then every (1 / fraction)-th is chosen. So each stratum gives its share, as exactly as whole patients
    allow. The choice depends on names only, not on the order of images.

    Args:
        train: patient, body part and label by the directory of each image of the published training split.
        fraction: share of the patients, in (0, 1).
        seed: decides which patients.

    Returns:
        Names of patients. All images of a patient go together, over all body parts.
    """
    # A bit for each pair of a body part and a label: a set for each of a million patients would be large.
    kinds: dict[str, int] = {}
    of_patient: dict[str, int] = {}
    for patient, part, label in train:
        kind = kinds.setdefault(f"{part}:{'<NA>' if label is None else label}", len(kinds))
        of_patient[patient] = of_patient.get(patient, 0) | 1 << kind
    strata: dict[str, list[str]] = defaultdict(list)
    for patient, has in of_patient.items():
        strata[" ".join(sorted(name for name, kind in kinds.items() if has >> kind & 1))].append(patient)
    chosen, place = set(), 0
    for _, patients in sorted(strata.items()):
        patients.sort(key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode()).digest())
        for patient in patients:
            if int((place + 0.5) * fraction + 0.5) > int((place - 0.5) * fraction + 0.5):
                chosen.add(patient)
            place += 1
    return chosen
