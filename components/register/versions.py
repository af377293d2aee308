"""Make a version in the registry of each evaluated model."""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from components import tracking
from components.artifacts.evaluation import Evaluation, EvaluationFacts
from components.artifacts.registration import (
    FOREST,
    REPORT,
    Opened,
    RegisteredModel,
    Registration,
    RegistrationFacts,
    other_protocols,
    ranked,
)
from components.artifacts.trained_model import TrainedModel
from components.base.errors import UsageError
from components.base.files import json_sha256, write_text
from components.base.words import count, in_words
from components.params.protocol import ProtocolParams
from components.params.register import RegisterParams
from components.register import measured_again
from components.register.comparison import Entry, of_first, with_first, with_holder
from components.register.page import Compared, draw, registration_page
from components.tracking import measured_models, model_registry

logger = logging.getLogger(__name__)


def run(models: list[TrainedModel], evaluations: list[Evaluation], params: RegisterParams, out: Path) -> Registration:
    """Do what `components.register.register` says."""
    candidates = _pairs(models, evaluations)
    found = [measured_again.check(model, evaluation) for model, evaluation in candidates]
    logger.info("register: %s as %s", ", ".join(model.facts.candidate for model, _ in candidates), params.model)
    versions = tuple(
        model_registry.ensure_version(
            params.model, model, evaluation, tracking.ensure_predictor(model, evaluation, params.model)
        )
        for model, evaluation in candidates
    )
    for version in versions:
        write_text(out / f"{version.candidate}.json", version.model_dump_json(indent=2) + "\n")
        says = "register: %s is %s version %s, test AUROC %s"
        logger.info(says, version.candidate, version.model, version.version, version.scores.test.auroc)
    entries = [
        Entry(version, model, evaluation.facts, measured)
        for version, (model, evaluation), measured in zip(versions, candidates, found, strict=True)
    ]
    compared = _compared(params.model, entries, _opened(versions))
    figures = draw(compared)
    (out / FOREST).write_bytes(figures.forest)
    write_text(out / REPORT, registration_page(compared, figures))
    return Registration.seal(out, compared.facts)


def _compared(name: str, entries: list[Entry], opened: Opened) -> Compared:
    """Compare the candidates with each other, and with the versions that hold an alias now."""
    versions = tuple(entry.version for entry in entries)
    protocol = ProtocolParams.model_validate(versions[0].protocol)
    by_number = {entry.version.version: entry for entry in entries}
    ordered = [by_number[version.version] for version in ranked(versions, protocol.primary_metric)]
    aliases = model_registry.aliases(name)
    others = [
        with_holder(ordered, model_registry.holder(name, number, held))
        for number, held in aliases.items()
        if number not in by_number
    ]
    for contrast in others:
        for missing in contrast.missing:
            logger.warning("register: no difference: %s", missing)
    facts = RegistrationFacts(versions=versions, opened=opened, comparisons=of_first(ordered, others, aliases))
    among = with_first(ordered)
    return Compared.of(facts, ordered, aliases, [among, *others] if among else others)


def _opened(versions: tuple[RegisteredModel, ...]) -> Opened:
    """How often the test split of these versions was opened, as far as the registry knows."""
    found = measured_models.on_test(versions[0].scores.test_digest)
    now = versions[0].protocol
    assert now is not None
    models = found.models | {version.model_digest for version in versions}
    opened = Opened(models=len(models), protocols=other_protocols(found.versions, now))
    logger.info("register: %s measured on this test split so far", count(opened.models, "model"))
    for each in opened.protocols:
        says = "register: the protocol has changed since %s: %s"
        logger.warning(says, in_words(each.versions), "; ".join(each.differences))
    return opened


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
    """Digest of how scores were computed: the seed, the protocol, and all choices but the number of images at once."""
    params = {name: value for name, value in facts.params.items() if name != "batch_size"}
    return json_sha256([facts.seed, facts.protocol, params])


def _check_names(what: str, candidates: Iterable[str]) -> None:
    for candidate, times in Counter(candidates).items():
        if times > 1:
            raise UsageError(
                f"register: expected one {what} of the candidate {candidate}, got {times}. Give each candidate its own "
                "name in params.yaml."
            )


def _check_same(what: str, digests: list[str]) -> None:
    if len(found := sorted({digest[:12] for digest in digests})) > 1:
        raise UsageError(
            f"register: expected candidates of the same {what}, got {', '.join(found)}. Their scores cannot be "
            "compared. Train and evaluate all of them again."
        )
