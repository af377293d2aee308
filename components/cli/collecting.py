"""`mura collect`: what tasks elsewhere made, taken into DVC's workspace as if `dvc repro` had made it."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from components.archive import dvc
from components.artifacts import evaluation, trained_model
from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base import documents, space
from components.base.errors import DataRefused, MuraError, UsageError, printable
from components.base.files import CHECKPOINT, writing
from components.base.terminal import tell
from components.base.words import count
from components.cli import lineage, resolving, settings
from components.params import DEFAULT

WORKSPACE = Path("artifacts")
SETTINGS = WORKSPACE / "settings"
KINDS: dict[str, type[Artifact[Any]]] = {"model": TrainedModel, "evaluation": Evaluation}
"""By the name of the directory that holds one for each candidate."""
FILES = {trained_model.WEIGHTS, trained_model.CURVES, evaluation.METRICS, evaluation.PREDICTIONS}
"""A directory with one of these is a model or an evaluation, whatever else it lacks."""
# Where results lie: DIR itself, DIR/vgg16, DIR/model/vgg16, DIR/run/model/vgg16.
DEPTH = 3

logger = logging.getLogger(__name__)


class Results(NamedTuple):
    """What was found."""

    good: dict[tuple[str, str], Artifact[Any]]
    """By the name of the kind and the candidate."""
    faults: list[str]
    """What is wrong with the others, a sentence each."""


def collect(folders: Sequence[Path]) -> None:
    """Take the models and evaluations below these directories, all or none.

    Args:
        folders: each is a result, or holds some.

    Raises:
        UsageError: there is no such directory, or nothing in it; this is not the project's directory.
        DataRefused: a result is not what params.yaml, the code and the artifacts here make.
    """
    if not Path("dvc.yaml").is_file():
        raise UsageError("dvc.yaml: not here. Run `mura collect` in the project's directory.")
    dvc.root(Path.cwd())
    # As `dvc repro` does before it decides what is to be done.
    resolving.resolve(DEFAULT, SETTINGS)
    inputs: dict[str, Artifact[Any]] = {
        "shards": Shards.read(WORKSPACE / "shards"),
        "manifest": ValidManifest.read(WORKSPACE / "valid_manifest"),
    }
    for each in inputs.values():
        settings.check_input(each, SETTINGS)
    chosen = settings.read(SETTINGS, "register").inputs
    candidates = [*chosen["candidates"], *chosen["ensembles"]]
    found = _find(folders, candidates)
    _check(found, inputs, chosen["ensembles"])
    if found.faults:
        for fault in found.faults:
            tell(printable(f"collect: {fault}"), err=True)
        raise DataRefused(f"{count(len(found.faults), 'result')} refused, nothing taken. The lines above say why.")
    if not found.good:
        raise UsageError(
            f"{', '.join(map(str, folders))}: no model and no evaluation. Name the directory of the tasks."
        )
    _take_all(found.good, chosen["candidates"], chosen["ensembles"])


def _take_all(
    good: Mapping[tuple[str, str], Artifact[Any]], candidates: Sequence[str], ensembles: Sequence[str]
) -> None:
    """Copy the results, models first, and let DVC take them."""
    every = [(kind, name) for names in (candidates, ensembles) for kind in KINDS for name in names]
    order = [key for key in every if key in good]
    new = sum(_take(good[kind, name], _place(kind, name, ensembles)) for kind, name in order)
    stale = dvc.commit(["settings", *(settings.read_for(good[key], SETTINGS).stage for key in order)])
    if without := [name for name in candidates if ("model", name) not in good]:
        logger.info("collect: no model of %s", ", ".join(without))
    if new or stale:
        tell(f"{WORKSPACE}: {count(len(order), 'result')}, {new} of them new here; next: dvc repro")
    else:
        tell(f"{WORKSPACE}: {count(len(order), 'result')} there already, nothing to do")


def _place(kind: str, name: str, ensembles: Sequence[str]) -> Path:
    return settings.place_of(kind, name, WORKSPACE, name in ensembles)


def _find(folders: Sequence[Path], candidates: Sequence[str]) -> Results:
    """All results below directories; a directory that is reached twice counts once."""
    found, seen = Results({}, []), set()
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such directory.")
        for place in _places(folder, DEPTH, candidates):
            if place.resolve() not in seen:
                seen.add(place.resolve())
                _add(place, found, candidates)
    return found


def _places(folder: Path, depth: int, candidates: Sequence[str]) -> Iterator[Path]:
    """Directories that are a result, or should have become one."""
    names = {entry.name for entry in folder.iterdir()}
    if Artifact.CARD in names or names & FILES:
        yield folder
        return
    for name in candidates:
        # The work directory of a step that runs, or was killed.
        if f".{name}.partial" in names and name not in names:
            yield folder / name
    for name in sorted(names):
        if depth and not name.startswith(".") and (folder / name).is_dir():
            yield from _places(folder / name, depth - 1, candidates)


def _add(place: Path, found: Results, candidates: Sequence[str]) -> None:
    """Read a result, and put it where it belongs."""
    try:
        kind = _kind(place)
        if kind is None:
            return
        artifact = KINDS[kind].peek(place)
        faults = KINDS[kind].faults(place)
    except (MuraError, OSError) as error:
        found.faults.append(f"{place}: not whole ({error})")
        return
    name = artifact.facts.candidate
    if name not in candidates:
        faults = [f"{place}: of the candidate {name}, and {DEFAULT} has {', '.join(candidates)}."]
    elif (kind, name) in found.good:
        faults = [f"{place}: a second {kind} of {name}, beside {found.good[kind, name].path}. Name one of them."]
    if faults:
        found.faults.append(faults[0])
    else:
        found.good[kind, name] = artifact


def _kind(place: Path) -> str | None:
    """`model` or `evaluation`; None for an artifact of another kind, which stays where it is.

    Raises:
        DataRefused: it is not finished.
    """
    card = place / Artifact.CARD
    if not card.is_file():
        raise DataRefused("its task runs or was stopped; submit it again")
    try:
        said = documents.json_of(documents.content(card))["kind"]
    except (ValueError, KeyError, TypeError):
        raise DataRefused(f"{card.name} is no card") from None
    return next((name for name, kind in KINDS.items() if kind.__name__ == said), None)


def _check(found: Results, inputs: Mapping[str, Artifact[Any]], ensembles: Sequence[str]) -> None:
    """Move what was made with other settings, by other code or of other inputs to the faults."""

    def there(kind: str, name: str) -> Artifact[Any] | None:
        return found.good.get((kind, name)) or _here(kind, _place(kind, name, ensembles))

    # What others are made of comes first: a fault of it is one of theirs.
    for kind, name in sorted(found.good, key=lambda key: (key[1] in ensembles, key[0] != "model")):
        artifact = found.good[kind, name]
        expected = settings.read_for(artifact, SETTINGS)
        made_of: dict[str, lineage.Input] = {"shards": inputs["shards"]} if kind == "model" else dict(inputs)
        missing = None
        if kind == "evaluation":
            model = there("model", name)
            made_of |= {"model": model} if model else {}
            missing = None if model else "model"
        elif artifact.step == trained_model.ENSEMBLE:
            members = expected.inputs["candidates"]
            given = {f"{each}s": [made for one in members if (made := there(each, one))] for each in KINDS}
            made_of |= given
            missing = "members" if any(len(each) < len(members) for each in given.values()) else None
        fault = settings.difference(artifact, expected) or lineage.difference(artifact, made_of)
        if fault is None and missing:
            has = "are" if missing.endswith("s") else "is"
            fault = f"{artifact.path}: its {missing} {has} neither here nor there."
        if fault is not None:
            found.faults.append(fault)
            del found.good[kind, name]


def _here(kind: str, place: Path) -> Artifact[Any] | None:
    """A result in the workspace, if it is whole."""
    try:
        return KINDS[kind].read(place)
    except MuraError:
        return None


def _take(artifact: Artifact[Any], out: Path) -> bool:
    """Copy a result into the workspace, unless its equal is there; whether it was copied."""
    used = settings.read_for(artifact, SETTINGS)
    kind = type(artifact)
    try:
        there = kind.read(out)
        if there.digest == artifact.digest and settings.difference(there, used) is None:
            return False
    except MuraError:
        pass
    out.parent.mkdir(parents=True, exist_ok=True)
    with space.named(out), writing(out, {"collected": artifact.digest}, kind.CARD) as work:
        for file in sorted(artifact.path.rglob("*")):
            name = file.relative_to(artifact.path)
            if file.is_file() and name.parts[0] != CHECKPOINT and not any(part.startswith(".") for part in name.parts):
                (work / name).parent.mkdir(exist_ok=True, parents=True)
                shutil.copyfile(file, work / name)
        if kind.read(work).digest != artifact.digest:
            raise DataRefused(f"{artifact.path}: changed while it was copied. Is its task running? Collect it again.")
        settings.record(used, out, artifact)
    logger.info("collect: %s -> %s, digest %s", artifact.path, out, artifact.digest[:12])
    return True
