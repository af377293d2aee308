"""Join the members to one model, and write it."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import (
    ENSEMBLE,
    WEIGHTS,
    Member,
    Offsets,
    TrackedRun,
    TrainedModel,
    TrainedModelFacts,
)
from components.base import provenance
from components.base.errors import DataRefused, UsageError
from components.base.files import write_bytes
from components.base.words import count, in_words
from components.network import architectures, backend, weights_file
from components.network.combining import Part, combine
from components.params.ensemble import EnsembleParams

logger = logging.getLogger(__name__)


class Measured(NamedTuple):
    """A candidate, and what was measured of it."""

    model: TrainedModel
    evaluation: Evaluation

    @property
    def name(self) -> str:
        """The candidate's."""
        return self.model.facts.candidate

    @property
    def member(self) -> Member:
        """What the card of the ensemble says of it."""
        facts, line = self.model.facts, self.evaluation.facts.calibration
        assert facts.seed is not None, "an ensemble is no member"
        return Member(
            candidate=facts.candidate,
            architecture=facts.architecture,
            params=facts.params,
            seed=facts.seed,
            parameters=facts.parameters,
            model_digest=self.model.digest,
            evaluation_digest=self.evaluation.digest,
            intercept=line.intercept,
            slope=line.slope,
        )


def run(
    models: Sequence[TrainedModel], evaluations: Sequence[Evaluation], params: EnsembleParams, out: Path
) -> TrainedModel:
    """Do what `components.ensemble.ensemble` says."""
    measured = _pairs(models, evaluations, params)
    _check_same(measured)
    backend.prepare()
    started = time.monotonic()
    members, backwards = _that_rank(measured)
    logger.info("ensemble: %s of %s", params.candidate, in_words([each.name for each in members]))
    parts = [
        Part(each.name, architectures.load(each.model), each.member.intercept, each.member.slope) for each in members
    ]
    network = combine(params.candidate, parts, params.flips)
    write_bytes(out / WEIGHTS, weights_file.content(network))
    first = members[0].model.facts
    facts = TrainedModelFacts(
        candidate=params.candidate,
        architecture=ENSEMBLE,
        image_size=first.image_size,
        parameters=network.count_params(),
        params=params.model_dump(mode="json"),
        precision="float32",
        device=backend.device(),
        members=tuple(each.member for each in members),
        left_out=tuple(each.member for each in backwards),
        offsets=mean_offsets([each.model.facts.offsets for each in members]),
        seconds=round(sum(each.model.facts.seconds for each in members), 1),
        data_digest=first.data_digest,
        archive_md5=first.archive_md5,
        shards_digest=first.shards_digest,
        code_revision=provenance.code_revision(),
        environment=provenance.environment(),
        run=TrackedRun(run_id="", model_uri=""),
    )
    asked = "the image and its mirror image" if params.flips else "the image"
    logger.info(
        "ensemble: %s, asked about %s; %s weights, %.0f s",
        count(len(members), "member"),
        asked,
        f"{facts.parameters:,}",
        time.monotonic() - started,
    )
    return TrainedModel.seal(out, facts)


def mean_offsets(offsets: Sequence[Offsets]) -> Offsets:
    """The mean offset of each body part that trained a network, and the mean pooled one.

    A network has its pooled offset for a body part that did not train it, as `components.scores.offsets` has it.
    """
    parts = list(dict.fromkeys(part for each in offsets for part in each.body_part))
    return Offsets(
        body_part={
            part: sum(each.body_part.get(part, each.pooled) for each in offsets) / len(offsets) for part in parts
        },
        pooled=sum(each.pooled for each in offsets) / len(offsets),
    )


def _pairs(models: Sequence[TrainedModel], evaluations: Sequence[Evaluation], params: EnsembleParams) -> list[Measured]:
    """Each model with its evaluation, in the order of the members.

    Raises:
        UsageError: a member is missing, or there twice; a model is no member, or has no evaluation among those given.
    """
    names = [model.facts.candidate for model in models]
    expected = params.chosen(names)
    for name, times in Counter(names).items():
        if times > 1 or name not in expected:
            got = f"{times} of {name}" if times > 1 else name
            raise UsageError(
                f"ensemble: expected the models of {in_words(expected)}, each once, got {got}. Give the members that "
                "`ensembles` of params.yaml names."
            )
    if missing := [name for name in expected if name not in names]:
        raise UsageError(f"ensemble: expected the models of {in_words(expected)}, got none of {in_words(missing)}.")
    if len(models) < 2:
        raise UsageError(f"ensemble: expected at least two members, got {count(len(models), 'model')}.")
    found = {(each.facts.candidate, each.facts.model_digest): each for each in evaluations}
    measured = []
    for model in sorted(models, key=lambda each: expected.index(each.facts.candidate)):
        if model.facts.members:
            raise UsageError(f"ensemble: {model.path} is an ensemble itself. Name its members instead.")
        evaluation = found.pop((model.facts.candidate, model.digest), None)
        if evaluation is None:
            raise UsageError(f"ensemble: {model.path} has no evaluation among those given. Evaluate it first.")
        measured.append(Measured(model, evaluation))
    for other in found.values():
        raise UsageError(
            f"ensemble: {other.path} is the evaluation of a model that is not among those given "
            f"({other.facts.candidate}, {other.facts.model_digest[:12]}). Evaluate the models again."
        )
    return measured


def _check_same(measured: Sequence[Measured]) -> None:
    """Check that all members saw the same, and were measured on it.

    Raises:
        DataRefused: one did not. The message names it.
    """
    first = measured[0]
    for each in measured:
        one, other = first.model.facts, each.model.facts
        for what, expected, found in (
            ("the data", one.data_digest, other.data_digest),
            ("the shards", one.shards_digest, other.shards_digest),
            ("the image size", one.image_size, other.image_size),
            ("the shards", one.shards_digest, each.evaluation.facts.shards_digest),
        ):
            if expected != found:
                raise DataRefused(
                    f"ensemble: expected {each.name} to be of {what} of {first.name}, {str(expected)[:12]}, got "
                    f"{str(found)[:12]}. Train and evaluate it again, or leave it out of the members."
                )


def _that_rank(measured: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    """The members, and the candidates that rank backwards on tuning. A network whose slope is 0 would add a constant.

    Raises:
        DataRefused: all rank backwards.
    """
    backwards = [each for each in measured if each.evaluation.facts.calibration.slope == 0]
    members = [each for each in measured if each not in backwards]
    if not members:
        raise DataRefused(
            f"ensemble: {in_words([each.name for each in backwards])} rank backwards on tuning, or not at all, so no "
            "mean of them ranks. Train them longer, or name others in `ensembles` of params.yaml."
        )
    if backwards:
        logger.warning(
            "ensemble: %s left out: on tuning it ranks backwards, or not at all",
            in_words([each.name for each in backwards]),
        )
    return members, backwards
