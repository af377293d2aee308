"""What a stage of DVC uses, resolved when the run starts, and the record of what it did use.

settings/                       written by `mura settings`, which reads params.yaml once
    ingest.json                 for each stage: digest of its code, parameters, seed, archive, overlay
    train/<candidate>.json
    ensemble/<candidate>.json
<result>.made.json              beside a step's result, written by the step: the settings it used, and what it made

DVC's lock says which settings a stage ran with: they are a file that the stage depends on. Each step compares the
records of what it reads with the settings of the stages that made it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from components.artifacts.artifact import Artifact
from components.artifacts.trained_model import ENSEMBLE
from components.base import documents
from components.base.errors import DataChanged, DataRefused, UsageError, first_line
from components.base.files import file_sha256, write_text
from components.params.document import SECTIONS_BY_ENTRY

BY_CANDIDATE = ("train", ENSEMBLE, "evaluate", "stress")
"""Steps that run once for each candidate."""
PHANTOM, PHANTOM_MODULE = "phantom", "components.phantom.writing"
"""The stage that is no step, and the module that is imported for it."""
DIGEST = "_digest"
"""`overlay_digest` is the digest of the overlay when the run started."""
SEED = "seed"
SAID = ("params", "protocol", SEED)
"""Choices that cards repeat, by the names of inputs."""
WEIGHTS = f"weights{DIGEST}"
MADE = ".made.json"
"""The end of the name of a record."""


class Settings(BaseModel):
    """Everything a stage uses besides the artifacts of other stages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    """Digest of the code that can change the result."""
    inputs: dict[str, Any]
    """By the names of the step's inputs. Where one is a list of artifacts, the names of the networks as `candidates`
    and of the ensembles as `ensembles`; for an ensemble, those of its members as `candidates`."""


class Record(BaseModel):
    """How a result was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    """Of the artifact."""
    settings: Settings

    def text(self) -> str:
        """The file."""
        return json.dumps(self.model_dump(), indent=2, ensure_ascii=False) + "\n"


class Used(NamedTuple):
    """The settings of a stage that runs."""

    stage: str
    """As DVC calls it."""
    folder: Path
    """With the settings of all stages."""
    file: Path
    text: str
    settings: Settings

    @property
    def inputs(self) -> dict[str, Any]:
        """The values by the names of the step's inputs."""
        return self.settings.inputs

    def check_code(self, code: str) -> None:
        """Check that the code that runs, with this digest, is the one that the run started with.

        Raises:
            DataChanged: it is not.
        """
        if code != self.settings.code:
            raise DataChanged(f"The code of {self.stage} changed since this run began. Run `dvc repro` again.")

    def check_files(self, arguments: Mapping[str, Any]) -> None:
        """Check that the files that params.yaml names are still those that the run started with.

        Args:
            arguments: the step's arguments by name.

        Raises:
            DataChanged: they are not.
        """
        for name, value in arguments.items():
            expected = self.inputs.get(f"{name}{DIGEST}")
            if f"{name}{DIGEST}" in self.inputs and value.identity != expected:
                raise DataChanged(f"{value.location}: changed since this run began. Run `dvc repro` again.")
        if WEIGHTS in self.inputs:
            weights = Path(self.inputs["params"]["weights"])
            if not weights.is_file() or file_sha256(weights) != self.inputs[WEIGHTS]:
                raise DataChanged(f"{weights}: changed since this run began. Run `dvc repro` again.")

    def check_unchanged(self) -> None:
        """Check that the settings are still there: DVC writes down what it finds when the stage ends.

        Raises:
            DataChanged: they are not.
        """
        if not self.file.is_file() or self.file.read_text(encoding="utf-8") != self.text:
            raise DataChanged(f"{self.file}: changed while {self.stage} ran. Run `dvc repro` again.")


def place_of(kind: str, candidate: str, folder: Path, ensemble: bool) -> Path:
    """Where DVC's stages put a model or an evaluation.

    Ensembles have a place of their own: their stage depends on the directories of all models and evaluations, and a
    stage cannot depend on a directory that it writes to.

    Args:
        kind: `model` or `evaluation`.
        candidate: its name.
        folder: of all results, `artifacts`.
        ensemble: whether the candidate is an ensemble.
    """
    return (folder / ENSEMBLE if ensemble else folder) / kind / candidate


def file_of(folder: Path, step: str, candidate: str | None) -> Path:
    """The file with the settings of a step."""
    return folder / step / f"{candidate}.json" if step in SECTIONS_BY_ENTRY else folder / f"{step}.json"


def text_of(settings: Settings) -> str:
    """What is written to the file."""
    return json.dumps(settings.model_dump(), indent=2, ensure_ascii=False) + "\n"


def read(folder: Path, step: str, candidate: str | None = None) -> Used:
    """Read the settings of a step.

    Raises:
        UsageError: there are none, or the file holds something else.
    """
    if step in BY_CANDIDATE:
        _check_candidate(folder, step, candidate)
    file = file_of(folder, step, candidate)
    try:
        text = documents.content(file).decode("utf-8")
        return Used(_stage(folder, step, candidate), folder, file, text, Settings.model_validate_json(text))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}. `dvc repro`, or `mura settings`, writes it.") from error
    except ValueError as error:
        raise UsageError(f"{file}: not what `mura settings` writes ({first_line(error)}). Run it again.") from error


def candidate_at(folder: Path, index: int) -> str:
    """The name of a network by its place among the candidates of params.yaml, from 0.

    Raises:
        UsageError: there are fewer candidates, or no settings.
    """
    names: list[str] = read(folder, "register").inputs["candidates"]
    if not 0 <= index < len(names):
        raise UsageError(f"--index {index}: {folder} has {len(names)} candidates, 0 to {len(names) - 1}.")
    return names[index]


def _check_candidate(folder: Path, step: str, candidate: str | None) -> None:
    if candidate is None:
        raise UsageError(f"{step}: --settings needs --candidate NAME, the candidate that this is about.")
    having = [step] if step in SECTIONS_BY_ENTRY else SECTIONS_BY_ENTRY
    known = sorted(path.stem for name in having for path in (folder / name).glob("*.json"))
    if known and candidate not in known:
        raise UsageError(f"{folder}: no candidate {candidate}; there are {', '.join(known)}.")


def record(used: Used, out: Path, artifact: Artifact[Any]) -> None:
    """Write down how a result was made."""
    write_text(_record_of(out), Record(digest=artifact.digest, settings=used.settings).text())


def check_input(artifact: Artifact[Any], folder: Path) -> None:
    """Check that an artifact was made with the settings of the stage that makes it.

    Raises:
        UsageError: there are no settings for that stage.
        DataRefused: it was made with other settings, or nothing says how it was made.
    """
    expected = read_for(artifact, folder)
    fault = difference(artifact, expected)
    if fault is None:
        return
    pull = "" if _record_of(artifact.path).exists() else f"If another machine made it: `dvc pull {expected.stage}`. "
    raise DataRefused(f"{fault} {pull}Run `dvc repro --force --single-item {expected.stage}`, then `dvc repro`.")


def read_for(artifact: Artifact[Any], folder: Path) -> Used:
    """Read the settings of the stage that makes an artifact.

    Raises:
        UsageError: there are none.
    """
    step = artifact.step
    return read(folder, step, artifact.facts.candidate if step in BY_CANDIDATE else None)


def difference(artifact: Artifact[Any], expected: Used) -> str | None:
    """Why an artifact is not what a stage makes with its settings, in a sentence; None if it is."""
    file = _record_of(artifact.path)
    try:
        text = documents.content(file).decode("utf-8")
        found = Record.model_validate_json(text)
    except FileNotFoundError:
        return f"{artifact.path}: {file.name}, which says how it was made, is missing."
    except ValueError as error:
        return f"{file}: not the record of an artifact ({first_line(error)})."
    if found.digest != artifact.digest:
        return (
            f"{artifact.path}: expected what {expected.stage} made, digest {found.digest[:12]} as {file.name} says, "
            f"found {artifact.digest[:12]}."
        )
    if found.settings != expected.settings:
        other = _difference(found.settings, expected.settings)
        return f"{artifact.path}: made with {other} in {expected.file}, as {file.name} says."
    for name, chosen in expected.settings.inputs.items():
        # The card of a model or an evaluation repeats them, and what comes after goes by the card.
        said = getattr(artifact.facts, name, None) if name in SAID else None
        if said is not None and said != chosen:
            where = name if name == SEED else f"{name}.{_keys(said, chosen)[0]}"
            return f"{artifact.path}: its card says other {where} than {expected.file}. The card was changed."
    if found.text() != text:
        return f"{file}: changed since {expected.stage} wrote it (its form differs)."
    return None


def _keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys that differ."""
    return [key for key in {**one, **other} if one.get(key) != other.get(key)]


def _stage(folder: Path, step: str, candidate: str | None) -> str:
    """The stage of dvc.yaml. Networks and ensembles are evaluated by different ones."""
    if step not in BY_CANDIDATE:
        return step
    of_ensemble = step == "evaluate" and file_of(folder, ENSEMBLE, candidate).exists()
    return f"{step}_{ENSEMBLE}@{candidate}" if of_ensemble else f"{step}@{candidate}"


def is_record(path: Path) -> bool:
    """Whether a file is the record of a result, by its name."""
    return path.name.endswith(MADE) and path.is_file()


def _record_of(out: Path) -> Path:
    place = Path(os.path.abspath(out))  # noqa: PTH100 - Path.absolute keeps `..`
    return place.with_name(f"{place.name}{MADE}")


def _difference(found: Settings, expected: Settings) -> str:
    """The first difference, and how many there are: `epochs 3, not 2 as`."""
    if found.code != expected.code:
        return "other code than"
    one, other = ({**each.inputs, **(each.inputs.get("params") or {})} for each in (found, expected))
    names = [name for name in sorted({*one, *other} - {"params"}) if one.get(name) != other.get(name)]
    if not names:
        return "other settings than"  # such as a value that is given and says nothing
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]} {one.get(names[0])!r:.40}, not {other.get(names[0])!r:.40}{more} as"
