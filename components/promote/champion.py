"""Find the challenger, put it to the champion, and write receipt, page and charts."""

import logging
from pathlib import Path

from components.artifacts.promotion import REPORT, Promotion, PromotionFacts
from components.artifacts.registration import Comparison, RegisteredModel, Registration, ranked
from components.base.errors import DataRefused, UsageError
from components.base.files import write_text
from components.params.promote import PromoteParams
from components.params.protocol import ProtocolParams
from components.promote.challenge import Asked, Outcome, challenge
from components.promote.decision import name
from components.promote.page import draw, promotion_page
from components.tracking import audit, evidence_files, model_registry

logger = logging.getLogger(__name__)


@evidence_files.read_once()
def run(registration: Registration, params: PromoteParams, out: Path, asked: Asked) -> Promotion:
    """Do what `components.promote.promote` says."""
    candidates = _candidates(registration)
    protocol = _protocol(registration)
    best = ranked(candidates, protocol.primary_metric)[0]
    challenger = best if asked.candidate is None else _chosen(best.model, asked.candidate)
    made = challenge(challenger, params.alias, asked)
    tell(made)
    previous = made.question.champion
    facts = PromotionFacts(
        alias=params.alias,
        decision=made.decision,
        challenger=challenger,
        previous=previous,
        current=made.current,
        candidates=candidates,
        question=made.question,
        opened=registration.facts.opened,
        comparison=_comparison(registration, challenger, previous),
    )
    write_text(out / REPORT, promotion_page(facts, protocol))
    figures = draw(facts, protocol)
    plots = out / "plots"
    plots.mkdir(exist_ok=True)
    (plots / "operating_points.png").write_bytes(figures.operating_points)
    (plots / "forest.png").write_bytes(figures.forest)
    return Promotion.seal(out, facts)


@evidence_files.read_once()
def by_hand(registration: Registration | None, params: PromoteParams, model: str, asked: Asked) -> Outcome:
    """Decide without a receipt.

    Args:
        registration: the candidates; None if `asked` names the challenger.
        params: the alias.
        model: name of the registered model.
        asked: what a person says.

    Raises:
        UsageError, DataRefused, ServiceUnreachable: as `components.promote.promote`.
    """
    if registration is None:
        assert asked.candidate is not None, "the caller has checked it"
        challenger = _chosen(model, asked.candidate)
    else:
        best = ranked(_candidates(registration), _protocol(registration).primary_metric)[0]
        challenger = best if asked.candidate is None else _chosen(best.model, asked.candidate)
    made = challenge(challenger, params.alias, asked)
    tell(made)
    return made


def tell(made: Outcome) -> None:
    """Log what was decided."""
    decision = made.decision
    if made.again and made.entry is not None:
        challenger = made.question.challenger
        record = f"entry {made.entry.number} of {audit.name_of(challenger.model)}, {made.entry.when[:10]}"
        logger.info("promote: %s is already the champion: %s", name(challenger), record)
        return
    logger.info("promote: %s: %s", decision.outcome, " ".join((*decision.reasons, *decision.on_test)))


def _chosen(model: str, number: int) -> RegisteredModel:
    """The version that somebody named."""
    if (found := model_registry.version(model, number)) is None:
        raise UsageError(f"promote: {model} has no version {number}. `mura models` lists them.")
    if what := model_registry.contradiction(found):
        raise DataRefused(
            f"promote: {model} version {number} is not what was registered: {what}. Somebody changed it. Run `mura "
            "register` again."
        )
    return found


def _candidates(registration: Registration) -> tuple[RegisteredModel, ...]:
    """The versions of a receipt, if the registry says the same of them."""
    candidates = registration.facts.versions
    if registration.facts.trial is not None:
        raise UsageError(
            f"promote: {registration.path} is of the experiment {registration.facts.trial}, where nothing is "
            "registered. Run `mura register` again, or `dvc repro`."
        )
    if not candidates:
        raise UsageError("promote: the registration is empty. Register at least one model.")
    for candidate in candidates:
        if not model_registry.exists(candidate):
            raise UsageError(
                f"promote: {candidate.model} version {candidate.version} ({candidate.candidate}) is not in this "
                "registry, or is another model there. Run `mura register` again."
            )
        if what := model_registry.contradiction(candidate):
            raise DataRefused(
                f"promote: {candidate.model} version {candidate.version} ({candidate.candidate}) is not what "
                f"{registration.path} says: {what}. Somebody changed one of the two. Run `mura register` again."
            )
    return candidates


def _comparison(
    registration: Registration, challenger: RegisteredModel, previous: RegisteredModel | None
) -> Comparison | None:
    """The difference of the two, if `register` found the same version with the alias."""
    pair = (challenger.version, previous and previous.version)
    return next((each for each in registration.facts.comparisons if (each.version, each.other) == pair), None)


def _protocol(registration: Registration) -> ProtocolParams:
    """The protocol that all candidates were measured under.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [candidate.protocol for candidate in registration.facts.versions]
    if found[0] is None or any(each != found[0] for each in found):
        raise UsageError(
            f"promote: {registration.path}: expected candidates that were measured under one protocol. Evaluate all of "
            "them again, and run `mura register`."
        )
    return ProtocolParams.of_card(found[0], registration.path / registration.CARD)
