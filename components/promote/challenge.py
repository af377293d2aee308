"""Put a challenger to the champion: gather what the decision rests on, decide, write it into the record."""

import logging
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from components.artifacts.promotion import Decision, Question
from components.artifacts.registration import RegisteredModel, VersionComparison
from components.base.errors import DataRefused
from components.params.protocol import ProtocolParams
from components.promote.decision import decide, name
from components.tracking import audit, audit_alias, evidence_files, model_registry
from components.tracking.audit import Action, Audit, Entry
from components.tracking.audit_alias import Standing
from components.tracking.version_comparison import compare

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds before the next round, at most; doubled each time


class Asked(NamedTuple):
    """What a person says beside the candidates."""

    candidate: int | None = None
    """The version that is to be the challenger; None for the best candidate."""
    reason: str = ""
    first: bool = False
    """Whether to begin anew: the challenger is compared with nobody."""
    dry_run: bool = False
    """Whether to decide only, and write nothing."""


class Outcome(NamedTuple):
    """What was decided."""

    question: Question
    decision: Decision
    entry: Entry | None
    """In the record; None of a dry run, or where the record is broken and nothing begins anew."""
    current: RegisteredModel | None
    """The champion now."""
    again: bool = False
    """Whether it was decided before: the challenger is the champion by this decision."""


@evidence_files.read_once()
def challenge(challenger: RegisteredModel, alias: str, asked: Asked) -> Outcome:
    """Decide whether a challenger becomes the champion, and write down what was decided.

    Where somebody else writes an entry between our look at the record and our own entry, ours is void. Then everything
    is asked anew: there may be another champion. What is signed of a version is not fetched again.

    Args:
        challenger: a version that is in the registry.
        alias: of the champion.
        asked: what a person says.

    Raises:
        DataRefused: the record is broken, or the registry contradicts itself about the champion.
        ServiceUnreachable: MLflow does not answer.
    """
    fault, replayed = model_registry.fault_and_replay(challenger)
    known = _Known()
    pause = _PAUSE
    while True:
        standing = _standing(challenger.model, alias, asked)
        if fault is None and (begun := _begun(standing, challenger, alias, asked)):
            return begun
        question = _question(standing, challenger, alias, asked, known).model_copy(
            update={"challenger_fault": fault, "replay_fault": replayed}
        )
        decision = decide(question)
        current = challenger if decision.promote else standing.champion
        # Into a broken record only an entry can be written that begins anew.
        if asked.dry_run or (standing.audit.broken and not decision.promote):
            return Outcome(question, decision, None, current)
        new = _entry(standing, question, decision, alias, asked, known)
        entry = _same(standing.audit, new) or audit.append(standing.audit, new)
        if entry is not None:
            if decision.promote:
                audit_alias.follow(challenger.model, alias)
            return Outcome(question, decision, entry, current)
        logger.info(
            "promote: somebody else wrote into %s at the same time: deciding again", audit.name_of(challenger.model)
        )
        # Each of many waits for another time: together they would write void entries again.
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, _LONGEST_PAUSE)


class _Known:
    """What is known of the versions in question: fetched and verified once, and not again in each round."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], Any] = {}

    def once(self, ask: Callable[..., T], *models: RegisteredModel) -> T:
        """What a question about versions was answered, now or in an earlier round."""
        key = (ask, *((each.model, each.version, each.evaluation_digest) for each in models))
        if key not in self._found:
            self._found[key] = ask(*models)
        found: T = self._found[key]
        return found


def rules_of(model: RegisteredModel) -> dict[str, Any]:
    """The protocol that a version was measured under.

    Raises:
        DataRefused: it has none, or one of an older version of this program.
    """
    where = Path(f"{model.model} version {model.version}")
    return ProtocolParams.of_card(model.protocol, where).model_dump(mode="json")


def evidence(models: Iterable[RegisteredModel | None], known: _Known | None = None) -> dict[str, str]:
    """The digests of the evidence of versions, by number. One whose evidence cannot be trusted has none."""
    known = known or _Known()
    found = {str(each.version): known.once(_digest, each) for each in models if each is not None}
    return {number: digest for number, digest in found.items() if digest}


def _digest(model: RegisteredModel) -> str:
    try:
        return model_registry.evidence_digest(model)
    except DataRefused:
        return ""


def _standing(name: str, alias: str, asked: Asked) -> Standing:
    if asked.dry_run:
        return audit_alias.standing(name, alias, anew=asked.first)
    return audit_alias.settle(name, alias, anew=asked.first)


def _begun(standing: Standing, challenger: RegisteredModel, alias: str, asked: Asked) -> Outcome | None:
    """The promotion of the challenger, if it is the last thing that happened to the alias.

    A step that was killed, or runs again, has the same result.
    """
    moves = standing.audit.moves(alias)
    if standing.gone or not moves or (asked.first and moves[-1].action != "first"):
        return None
    last = moves[-1]
    if last.action not in ("promoted", "first") or last.question is None or last.decision is None:
        return None
    if last.question.challenger != challenger:
        return None
    return Outcome(last.question, last.decision, last, challenger, again=True)


def _question(standing: Standing, challenger: RegisteredModel, alias: str, asked: Asked, known: _Known) -> Question:
    """What is known of champion, challenger and reference; not whether the challenger can be trusted.

    Raises:
        DataRefused: the registry contradicts itself about the champion.
    """
    champion = standing.champion
    reference = standing.audit.reference(alias)
    other = champion is not None and champion.version != challenger.version
    lost = known.once(model_registry.fault, champion) if champion and other else None
    if champion is not None and lost is None and (what := known.once(model_registry.contradiction, champion)):
        raise DataRefused(
            f"promote: the {alias}, {champion.model} version {champion.version}, is not what was registered: "
            f"{what}. Somebody changed it. In MLflow, set the tag right, or take another version: `mura rollback`."
        )
    against = known.once(compare, challenger, champion) if champion and other and not asked.first else None
    return Question(
        champion=champion,
        challenger=challenger,
        reference=reference,
        protocol=rules_of(challenger),
        against_champion=against,
        against_reference=None if asked.first else _against_reference(challenger, reference, against, known),
        champion_fault=lost,
        taken_back=_taken_back(standing.audit, challenger, alias, asked),
        first=asked.first,
        gone=standing.gone,
    )


def _against_reference(
    challenger: RegisteredModel,
    reference: RegisteredModel | None,
    against_champion: VersionComparison | None,
    known: _Known,
) -> VersionComparison | None:
    if reference is None or reference.version == challenger.version:
        return None
    if against_champion is not None and against_champion.other == reference.version:
        return against_champion
    return known.once(compare, challenger, reference)


def _taken_back(record: Audit, challenger: RegisteredModel, alias: str, asked: Asked) -> str | None:
    """Who took a version back, in a sentence. It does not come back by itself, as a scheduled run would have it."""
    if asked.candidate == challenger.version:
        return None
    for each in reversed(record.moves(alias)):
        if _same_network(record, alias, each.after, challenger):
            return None
        if each.action == "rolled back" and _same_network(record, alias, each.before, challenger):
            return (
                f"{each.who} took {name(challenger)} back on {each.when[:10]} ({each.why.rstrip('.')}). To promote it "
                f"all the same: `mura promote --candidate {challenger.version}`."
            )
    return None


def _same_network(record: Audit, alias: str, number: int | None, challenger: RegisteredModel) -> bool:
    """Whether a version of the record is the challenger, or was registered of the same network."""
    known = record.known(alias, number)
    return number == challenger.version or (known is not None and known.model_digest == challenger.model_digest)


def _entry(
    standing: Standing, question: Question, decision: Decision, alias: str, asked: Asked, known: _Known
) -> Entry:
    action: Action = "first" if asked.first and decision.promote else _ACTIONS[decision.outcome]
    before = standing.audit.champion(alias)
    return audit.entry(
        standing.audit,
        alias,
        action,
        why=asked.reason,
        after=question.challenger.version if decision.promote else before,
        question=question,
        decision=decision,
        evidence=evidence((question.champion, question.challenger), known),
    )


_ACTIONS: dict[str, Action] = {"promoted": "promoted", "kept": "kept", "refused": "refused"}


def _same(record: Audit, new: Entry) -> Entry | None:
    """The entry that says what a new one would say, if nothing has moved the alias since: it is not written twice."""
    if record.broken:
        return None
    for each in reversed(record.entries):
        if each.alias != new.alias:
            continue
        if each.action in audit.MOVES:
            return None
        if (each.question, each.decision, each.why) == (new.question, new.decision, new.why):
            return each
    return None
