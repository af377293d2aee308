"""`mura register --adopt`: a version that was registered before versions were signed, registered anew."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from components import tracking
from components.artifacts.differences import differences
from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import ENSEMBLE, TrainedModel
from components.base.errors import DataRefused, MuraError, UsageError
from components.base.words import in_words
from components.params.protocol import ProtocolParams
from components.register import measured_again
from components.tracking import evidence_files, model_registry

A = TypeVar("A", TrainedModel, Evaluation)

ARTIFACTS = Path("artifacts")
NEW = ARTIFACTS / "adopted"
"""Where a new evaluation may lie: no stage writes there."""

logger = logging.getLogger(__name__)


def adopt(uri: str, models: list[Path], evaluations: list[Path]) -> RegisteredModel:
    """Measure, sign and replay a version, as a new one.

    The model is found by its digest. Where its evaluation is of an older version of this program, which did not measure
    all that the gate asks for, a new evaluation of the same model takes its place; the log says so.

    Args:
        uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        models: directories, of which one may be its model; empty for those of `artifacts`.
        evaluations: the same for its evaluation, or a new one of the same model.

    Returns:
        The new version.

    Raises:
        UsageError: there is no such version, it needs no adoption, its model is not here, or no evaluation of it that
            has what the gate asks for.
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
    model = _model(old, models or _places("model", old), who)
    evaluation = _evaluation(old, model, evaluations or _places("evaluation", old), who)
    measured_again.check(model, evaluation)
    if evaluation.digest == old.evaluation_digest:
        _check_scores(old, evidence_files.facts(model, evaluation, named.name, old.run_id), who)
    else:
        says = "register: the scores are of a new evaluation, %s: test AUROC %s; %s was registered with %s"
        found, before = evaluation.facts.scores.test.auroc, old.scores.test.auroc
        logger.warning(says, evaluation.path, found, who, before)
    made = model_registry.ensure_version(
        named.name, model, evaluation, tracking.ensure_predictor(model, evaluation, named.name)
    )
    if (what := model_registry.replay(made)) is not None:
        raise DataRefused(f"{made.model} version {made.version}: its golden set is answered otherwise: {what}.")
    logger.info("register: %s is measured, signed and replayed as version %s", who, made.version)
    return made


def _check_scores(old: RegisteredModel, expected: RegisteredModel, who: str) -> None:
    """Check that the registry says of a version what its own evaluation gives.

    Raises:
        DataRefused: it does not.
    """
    # Versions from before the gate do not say what it asks.
    said = old.model_copy(update={"version": 0, "gate": old.gate or expected.gate})
    for name, value, other in differences(expected, said):
        raise DataRefused(f"{who} cannot be adopted: its evaluation gives {name} {value}, the registry says {other}.")


def _places(kind: str, old: RegisteredModel) -> list[Path]:
    return [ARTIFACTS / kind / old.candidate, ARTIFACTS / ENSEMBLE / kind / old.candidate]


def _model(old: RegisteredModel, places: list[Path], who: str) -> TrainedModel:
    """The model of a version, by its digest."""
    for found in _there(TrainedModel, places):
        if found.digest == old.model_digest:
            return found
    raise UsageError(
        f"{who} cannot be adopted: expected the TrainedModel of digest {old.model_digest[:12]} in "
        f"{' or '.join(map(str, places))}, found none. It was made at code revision {old.code_revision[:12]}: check "
        "that out, `dvc pull`, and name its directory with --model."
    )


def _evaluation(old: RegisteredModel, model: TrainedModel, places: list[Path], who: str) -> Evaluation:
    """An evaluation of a model that has what the gate asks for: that of the version, or else another one."""
    of_model = [each for each in _there(Evaluation, places) if each.facts.model_digest == model.digest]
    found = [each for each in of_model if not _missing(each)]
    if found:
        return next((each for each in found if each.digest == old.evaluation_digest), found[0])
    why = "found none"
    if of_model:
        why = f"{of_model[0].path} is of an older version of this program, without {in_words(_missing(of_model[0]))}"
    raise UsageError(
        f"{who} cannot be adopted: expected an Evaluation of {model.path} with all that the gate asks for in "
        f"{' or '.join(map(str, places))}; {why}. Make one: `mura evaluate --manifest {ARTIFACTS / 'valid_manifest'} "
        f"--shards {ARTIFACTS / 'shards'} --model {model.path} --out {NEW / old.candidate}`, with the data that the "
        f"model was trained on. Then name both: --model {model.path} --evaluation {NEW / old.candidate}"
    )


def _missing(evaluation: Evaluation) -> list[str]:
    """What the gate asks for and the protocol of an evaluation lacks."""
    return [name for name in ProtocolParams.model_fields if name not in evaluation.facts.protocol]


def _there(kind: type[A], places: list[Path]) -> Iterator[A]:
    """The artifacts that can be read."""
    for place in places:
        try:
            yield kind.read(place)
        except MuraError as error:
            logger.info("register: %s", error)
