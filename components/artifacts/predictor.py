"""A registered model as a directory: networks, and what makes verdicts of their answers."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from components.artifacts.artifact import Facts, Provenance
from components.artifacts.evaluation import Calibration, Evaluation, Familiarity, Scores
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import Offsets, TrainedModel
from components.base import documents
from components.base.errors import DataRefused, UsageError, first_line
from components.base.files import file_sha256
from components.base.names import Name

DATA = Path("data")
NETWORK = DATA / "model.keras"
"""The network as Keras has it, where MLflow's Keras flavour looks for it."""
ONNX = DATA / "network.onnx"
CARD = DATA / "predictor.json"
REGISTERED = "models:/"
"""How the URI of a registered version begins."""
VERSION = Path("registered_model_meta")
"""MLflow writes this file when it fetches a version. Its number is given after the signature, which leaves it out."""


class PredictorCard(Facts):
    """What turns the logits of views into the verdict of a study, and what that rests on.

    <folder>/
        MLmodel             MLflow's description of it
        data/model.keras    from pixels, [B, S, S, 1] in [0, 255], to the logit [B, 1]
        data/network.onnx   the same, with `flips` inside: from `pixels`, uint8 [N, S, S, 1], to `logit`, float32
                            [N, 1], `map`, float32 [N, h, w]: what each place adds to the logit, and `features`,
                            float32 [N, D]: what the network saw, for the distance to the training pictures
        data/predictor.json this card
        evidence/           what it rests on (components/artifacts/evidence.py)
        model.sig           the signature over all of that
        registered_model_meta  which version it is, in a directory of `mura fetch`: a name for people, not signed
    """

    candidate: Name
    architecture: Name
    model_digest: str
    evaluation_digest: str
    data_digest: str
    code_revision: Provenance[str]
    image_size: int
    """Side of the square that the network sees, pixels."""
    flips: bool
    """Whether a logit is the mean of those that the Keras network gives to the view and its mirror image."""
    calibration: Calibration
    offsets: Offsets
    operating_point: str
    scores: Scores
    """With the threshold."""
    network_sha256: str
    """Of the Keras file."""
    onnx_sha256: str | None
    """Of the ONNX file; None for versions that were registered before there was one."""
    familiarity: Familiarity | None = None
    """What tells whether a view is like those of the training; None where that is not known."""

    @property
    def threshold(self) -> float:
        """`probability >= threshold` is called abnormal."""
        return self.scores.threshold

    @classmethod
    def of(cls, model: TrainedModel, evaluation: Evaluation, network_sha256: str, onnx_sha256: str) -> "PredictorCard":
        """That of a model with its evaluation.

        Args:
            model: what answers.
            evaluation: of that model.
            network_sha256: of the Keras file.
            onnx_sha256: of the ONNX file.
        """
        facts, measured = model.facts, evaluation.facts
        return cls(
            candidate=facts.candidate,
            architecture=facts.architecture,
            model_digest=model.digest,
            evaluation_digest=evaluation.digest,
            data_digest=facts.data_digest,
            code_revision=facts.code_revision,
            image_size=facts.image_size,
            flips=measured.flips,
            calibration=measured.calibration,
            offsets=facts.offsets,
            operating_point=str(measured.protocol["operating_point"]),
            scores=measured.scores,
            network_sha256=network_sha256,
            onnx_sha256=onnx_sha256,
            familiarity=evaluation.familiarity(),
        )


class Version(Facts):
    """Which version of a registered model a directory is."""

    model: str = ""
    """Name of the registered model; empty where it is not known."""
    version: int = 0


def read(folder: Path) -> tuple[PredictorCard, Version]:
    """The card of a directory, and which version it is if `mura fetch` wrote it.

    Raises:
        UsageError: it is no such directory.
        DataRefused: a file of it cannot be read.
    """
    if not (folder / CARD).is_file():
        raise UsageError(f"{folder}: expected a directory that `mura fetch` wrote, with {CARD}; found none.")
    try:
        return PredictorCard.model_validate_json(documents.content(folder / CARD)), _version(folder / VERSION)
    except (ValidationError, documents.TooLarge) as error:
        raise DataRefused(
            f"{folder}: not the files of a version that this program can read ({first_line(error)}). Fetch it again."
        ) from error


def difference(folder: Path, card: PredictorCard, model: RegisteredModel) -> str | None:
    """The first thing in which a directory is not what is known of its version, in words; None if there is none.

    Args:
        folder: the directory.
        card: its card.
        model: what is known of the version.
    """
    for name in sorted(set(PredictorCard.model_fields) & set(RegisteredModel.model_fields)):
        if getattr(card, name) != getattr(model, name):
            return f"its card has another {name} than the registry"
    for file, sha256 in ((NETWORK, card.network_sha256), (ONNX, card.onnx_sha256)):
        if sha256 is not None and file_sha256(folder / file) != sha256:
            return f"{file} is not the file on its card"
    return None


def _version(file: Path) -> Version:
    """Which version MLflow says that it fetched; no name if it says nothing that can be understood."""
    try:
        said = documents.yaml_of(documents.content(file).decode())
        return Version(model=str(said["model_name"]), version=int(said["model_version"]))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return Version()
