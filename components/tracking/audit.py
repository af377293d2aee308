"""What was decided about a registered model: an append-only record in the registry.

The record of the model NAME is the registered model NAME-audit. Each entry is one version of it: the server numbers
them, and never gives a number twice. Two tags hold the two files of a small signed directory, `entry.json` and its
signature. So one request writes an entry whole, or not at all.

An entry names the sha256 of the last entry that counted when it was written. It counts if that is still so:

- The first entry counts if it names none. Another entry counts if it names the last one that counts before it.
- An entry that does not count is void. Of two that were written at the same time, the one of the lower number counts.
  Whoever wrote the other reads again, and decides again.
- An entry that was deleted leaves a gap in the numbers. A gap, or an entry whose signature is not of a trusted key,
  breaks the record: nothing after it counts.
- Only an entry `first` begins anew after that. It counts if no version lies between it and the last one that its writer
  saw.

Everybody computes the same from the list. The aliases follow the last entry that counts: see audit_alias.py. What this
cannot show: that the last entries were deleted, until the next one is written, or that the whole record was.
"""

import getpass
import logging
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from components import tracking
from components.artifacts.artifact import Facts
from components.artifacts.promotion import Decision, Question
from components.artifacts.registration import RegisteredModel
from components.base.errors import DataRefused, UsageError, first_line
from components.signing import directory, keys
from components.tracking import effects, failures

logger = logging.getLogger(__name__)

Action = Literal["found", "promoted", "kept", "refused", "rolled back", "first"]
MOVES: tuple[Action, ...] = ("found", "promoted", "rolled back", "first")
"""Actions that give the alias to a version."""
ENTRY = "entry.json"
MOVED = "moved"
"""Tag of an entry whose aliases have followed."""
_PAGE = 200  # versions in one answer
_MOST = 4000  # letters of a description; MLflow's database takes 5000
_LONGEST_REASON = 1000  # letters
# MLflow's server tries three times to find a free number, and then says this.
_CROWDED = "Model Version creation error"


class Entry(Facts):
    """One line of the record."""

    number: int = 0
    """Of the version that holds it. It is not among what is signed: the server gives it afterwards."""
    previous: str | None
    """sha256 (hex) of the last entry that counted when this one was written; None for none."""
    seen: int
    """The highest number that its writer saw in the record; 0 for none."""
    mark: str
    """Random: no two entries are equal."""
    alias: str
    action: Action
    who: str
    when: str
    """UTC, ISO 8601."""
    why: str
    """What its writer gave as the reason, or what happened; may be empty."""
    before: int | None
    """The version that held the alias; None for none."""
    after: int | None
    """The version that holds it now."""
    question: Question | None
    decision: Decision | None
    """None where nothing was decided."""
    evidence: dict[str, str]
    """Digests of the evidence, by the number of the version."""

    @property
    def text(self) -> str:
        """The file."""
        return self.model_dump_json(exclude={"number"})


class Audit(NamedTuple):
    """The record as it is now."""

    model: str
    """Name of the registered model that it is about."""
    entries: tuple[Entry, ...]
    """Those that count, oldest first; also those from before the last break."""
    void: tuple[int, ...]
    """Numbers of those that do not."""
    last: int
    """The highest number; 0 for none."""
    tip: str | None
    """sha256 (hex) of the last entry that counts, as it was written; None for none. The next one names it."""
    broken: str | None
    """Where the record is broken, in words, if nothing has begun anew since."""
    unmoved: frozenset[int]
    """Numbers of entries whose aliases have perhaps not followed."""

    def whole(self) -> "Audit":
        """Itself.

        Raises:
            DataRefused: it is broken.
        """
        if self.broken:
            raise DataRefused(
                f"The record of {self.model}, {name_of(self.model)}, is broken: {self.broken}. Find out who did it. "
                "Then begin a new record with `mura promote --first`."
            )
        return self

    def moves(self, alias: str) -> tuple[Entry, ...]:
        """The entries that gave an alias to a version."""
        return tuple(each for each in self.entries if each.alias == alias and each.action in MOVES)

    def champion(self, alias: str) -> int | None:
        """The version that should hold an alias."""
        moves = self.moves(alias)
        return moves[-1].after if moves else None

    def champions(self, alias: str) -> tuple[int, ...]:
        """The present champion, last, and those before it that nobody took back."""
        held: list[int] = []
        for each in self.moves(alias):
            if each.after is None:
                continue
            if each.action == "rolled back" and each.after in held:
                del held[held.index(each.after) :]
            held.append(each.after)
        return tuple(held)

    def known(self, alias: str, number: int | None) -> RegisteredModel | None:
        """What is signed here about a version that held an alias; None if nothing is."""
        told = (each.question.challenger for each in reversed(self.moves(alias)) if each.question)
        return next((each for each in told if each.version == number), None)

    def reference(self, alias: str) -> RegisteredModel | None:
        """The first champion since somebody last began anew, as the record has it."""
        moves = self.moves(alias)
        began = [each for each in moves if each.action == "first"]
        entry = began[-1] if began else moves[0] if moves else None
        return entry.question.challenger if entry and entry.question else None


def name_of(model: str) -> str:
    """The registered model that holds the record of another."""
    return f"{model}-audit"


def read(name: str) -> tuple[Entry, ...]:
    """The entries that count, oldest first.

    Args:
        name: of the registered model that the record is about.

    Raises:
        DataRefused: the record is broken; the message says where.
        UsageError: nobody's signatures are trusted here.
        ServiceUnreachable: MLflow does not answer.
    """
    return look(name).whole().entries


def champion(name: str, alias: str) -> int | None:
    """The number of the version that should hold an alias, as the record says. Raises as `read`."""
    return look(name).whole().champion(alias)


@failures.patient
def look(name: str) -> Audit:
    """The record, even if it is broken.

    Raises:
        UsageError: nobody's signatures are trusted here.
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"reading {name_of(name)}"):
        return _of(name, list(_versions(client, name)))


@failures.patient
def append(audit: Audit, entry: Entry) -> Entry | None:
    """Sign an entry and write it as the next one of a record.

    Args:
        audit: the record that its writer saw.
        entry: from `entry`.

    Returns:
        The entry with its number; None if it does not count, as somebody else wrote one since.

    Raises:
        DataRefused: the record is broken.
        UsageError: there is no key to sign with, or MLflow does not accept the name.
        ServiceUnreachable: MLflow does not answer.
    """
    signature = _signature(entry)
    client = tracking.connect()
    with tracking.refusals(f"writing into {name_of(audit.model)}"):
        _ensure_model(client, audit.model)
        find = partial(_find, client, audit.model, entry.mark)
        try:
            effects.ensure(find, partial(_create, client, audit.model, entry, signature))
        except MlflowException as error:
            if _CROWDED not in str(error):
                raise
            return None
        now = _of(audit.model, list(_versions(client, audit.model)))
    if entry.action != "first":
        now.whole()
    return next((each for each in now.entries if each.mark == entry.mark), None)


# Parameters: they are what an entry says.
def entry(
    audit: Audit,
    alias: str,
    action: Action,
    *,
    why: str,
    after: int | None,
    question: Question | None,
    decision: Decision | None,
    evidence: Mapping[str, str],
) -> Entry:
    """A new entry, by this user and now. It is not written yet.

    Args:
        audit: the record that it is for.
        alias: the alias that it is about.
        action: what happened.
        why: the reason, in words.
        after: the version that is to hold the alias.
        question: what was decided.
        decision: how.
        evidence: digests of the evidence, by the number of the version.

    Raises:
        UsageError: the reason is too long, or has bytes that are no text.
    """
    if len(why) > _LONGEST_REASON or not why.isprintable():
        raise UsageError(f"Expected a reason of one line and at most {_LONGEST_REASON} letters.")
    return Entry(
        previous=audit.tip,
        seen=audit.last,
        mark=secrets.token_hex(8),
        alias=alias,
        action=action,
        who=who(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        why=why,
        before=audit.champion(alias),
        after=after,
        question=question,
        decision=decision,
        evidence=dict(evidence),
    )


def who() -> str:
    """The user of the server, or that of this machine and its name."""
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return name
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have a number only.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def finished(client: MlflowClient, audit: Audit, number: int) -> None:
    """Write down that the aliases have followed an entry."""
    client.set_model_version_tag(name_of(audit.model), str(number), MOVED, "yes")


def _versions(client: MlflowClient, model: str) -> Iterator[ModelVersion]:
    """All versions that hold entries, lowest number first: what is added meanwhile is on the last page."""
    token = None
    while True:
        page = client.search_model_versions(
            f"name = '{name_of(model)}'", max_results=_PAGE, order_by=["version_number ASC"], page_token=token
        )
        yield from page
        if not (token := page.token):
            return


def _of(model: str, versions: list[ModelVersion]) -> Audit:
    """Which entries count."""
    found = {int(each.version): each for each in versions}
    counting: list[Entry] = []
    void: list[int] = []
    broken: str | None = None
    tip: str | None = None
    last = max(found, default=0)
    for number in range(1, last + 1):
        entry = _read(model, found[number]) if number in found else f"entry {number} was deleted"
        if isinstance(entry, str):
            broken = broken or entry
        elif entry.seen == number - 1 if entry.action == "first" else not broken and entry.previous == tip:
            counting.append(entry)
            broken, tip = None, sha256(found[number].tags[ENTRY].encode()).hexdigest()
        else:
            void.append(number)
    unmoved = frozenset(number for number, each in found.items() if MOVED not in each.tags)
    return Audit(model, tuple(counting), tuple(void), last, tip, broken, unmoved)


def _read(model: str, version: ModelVersion) -> Entry | str:
    """An entry of the record of a model; or why it cannot be believed, in words."""
    number = int(version.version)
    for name in (ENTRY, directory.SIGNATURE):
        if name not in version.tags:
            return f"entry {number} has no tag {name}"
    text = version.tags[ENTRY]
    if (doubt := _doubt(text, version.tags[directory.SIGNATURE], tuple(keys.trusted()))) is not None:
        return f"entry {number}: {doubt}"
    try:
        entry = Entry.model_validate_json(text).model_copy(update={"number": number})
    except ValidationError as error:
        return f"entry {number} is of another version of this program ({first_line(error)})"
    # Who can write into the registry can copy a signed entry.
    if entry.question is not None and entry.question.challenger.model != model:
        return f"entry {number} is of the record of {entry.question.challenger.model}"
    return entry


@lru_cache(maxsize=4096)
def _doubt(text: str, signature: str, trusted: tuple[keys.Trusted, ...]) -> str | None:  # noqa: ARG001 - by them
    """Why an entry is not believed, in words. A command reads the record often, and verifies each entry once."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / ENTRY).write_text(text, encoding="utf-8", newline="")
        (folder / directory.SIGNATURE).write_text(signature, encoding="utf-8", newline="")
        try:
            directory.verify(folder)
        except DataRefused as error:
            return str(error).removeprefix(f"{folder}: ").rstrip(".")
    return None


def _signature(entry: Entry) -> str:
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / ENTRY).write_text(entry.text, encoding="utf-8", newline="")
        directory.sign(folder)
        return (folder / directory.SIGNATURE).read_text(encoding="utf-8")


def _ensure_model(client: MlflowClient, model: str) -> None:
    try:
        client.create_registered_model(
            name_of(model),
            description=f"What was decided about {model}: one entry a version, signed. `mura history` reads it. Do not "
            "delete any.",
        )
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise


def _find(client: MlflowClient, model: str, mark: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name_of(model)}' and tags.mark = '{mark}'")
    return next(iter(found), None)


def _create(client: MlflowClient, model: str, entry: Entry, signature: str) -> ModelVersion:
    assert entry.question is not None, "each entry is about a version, whose run the server wants to know"
    run_id = entry.question.challenger.run_id
    tags = {"mark": entry.mark, "action": entry.action, ENTRY: entry.text, directory.SIGNATURE: signature}
    return client.create_model_version(
        name_of(model), source=f"runs:/{run_id}/model", run_id=run_id, tags=tags, description=sentence(entry)[:_MOST]
    )


def sentence(entry: Entry) -> str:
    """An entry in words, without its time and the reasons."""
    challenger = entry.question and entry.question.challenger.version
    instead = f" in place of version {entry.before}" if entry.before not in (None, entry.after) else ""
    stays = f"version {entry.after} stays" if entry.after else "there is none"
    said = {
        "found": f"Version {entry.after} held the alias {entry.alias} when this record began",
        "promoted": f"Version {entry.after} became the {entry.alias}{instead}",
        "first": f"Version {entry.after} became the {entry.alias}{instead}, compared with nobody: --first",
        "rolled back": f"Taken back: version {entry.after} is the {entry.alias} again{instead}",
        "kept": f"Version {challenger} did not become the {entry.alias}: {stays}",
        "refused": f"Version {challenger} was refused as the {entry.alias}: {stays}",
    }[entry.action]
    return f"{said}. By {entry.who}.{f' Reason: {entry.why}' if entry.why else ''}"
