"""Commands that ask the registry who is trusted and why, and that change it: `mura promote` by hand, and others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.base.errors import GateRefused, UsageError
from components.base.terminal import tell
from components.params import DEFAULT

if TYPE_CHECKING:
    from components.artifacts.promotion import Decision
    from components.promote.challenge import Outcome
    from components.tracking.audit import Entry
    from components.tracking.version_list import Listed

_PARAMS = click.option(
    "--params",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT,
    show_default=True,
    help="The file that names the registered model and the alias.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
VERSION = click.IntRange(1, 10**9)
"""A number that databases can hold."""
REGISTRATION = Path("artifacts/registration")


def promote() -> click.Command:
    """The step `promote`. Without `--out` it is done by hand: no receipt is written, and some flags are added."""
    from components.cli import steps

    command = steps.command("promote")
    run_step = command.callback
    assert run_step is not None, "a step has a callback"
    command.params += [
        click.Option(["--dry-run"], is_flag=True, help="Decide only, and write nothing. Without --out."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON. Without --out."),
    ]
    for option in command.params:
        if option.name in ("registration", "out"):
            option.required = False
    command.callback = _either(run_step)
    return command


def _either(run_step: Callable[..., Any]) -> Callable[..., None]:
    def callback(dry_run: bool, as_json: bool, **flags: Any) -> None:
        if flags["out"] is None and flags["executor_input"] is None:
            _promote_by_hand(flags, dry_run, as_json)
            return
        context = click.get_current_context()
        if dry_run or as_json:
            raise click.UsageError("--dry-run and --json go without --out: they write no receipt.", context)
        if flags["registration"] is None and flags["executor_input"] is None:
            raise click.UsageError("Missing option '--registration'.", context)
        run_step(**flags)

    return callback


def _promote_by_hand(flags: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    from components import tracking
    from components.artifacts.registration import Registration
    from components.cli import steps
    from components.params.document import read_params
    from components.params.promote import PromoteParams
    from components.promote import champion, number_of
    from components.promote.challenge import Asked

    if flags["settings"] is not None:
        raise click.UsageError("--settings needs --out.", click.get_current_context())
    params = steps.section_of(PromoteParams, "--params", flags["params"])
    assert isinstance(params, PromoteParams), "it was asked for"
    tracking.require("promote")
    asked = Asked(number_of(flags["candidate"]), flags["reason"] or "", flags["first"], dry_run)
    place = flags["registration"] or (REGISTRATION if asked.candidate is None else None)
    file = Path(flags["params"].rpartition(":")[0] or flags["params"])
    model = "" if place else read_params(file if file.is_file() else DEFAULT).register_.model
    made = champion.by_hand(Registration.read(place) if place else None, params, model, asked)
    refused = made.decision.outcome == "refused"
    if as_json or not refused:
        _tell_outcome(made, as_json)
    if refused:
        raise GateRefused(f"promote: {made.question.challenger.candidate} is refused: {_all(made.decision)}")


def _tell_outcome(made: "Outcome", as_json: bool) -> None:
    challenger, current = made.question.challenger, made.current
    if as_json:
        said = {
            "outcome": made.decision.outcome,
            "model": challenger.model,
            "challenger": challenger.version,
            "champion": current and current.version,
            "entry": made.entry and made.entry.number,
            "decision": made.decision.model_dump(mode="json"),
        }
        tell(json.dumps(said))
        return
    if made.again:
        tell(f"{challenger.model} version {challenger.version} is already the champion.")
        return
    where = f", entry {made.entry.number} of {challenger.model}-audit" if made.entry else ", written nowhere: a dry run"
    tell(f"{made.decision.outcome}{where}: {' '.join(made.decision.reasons)}")


def _all(decision: "Decision") -> str:
    return " ".join((*decision.reasons, *decision.on_test))


@click.command()
@click.option("--to", "number", type=VERSION, metavar="V", help="[default: the champion before]")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record.")
@_PARAMS
@_JSON
def rollback(number: int | None, reason: str, file: Path, as_json: bool) -> None:
    """Give the alias back to an earlier champion.

    Its files and signature are verified, its golden set is answered again, and it must still pass the floors of the
    protocol. The version that loses the alias does not get it back by itself: `mura promote --candidate V` gives it.
    """
    from components.promote import taking_back

    model, alias = _names(file)
    made = taking_back.take_back(model, alias, number, reason)
    version = made.question.challenger.version
    if as_json:
        _tell_outcome(made, as_json)
    if made.decision.outcome == "refused":
        raise GateRefused(f"rollback: {model} version {version} is refused: {_all(made.decision)}")
    if not as_json:
        tell(f"{model} version {version} is the {alias} again.")


@click.command()
@_PARAMS
@_JSON
def champion(file: Path, as_json: bool) -> None:
    """Print which version is trusted, since when, and why.

    The exit code is 4 if somebody deleted it or moved the alias behind the back of the record.
    """
    from components.tracking import audit_alias

    model, alias = _names(file)
    now = audit_alias.standing(model, alias)
    if now.gone:
        raise GateRefused(f"{now.gone} `mura rollback` or `mura promote --first` decides who follows.")
    moves = now.audit.moves(alias)
    found, last = now.champion, moves[-1] if moves else None
    if as_json:
        said = {"model": model, "alias": alias, "version": found and found.version}
        tell(json.dumps(said | {"entry": last and _plain(last.model_dump(mode="json"))}))
    elif found is None:
        tell(f"{model} has no {alias}.")
    else:
        from components.params.train import title

        about = f"{title(found.candidate, found.architecture)}, AUROC {found.tuning('auroc')} on tuning"
        tell(f"{model} version {found.version} is the {alias}: {about}.")
        for line in _told(last) if last else ["No record says how it became so."]:
            tell(line)


@click.command()
@_PARAMS
@_JSON
def history(file: Path, as_json: bool) -> None:
    """Print what was decided about the registered model: who, when, and why.

    The exit code is 3 if an entry of the record is missing or was changed.
    """
    from components.tracking import audit

    model, _ = _names(file)
    found = audit.look(model)
    if as_json:
        lines = [_plain(each.model_dump(mode="json")) for each in found.entries]
        tell(json.dumps({"model": model, "entries": lines, "void": list(found.void), "broken": found.broken}))
    else:
        if not found.last:
            tell(f"Nothing was decided about {model} yet.")
        for each in found.entries:
            for line in _told(each):
                tell(line)
        if found.void:
            several = f"{len(found.void)} entries were" if len(found.void) > 1 else "1 entry was"
            tell(f"{several} too late, and decided again: {', '.join(map(str, found.void))}.")
    found.whole()


@click.command()
@_PARAMS
@_JSON
def models(file: Path, as_json: bool) -> None:
    """List the versions of the registered model, with their scores on tuning and their aliases."""
    from components.tracking import version_list

    model, _ = _names(file)
    found = version_list.versions(model)
    if as_json:
        tell(json.dumps([_line(each) for each in found]))
        return
    rows = [("version", "candidate", "tuning AUROC (95 %)", "tuning kappa (95 %)", "registered", "aliases")]
    for each in found:
        line = _line(each)
        names = line["candidate"] or each.why or ""
        rows.append((str(each.number), names, line["auroc"], line["kappa"], each.when[:10], ", ".join(each.aliases)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        tell("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@click.command()
@click.argument("one", type=VERSION, metavar="A")
@click.argument("other", type=VERSION, metavar="B")
@click.option("--test", "with_test", is_flag=True, help="Also on the test split, which nobody should choose by.")
@_PARAMS
@_JSON
def compare(one: int, other: int, with_test: bool, file: Path, as_json: bool) -> None:
    """Print what version A has more than version B, on the same studies, with 95 % intervals."""
    from components.artifacts.evaluation import METRIC_TITLES
    from components.tracking import model_registry, version_comparison

    model, _ = _names(file)
    pair = []
    for number in (one, other):
        if (found := model_registry.version(model, number)) is None:
            raise UsageError(f"compare: {model} has no version {number}. `mura models` lists them.")
        pair.append(found)
    made = version_comparison.compare(*pair)
    if as_json:
        tell(made.model_dump_json(exclude=None if with_test else {"test"}))
        return
    tell(f"{model} version {one} minus version {other}:")
    for split in ("tuning", "test") if with_test else ("tuning",):
        difference = made.of(split)
        for name in () if difference is None else type(difference).model_fields:
            tell(f"  {split:6}  {METRIC_TITLES.get(name, name):14}  {getattr(difference, name)}")
    for sentence in made.missing:
        tell(f"  {sentence}")


def _names(file: Path) -> tuple[str, str]:
    """The registered model and the alias of the champion."""
    from components.params.document import read_params

    params = read_params(file)
    return params.register_.model, params.promote.alias


def _told(entry: "Entry") -> list[str]:
    """An entry as lines of a log."""
    from components.tracking import audit

    moment = f"{entry.when[:10]} {entry.when[11:16]} UTC"
    lines = [f"{moment}  {entry.number:>3}  {audit.sentence(entry)}"]
    if entry.decision is not None and entry.action != "rolled back":
        lines += [f"{'':27}{reason}" for reason in entry.decision.reasons]
    return lines


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry without the facts of versions, which are in the registry, and without what only the record needs."""
    return {name: value for name, value in entry.items() if name not in ("question", "mark", "seen")}


def _line(each: "Listed") -> dict[str, Any]:
    tuning = each.model.scores.tuning if each.model else None
    return {
        "version": each.number,
        "candidate": each.model and each.model.candidate,
        "why": each.why,
        "auroc": str(tuning.auroc) if tuning else "",
        "kappa": str(tuning.cohen_kappa) if tuning else "",
        "registered": each.when,
        "aliases": list(each.aliases),
    }


COMMANDS: dict[str, click.Command] = {
    "rollback": rollback,
    "champion": champion,
    "history": history,
    "models": models,
    "compare": compare,
}
"""In the order of the help."""
