"""What a version rests on: files beside the network, signed with it."""

from pathlib import Path

from pydantic import ValidationError

from components.artifacts.artifact import Facts
from components.artifacts.registration import RegisteredModel
from components.base import documents
from components.base.errors import DataRefused, first_line

FOLDER = Path("evidence")
VERSION = FOLDER / "version.json"
STUDIES = FOLDER / "studies.parquet"
EVALUATION = FOLDER / "evaluation"
TRAINING_CARD = FOLDER / "training.json"
GOLDEN = FOLDER / "golden"


class Evidence(Facts):
    """What the directory of a version binds together.

    <folder>/
        MLmodel, data/              `components.artifacts.predictor` draws them
        evidence/version.json       this
        evidence/studies.parquet    the studies of both splits and their probabilities, by keyed id and without names
        evidence/evaluation/        the evaluation's card, its scores as JSON, its reports and model cards
        evidence/training.json      the card of the model
        evidence/golden/            drawn pictures, and what ONNX Runtime answered to them
        model.sig                   the signature over all of it
    """

    registered: RegisteredModel
    """What is known of the version. The number is 0: the registry gives it afterwards."""
    logged_model: str
    """Id of the logged model that the directory is of, `m-...`. An older directory in its place is told by it."""
    shards_digest: str
    protocol_digest: str
    archive_md5: str | None
    weights_sha256: str
    """Of the model's file of weights, as `mura train` wrote it."""
    studies_sha256: str
    """Of what the table of studies says."""


def read(folder: Path) -> Evidence:
    """Read what a directory binds together. Verify its signature first.

    Raises:
        DataRefused: there is none, or it cannot be read.
    """
    file = folder / VERSION
    if not file.is_file():
        raise DataRefused(f"{folder}: {VERSION} is missing.")
    try:
        return Evidence.model_validate_json(documents.content(file))
    except (ValidationError, documents.TooLarge) as error:
        raise DataRefused(f"{file}: not a file that this version can read ({first_line(error)}).") from error
