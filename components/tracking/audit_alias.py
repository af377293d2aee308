"""The aliases `champion` and `previous`: they follow the record of what was decided.

An entry is written first, then the aliases move, then the entry gets the tag `moved`. Whoever finds an entry without it
moves the aliases: its writer was killed, or is just doing so. Doing it twice does no harm. After that they look whether
a later entry counts, and let the aliases follow that one: MLflow cannot move an alias only if it is still as it was.

An alias that differs although its entry has the tag was moved behind the record's back. It stays, and no version is
promoted, until somebody decides: `mura rollback` or `mura promote --first`.
"""

import logging
import time
from typing import NamedTuple

from mlflow import MlflowClient

from components import tracking
from components.artifacts.differences import differences
from components.artifacts.promotion import Question
from components.artifacts.registration import RegisteredModel
from components.base.errors import DataRefused, UsageError
from components.tracking import audit, failures, model_registry
from components.tracking.audit import Audit, Entry

logger = logging.getLogger(__name__)

PREVIOUS = "previous"
"""The alias of the champion before; of the one that was taken back, where there is none."""
_LOOKS, _PAUSE = 3, 0.3  # at an alias that differs, and seconds between them: another process may be moving it


class Standing(NamedTuple):
    """Who is champion, by the record and by the alias."""

    audit: Audit
    champion: RegisteredModel | None
    """The version that the record names, as the registry has it; None if there is none, or it is gone."""
    gone: str | None
    """What happened to the champion behind the record's back, in a sentence; None if nothing."""


def settle(name: str, alias: str, *, anew: bool = False) -> Standing:
    """Finish what killed processes began, and say who is champion.

    A registry that has a champion and no record yet gets its first entry: the champion as it was found.

    Args:
        name: of the registered model.
        alias: of the champion.
        anew: whether a broken record will do, as the caller begins a new one.

    Raises:
        DataRefused: the record is broken.
        UsageError: the champion was not registered by this pipeline, or nobody's signatures are trusted here.
        ServiceUnreachable: MLflow does not answer.
    """
    check(alias)
    while True:
        now = audit.look(name)
        if now.broken and anew:
            return Standing(now, None, f"The record is broken: {now.broken}.")
        moves = now.whole().moves(alias)
        if moves:
            if moves[-1].number in now.unmoved:
                follow(name, alias)
            return standing(name, alias)
        held = model_registry.champion(name, alias)
        if held is None:
            return Standing(now, None, None)
        _write_found(now, alias, held)


def standing(name: str, alias: str, *, anew: bool = False) -> Standing:
    """Say who is champion, and change nothing. Arguments and errors as `settle`."""
    now, held = _looked(name, alias)
    if now.broken and anew:
        return Standing(now, None, f"The record is broken: {now.broken}.")
    expected = now.whole().champion(alias)
    number = held if expected is None else expected
    there = None if number is None else _version(now, alias, name, number)
    if expected is None or _agree(now, alias, held):
        gone = f"The {alias}, {name} version {number}, was deleted." if number is not None and there is None else None
    else:
        gone = _gone(name, alias, expected, held, there)
    return Standing(now, there, gone)


def _version(now: Audit, alias: str, name: str, number: int) -> RegisteredModel | None:
    """A champion: as the registry has it, unless that says otherwise than the record, which is signed.

    Whatever happened to the version's files and tags: the record says how good it was, and `model_registry.fault` says
    that it cannot be trusted any more.
    """
    known = now.known(alias, number)
    try:
        found = model_registry.version(name, number)
    except (DataRefused, model_registry.NotOurs):
        if known is None:
            raise
        return known
    return known if known and found and any(differences(known, found)) else found


def _looked(name: str, alias: str) -> tuple[Audit, int | None]:
    """The record and the version that has the alias. If they differ, another process may be moving it: look again."""
    for _ in range(_LOOKS):
        now = audit.look(name)
        held = model_registry.alias_holder(name, alias)
        if now.broken or _agree(now, alias, held):
            break
        time.sleep(_PAUSE)
    return now, held


def _agree(now: Audit, alias: str, held: int | None) -> bool:
    moves = now.moves(alias)
    return not moves or moves[-1].after == held or moves[-1].number in now.unmoved


@failures.patient
def follow(name: str, alias: str) -> None:
    """Let the aliases follow the last entry that counts.

    Raises:
        DataRefused: the record is broken.
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    done = 0
    while True:
        now = audit.look(name).whole()
        last = now.moves(alias)[-1]
        # After one's own move, even if another process has written that it is done: it may have been so before.
        if last.number == done:
            return
        with tracking.refusals(f"giving the alias {alias} to {name} version {last.after}"):
            if not _move(client, name, alias, now, last):
                return
            audit.finished(client, now, last.number)
        done = last.number


def check(alias: str) -> None:
    """Refuse an alias that has a meaning of its own.

    Raises:
        UsageError: it is `previous`.
    """
    if alias == PREVIOUS:
        raise UsageError(
            f"Expected an alias for the champion, got {alias}, which names the champion before. Set another."
        )


def _move(client: MlflowClient, name: str, alias: str, now: Audit, last: Entry) -> bool:
    """Give the aliases to the versions of an entry; False if its version was deleted meanwhile."""
    if not model_registry.is_there(client, name, last.after):
        return False
    client.set_registered_model_alias(name, alias, str(last.after))
    # Behind the first champion there is the one that was taken back. The alias is never deleted: with logins, only an
    # administrator may do that.
    former = [each for each in (*now.champions(alias)[-2::-1], last.before) if each not in (None, last.after)]
    if there := next((each for each in former if model_registry.is_there(client, name, each)), None):
        client.set_registered_model_alias(name, PREVIOUS, str(there))
    return True


def _write_found(now: Audit, alias: str, held: RegisteredModel) -> None:
    """Write down a champion from before there was a record."""
    why = f"{name_and_number(held)} was the {alias} before decisions were recorded."
    written = audit.append(
        now,
        audit.entry(
            now,
            alias,
            "found",
            why=why,
            after=held.version,
            question=Question(champion=None, challenger=held, protocol=held.protocol or {}),
            decision=None,
            evidence={},
        ),
    )
    if written is not None:
        logger.info("%s It is the first entry of %s.", why, audit.name_of(held.model))
        follow(held.model, alias)


def name_and_number(model: RegisteredModel) -> str:
    """A version as messages name it: `mura version 3`."""
    return f"{model.model} version {model.version}"


def _gone(name: str, alias: str, expected: int, held: int | None, there: RegisteredModel | None) -> str:
    if there is None:
        return f"The {alias}, {name} version {expected}, was deleted."
    if held is None:
        return f"The alias {alias} was deleted; the record says that {name} version {expected} holds it."
    return (
        f"The alias {alias} names {name} version {held}, and the record says version {expected}: somebody moved it "
        "by hand."
    )
