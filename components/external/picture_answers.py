"""Ask a version about every picture of a labelled archive."""

import hashlib
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from components.archive.archive import Archive
from components.base.errors import DataChanged, DataRefused
from components.base.progress import track
from components.ingest.contents import Contents, read_contents, read_names
from components.params.ingest import IngestParams
from components.predict.asking import batches
from components.predict.predictor import Predictor
from components.xray import picture
from components.xray.png import BadImage, Grey

OWN = "the model was made with the same file"
"""Why such a picture has no answer. It is no fault of the archive."""
UNLIKE = "not like the training data"
UNLIKE_STUDY = "another view of its study is not like the training data"
# Nothing is set aside for tuning here: everything is measured. The reader of archives wants a share all the same.
_READ_ALL = IngestParams(tuning_fraction=0.1)


class Answers(NamedTuple):
    """What became of the pictures."""

    answered: pd.DataFrame
    """One row per picture: image, study, patient, body_part, abnormal, sha256, logit."""
    refused: pd.DataFrame
    """One row per picture without an answer: image, study, why."""
    labels: dict[str, int]
    """Of every study with a label, by the study's directory."""


class _Read(NamedTuple):
    """A picture of the archive."""

    row: dict[str, Any]
    """What is known of it."""
    grey: Grey | None
    """None if there is none."""
    why: str = ""
    """There is none."""


def ask(predictor: Predictor, archive: Archive, known: Container[str]) -> Answers:
    """Read the archive's lists and pictures, and ask about each picture.

    Args:
        predictor: whom to ask.
        archive: of MURA's layout. The pictures of both its splits are taken.
        known: sha256 of pictures that the model was made with. They are left out.

    Raises:
        DataRefused: the lists cannot be read, or an answer is not finite.
        DataChanged: a picture was removed or changed meanwhile. The figures would be of neither set.
        OutsideFailed, ServiceUnreachable: the disk or S3 failed. That says nothing about a picture.
    """
    answered: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    unlike: set[str] = set()
    with archive as opened:
        contents = read_contents(opened, read_names(opened, _READ_ALL), None, _READ_ALL, seed=0)
        found = track(_read(opened, contents, known), len(contents.images), "evaluate: pictures")
        for batch in batches(found):
            used = [(each.row, each.grey) for each in batch if each.grey is not None]
            refused += [{**each.row, "why": each.why} for each in batch if each.grey is None]
            if used:
                logits, distances = predictor.asked(np.stack([predictor.fit(grey) for _, grey in used]))
                answered += [{**row, "logit": logit} for (row, _), logit in zip(used, logits.tolist(), strict=True)]
                unlike |= {used[number][0]["image"] for number in predictor.unlike(distances)}
    # As `predict` answers: a study with such a view has no probability.
    lost = {row["study"] for row in answered if row["image"] in unlike}
    refused += [
        {**row, "why": UNLIKE if row["image"] in unlike else UNLIKE_STUDY} for row in answered if row["study"] in lost
    ]
    answered = [row for row in answered if row["study"] not in lost]
    columns = ["image", "study", "patient", "body_part", "abnormal", "sha256", "logit"]
    return Answers(
        pd.DataFrame(answered, columns=columns).astype({"logit": np.float32}),
        pd.DataFrame(refused, columns=["image", "study", "why"]),
        dict(contents.listing.labels),
    )


def _read(archive: Archive, contents: Contents, known: Container[str]) -> Iterator[_Read]:
    archive.expect(contents.images)
    seen: dict[str, str] = {}
    for image in contents.images:
        row = contents.describe(image)
        if why := _unusable(row):
            yield _Read(row, None, why)
            continue
        try:
            content = archive.bytes_of(image)
            grey = picture.read(content).grey
        except KeyError:
            raise DataChanged(
                f"{image}: removed from {archive.name} while it was read. Run the same command again."
            ) from None
        except (BadImage, DataRefused) as error:
            yield _Read(row, None, _general(str(error), image))
            continue
        row["sha256"] = hashlib.sha256(content).hexdigest()
        if row["sha256"] in known:
            yield _Read(row, None, OWN)
        elif seen.setdefault(row["sha256"], row["study"]) != row["study"]:
            yield _Read(row, None, "the same file is in another study, too")
        else:
            yield _Read(row, grey)


def _unusable(row: dict[str, Any]) -> str:
    """Why a picture has no place in the measurement, whatever it shows."""
    if not row["found"]:
        return "listed, and not in the archive"
    if row.get("patient") is None:
        return "its path is not of MURA's layout"
    if row["abnormal"] is None:
        return "its study has no label"
    if row.get("directory_label") not in (None, row["abnormal"]):
        return "its directory and the list give different labels"
    return ""


def _general(message: str, image: str) -> str:
    """A reason without the picture's name, so that equal reasons are counted together."""
    return message.removeprefix(f"{image}: ").removesuffix(".")
