"""Give the alias back to a champion of before."""

from components.artifacts.promotion import Question
from components.artifacts.registration import RegisteredModel
from components.base.errors import DataRefused, UsageError
from components.promote.challenge import Outcome, evidence, rules_of
from components.promote.decision import decide
from components.tracking import audit, audit_alias, evidence_files, model_registry
from components.tracking.audit_alias import Standing


@evidence_files.read_once()
def take_back(name: str, alias: str, number: int | None, reason: str) -> Outcome:
    """Give the alias back to an earlier champion, if its files are as they were and it still passes the floors.

    The same user with the same reason does not go back twice: a command that was killed has the same result when it
    runs again.

    Args:
        name: of the registered model.
        alias: of the champion.
        number: the version; None for the champion before the present one.
        reason: why, for the record.

    Raises:
        UsageError: there is no such version, it never was champion, or it is the champion.
        DataRefused: the record is broken, or the registry contradicts itself about the version.
        ServiceUnreachable: MLflow does not answer.
    """
    while True:
        standing = audit_alias.settle(name, alias)
        if done := _done(standing, alias, number, reason):
            return done
        target = _target(standing, name, alias, number)
        question = _question(standing, target, alias)
        decision = decide(question)
        new = audit.entry(
            standing.audit,
            alias,
            "rolled back" if decision.promote else "refused",
            why=reason,
            after=target.version if decision.promote else standing.audit.champion(alias),
            question=question,
            decision=decision,
            evidence=evidence((question.champion, target)),
        )
        entry = audit.append(standing.audit, new)
        if entry is not None:
            if decision.promote:
                audit_alias.follow(name, alias)
            return Outcome(question, decision, entry, target if decision.promote else standing.champion)


def _done(standing: Standing, alias: str, number: int | None, reason: str) -> Outcome | None:
    """The same, if it is the last thing that happened to the alias."""
    moves = standing.audit.moves(alias)
    if standing.gone or not moves:
        return None
    last = moves[-1]
    same = last.action == "rolled back" and (last.who, last.why) == (audit.who(), reason)
    if not same or number not in (None, last.after) or last.question is None or last.decision is None:
        return None
    return Outcome(last.question, last.decision, last, last.question.challenger)


def _target(standing: Standing, name: str, alias: str, number: int | None) -> RegisteredModel:
    """The version that is to be champion again."""
    champions = standing.audit.champions(alias)
    present = standing.audit.champion(alias)
    ever = {each.after for each in standing.audit.moves(alias)}
    if number is not None and number not in ever:
        raise UsageError(
            f"rollback: {name} version {number} never was the {alias}. `mura history` shows who was; `mura promote "
            f"--candidate {number}` puts it to the champion."
        )
    if number is not None and number == present and standing.gone is None:
        raise UsageError(f"rollback: {name} version {number} is the {alias} already.")
    for each in [number] if number is not None else list(reversed(champions[:-1])):
        found = model_registry.version(name, each)
        if found is None and number is None:
            continue
        if found is None:
            raise UsageError(f"rollback: {name} has no version {number} any more. Name another with --to.")
        if what := model_registry.contradiction(found):
            raise DataRefused(
                f"rollback: {name} version {each} is not what was registered: {what}. Somebody changed it. Name "
                "another version with --to."
            )
        return found
    raise UsageError(
        f"rollback: {name} has no earlier {alias} to go back to. `mura promote --first` begins anew with the best "
        "candidate."
    )


def _question(standing: Standing, target: RegisteredModel, alias: str) -> Question:
    """Whether the version would be let in if there were no champion: its files, its answers, the floors."""
    fault, replayed = model_registry.fault_and_replay(target)
    return Question(
        champion=standing.champion,
        challenger=target,
        reference=standing.audit.reference(alias),
        protocol=rules_of(target),
        challenger_fault=fault,
        replay_fault=replayed,
        back=True,
        gone=standing.gone,
    )
