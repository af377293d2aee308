"""Find the champion in the registry, decide, and move the alias."""

import json
import logging
from pathlib import Path

from components.artifacts.manifest import TEST, TUNING
from components.artifacts.promotion import REPORT, Promotion, PromotionFacts
from components.artifacts.registration import RegisteredModel, Registration, ranked
from components.base.errors import DataRefused, OutsideFailed, UsageError
from components.base.files import CHECKPOINT, json_sha256, write_text
from components.params.promote import PromoteParams
from components.params.protocol import ProtocolParams
from components.promote.decision import decide
from components.promote.page import draw, promotion_page
from components.tracking import model_registry

logger = logging.getLogger(__name__)


def run(registration: Registration, params: PromoteParams, out: Path) -> Promotion:
    """Do what `components.promote.promote` says."""
    candidates = _candidates(registration)
    protocol = _protocol(registration)
    challenger = ranked(candidates, protocol.primary_metric)[0]
    if fault := model_registry.fault(challenger):
        raise OutsideFailed(
            f"promote: {challenger.model} version {challenger.version} ({challenger.candidate}) cannot be loaded: "
            f"{fault}. Run `mura register` again: it publishes the model anew."
        )
    previous = model_registry.champion(challenger.model, params.alias)
    if previous is not None and (what := model_registry.contradiction(previous)):
        raise DataRefused(
            f"promote: the {params.alias}, {previous.model} version {previous.version}, is not what was registered: "
            f"{what}. Somebody changed it. In MLflow, set the tag right, or give the alias to another version."
        )
    same = previous is None or previous.version == challenger.version
    lost = None if previous is None or same else model_registry.fault(previous)
    decision = decide(previous, challenger, protocol, lost)
    # A run that was killed after it moved the alias finds the challenger as champion. The note that it left names the
    # champion before.
    intent = out / CHECKPOINT / "promotion.json"
    if previous == challenger and (begun := _begun(intent, challenger)):
        previous, decision = begun.previous, begun.decision
    facts = PromotionFacts(
        alias=params.alias,
        decision=decision,
        challenger=challenger,
        previous=previous,
        current=challenger if decision.promote else previous,
        candidates=candidates,
        opened=registration.facts.opened,
    )
    if decision.promote:
        _write_note(intent, facts)
        model_registry.set_alias(challenger, params.alias)
    logger.info("promote: %s: %s", decision.outcome, " ".join((*decision.reasons, *decision.on_test)))
    write_text(out / REPORT, promotion_page(facts, protocol, draw(facts, protocol, TEST)))
    # What DVC plots is of the tuning split.
    figures = draw(facts, protocol, TUNING)
    plots = out / "plots"
    plots.mkdir(exist_ok=True)
    (plots / "operating_points.png").write_bytes(figures.operating_points)
    (plots / "forest.png").write_bytes(figures.forest)
    return Promotion.seal(out, facts)


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


def _write_note(intent: Path, facts: PromotionFacts) -> None:
    intent.parent.mkdir(exist_ok=True)
    write_text(intent, _note(facts))


def _note(facts: PromotionFacts) -> str:
    """What is written down before the alias moves, with a checksum."""
    said = facts.model_dump(mode="json")
    return json.dumps({"facts": said, "checksum": json_sha256(said)})


def _begun(intent: Path, challenger: RegisteredModel) -> PromotionFacts | None:
    """The promotion of a challenger that was begun; None if there was none, or its note is damaged."""
    try:
        text = intent.read_text(encoding="utf-8")
        begun = PromotionFacts.model_validate(json.loads(text)["facts"])
    except FileNotFoundError:
        return None
    except (IsADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        text, begun = "", None
    if begun is None or _note(begun) != text:
        logger.warning("promote: the note of an earlier attempt, %s, is damaged; who was champion is lost", intent.name)
        return None
    return begun if begun.challenger == challenger and begun.decision.promote else None
