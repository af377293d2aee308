"""Make trained and evaluated models versions in the registry."""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import Registration, RegistrationFacts
from components.artifacts.trained_model import TrainedModel
from components.base.errors import UsageError
from components.base.files import write_text
from components.params.register import RegisterParams

logger = logging.getLogger(__name__)


def run(models: list[TrainedModel], evaluations: list[Evaluation], params: RegisterParams, out: Path) -> Registration:
    """Do what `components.register.register` says."""
    candidates = pair(models, evaluations)
    logger.info("register: %s as %s", ", ".join(model.facts.architecture for model, _ in candidates), params.model)
    from components import tracking
    from components.tracking import model_registry

    versions = tuple(
        model_registry.ensure_version(params.model, model, evaluation, tracking.ensure_model(model))
        for model, evaluation in candidates
    )
    for version in versions:
        write_text(out / f"{version.architecture}.json", version.model_dump_json(indent=2) + "\n")
        logger.info("register: %s is %s version %s", version.architecture, version.model, version.version)
    return Registration.seal(out, RegistrationFacts(versions=versions))


def pair(models: list[TrainedModel], evaluations: list[Evaluation]) -> list[tuple[TrainedModel, Evaluation]]:
    """Each model with its evaluation, by architecture.

    Raises:
        UsageError: there are none; one has no partner, or two; or they saw different data.
    """
    if not models:
        raise UsageError("register: expected at least one model and its evaluation, got none.")
    _refuse_twins("model", (model.facts.architecture for model in models))
    _refuse_twins("evaluation", (evaluation.facts.architecture for evaluation in evaluations))
    by_model = {evaluation.facts.model_digest: evaluation for evaluation in evaluations}
    known = {model.digest for model in models}
    for model in models:
        if model.digest not in by_model:
            raise UsageError(f"register: {model.path} has no evaluation among those given. Evaluate it first.")
    for evaluation in evaluations:
        if evaluation.facts.model_digest not in known:
            raise UsageError(
                f"register: {evaluation.path} is the evaluation of a model that is not among those given "
                f"({evaluation.facts.model_digest[:12]}). Evaluate the models anew."
            )
    data = [*(model.facts.data_digest for model in models), *(e.facts.data_digest for e in evaluations)]
    _refuse_strangers("data", data)
    _refuse_strangers("tuning studies", [evaluation.facts.scores.tuning_digest for evaluation in evaluations])
    _refuse_strangers("test studies", [evaluation.facts.scores.test_digest for evaluation in evaluations])
    return [(model, by_model[model.digest]) for model in sorted(models, key=lambda model: model.facts.architecture)]


def _refuse_twins(what: str, architectures: Iterable[str]) -> None:
    for architecture, count in Counter(architectures).items():
        if count > 1:
            raise UsageError(f"register: expected one {what} of {architecture}, got {count}.")


def _refuse_strangers(what: str, digests: list[str]) -> None:
    if len(found := sorted({digest[:12] for digest in digests})) > 1:
        raise UsageError(
            f"register: expected candidates of the same {what}, got {', '.join(found)}; their scores do not compare. "
            "Train and evaluate all of them anew."
        )
