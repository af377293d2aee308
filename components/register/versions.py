"""Make a version in the registry of each evaluated model."""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from components import tracking
from components.artifacts.evaluation import Evaluation, EvaluationFacts
from components.artifacts.registration import Registration, RegistrationFacts
from components.artifacts.trained_model import TrainedModel
from components.base.errors import UsageError
from components.base.files import json_sha256, write_text
from components.params.register import RegisterParams
from components.register import measured_again
from components.tracking import model_registry

logger = logging.getLogger(__name__)


def run(models: list[TrainedModel], evaluations: list[Evaluation], params: RegisterParams, out: Path) -> Registration:
    """Do what `components.register.register` says."""
    candidates = _pairs(models, evaluations)
    for model, evaluation in candidates:
        measured_again.check(model, evaluation)
    logger.info("register: %s as %s", ", ".join(model.facts.candidate for model, _ in candidates), params.model)
    versions = tuple(
        model_registry.ensure_version(params.model, model, evaluation, tracking.ensure_model(model))
        for model, evaluation in candidates
    )
    for version in versions:
        write_text(out / f"{version.candidate}.json", version.model_dump_json(indent=2) + "\n")
        logger.info("register: %s is %s version %s", version.candidate, version.model, version.version)
    return Registration.seal(out, RegistrationFacts(versions=versions))


def _pairs(models: list[TrainedModel], evaluations: list[Evaluation]) -> list[tuple[TrainedModel, Evaluation]]:
    """Each model with its evaluation.

    Raises:
        UsageError: there are none; one has no partner, or two; or they saw different data.
    """
    if not models:
        raise UsageError("register: expected at least one model and its evaluation, got none.")
    _check_names("model", (model.facts.candidate for model in models))
    _check_names("evaluation", (evaluation.facts.candidate for evaluation in evaluations))
    # Two candidates with one recipe have one digest: the name decides between them.
    found = {(evaluation.facts.candidate, evaluation.facts.model_digest): evaluation for evaluation in evaluations}
    keys = [(model.facts.candidate, model.digest) for model in models]
    for model, key in zip(models, keys, strict=True):
        if key not in found:
            raise UsageError(f"register: {model.path} has no evaluation among those given. Evaluate it first.")
    for key in found.keys() - set(keys):
        raise UsageError(
            f"register: {found[key].path} is the evaluation of a model that is not among those given "
            f"({key[0]}, {key[1][:12]}). Evaluate the models again."
        )
    _check_same("data", [*(model.facts.data_digest for model in models), *(e.facts.data_digest for e in evaluations)])
    _check_same("tuning studies", [evaluation.facts.scores.tuning_digest for evaluation in evaluations])
    _check_same("test studies", [evaluation.facts.scores.test_digest for evaluation in evaluations])
    _check_same("way of measuring", [_measure(evaluation.facts) for evaluation in evaluations])
    return [(model, found[key]) for model, key in zip(models, keys, strict=True)]


def _measure(facts: EvaluationFacts) -> str:
    """Digest of how scores were computed: the seed, and all choices but the number of images at once."""
    return json_sha256([facts.seed, {name: value for name, value in facts.params.items() if name != "batch_size"}])


def _check_names(what: str, candidates: Iterable[str]) -> None:
    for candidate, count in Counter(candidates).items():
        if count > 1:
            raise UsageError(
                f"register: expected one {what} of the candidate {candidate}, got {count}. Give each candidate its own "
                "name in params.yaml."
            )


def _check_same(what: str, digests: list[str]) -> None:
    if len(found := sorted({digest[:12] for digest in digests})) > 1:
        raise UsageError(
            f"register: expected candidates of the same {what}, got {', '.join(found)}. Their scores cannot be "
            "compared. Train and evaluate all of them again."
        )
