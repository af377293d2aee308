"""`mura register --adopt`: a version that was registered before versions were signed, registered anew."""

import logging
from pathlib import Path
from typing import TypeVar

from components import tracking
from components.artifacts.differences import differences
from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import ENSEMBLE, TrainedModel
from components.base.errors import DataRefused, MuraError, UsageError
from components.register import measured_again
from components.tracking import evidence_files, model_registry

A = TypeVar("A", TrainedModel, Evaluation)

ARTIFACTS = Path("artifacts")

logger = logging.getLogger(__name__)


def adopt(uri: str, models: list[Path], evaluations: list[Path]) -> RegisteredModel:
    """Measure, sign and replay a version, as a new one.

    Args:
        uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        models: directories, of which one may be its model; empty for those of `artifacts`.
        evaluations: the same for its evaluation.

    Returns:
        The new version.

    Raises:
        UsageError: there is no such version, it needs no adoption, or its model or evaluation is not here.
        DataRefused: its scores are not those of its evaluation, or its golden set is answered otherwise.
        ServiceUnreachable: MLflow does not answer.
    """
    named = model_registry.named(uri)
    who = f"{named.name} version {named.version}"
    old = model_registry.version(named.name, named.version)
    if old is None:
        raise UsageError(f"{who}: there is no such version.")
    if model_registry.evidence_digest(old):
        raise UsageError(f"{who} is signed already. `mura verify models:/{named.name}/{named.version}` looks at it.")
    model = _of(TrainedModel, old, old.model_digest, models or _places("model", old.candidate), who)
    evaluation = _of(Evaluation, old, old.evaluation_digest, evaluations or _places("evaluation", old.candidate), who)
    measured_again.check(model, evaluation)
    expected = evidence_files.facts(model, evaluation, named.name, old.run_id)
    for name, value, said in differences(expected, old.model_copy(update={"version": 0})):
        raise DataRefused(f"{who} cannot be adopted: its evaluation gives {name} {value}, the registry says {said}.")
    made = model_registry.ensure_version(
        named.name, model, evaluation, tracking.ensure_predictor(model, evaluation, named.name)
    )
    if (what := model_registry.replay(made)) is not None:
        raise DataRefused(f"{made.model} version {made.version}: its golden set is answered otherwise: {what}.")
    logger.info("register: %s is measured, signed and replayed as version %s", who, made.version)
    return made


def _places(kind: str, candidate: str) -> list[Path]:
    return [ARTIFACTS / kind / candidate, ARTIFACTS / ENSEMBLE / kind / candidate]


def _of(kind: type[A], old: RegisteredModel, digest: str, places: list[Path], who: str) -> A:
    """The artifact of a digest."""
    for place in places:
        try:
            found = kind.read(place)
        except MuraError as error:
            logger.info("register: %s", error)
            continue
        if found.digest == digest:
            return found
    raise UsageError(
        f"{who} cannot be adopted: expected the {kind.__name__} of digest {digest[:12]} in "
        f"{' or '.join(map(str, places))}, found none. It was made at code revision {old.code_revision[:12]}: check "
        "that out, `dvc pull`, and name its directories with --model and --evaluation."
    )
