"""params.yaml as a whole: every choice, one section per step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from components.base import documents
from components.base.errors import UsageError
from components.base.step import STEPS
from components.base.urls import check_written_out
from components.params.ensemble import EnsembleParams
from components.params.evaluate import EvaluateParams
from components.params.ingest import IngestParams
from components.params.kubeflow import KubeflowParams
from components.params.promote import PromoteParams
from components.params.protocol import ProtocolParams
from components.params.register import RegisterParams
from components.params.section import Section
from components.params.shard import ShardParams
from components.params.stress import StressParams
from components.params.train import TrainSection, named
from components.params.tune import TuneParams
from components.params.validate import ValidateParams
from components.params.wrong_choices import told

# Largest params.yaml, bytes: reading as much takes half a minute.
MOST = 1 << 20
SECTIONS_BY_ENTRY: Mapping[str, str] = {"train": "train", "ensemble": "ensembles"}
"""Sections with an entry for each candidate, `train.vgg16`, by the step that has them."""


class PhantomParams(Section):
    """The archive that is drawn when there is no real one."""

    studies: int = Field(ge=14, description="Studies over both published splits; MURA has 14,656")
    difficulty: float = Field(ge=-0.5, le=1, description="How hard abnormalities are to see")


def _written_out(place: str) -> str:
    """A place as DVC and the system take it."""
    check_written_out(place)
    if "\0" in place or any("\ud800" <= character <= "\udfff" for character in place):
        raise ValueError("no file can have this name")
    return place


Place = Annotated[str, Field(min_length=1), AfterValidator(_written_out)]
"""A file, a directory or an object on S3."""


class LabelsParams(Section):
    """Where labels come from, beside the archive."""

    overlay: Place = Field(description="Second opinions on labels, a CSV: study,old,new,source,reason")


class Params(Section):
    """Every choice."""

    archive: Place = Field(description="The archive: a zip or a directory, here or at s3://bucket/key")
    seed: int = Field(ge=0, description="Seed of every random choice")
    phantom: PhantomParams
    labels: LabelsParams
    ingest: IngestParams
    validate_: ValidateParams = Field(alias="validate")
    shard: ShardParams
    train: TrainSection
    ensembles: dict[str, EnsembleParams] = Field(description="By name, in the order of reports; {} for none")
    protocol: ProtocolParams
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")
    promote: PromoteParams
    stress: StressParams
    tune: TuneParams
    kubeflow: KubeflowParams

    @field_validator("ensembles", mode="before")
    @classmethod
    def _named(cls, entries: Any) -> Any:
        """The key of an entry is the name of the ensemble."""
        if not isinstance(entries, dict):
            return entries
        return {name: named(name, entry) for name, entry in entries.items()}

    @model_validator(mode="after")
    def _members_of_ensembles(self) -> Self:
        there = ", ".join(self.train.candidates)
        for name, ensemble in self.ensembles.items():
            if name in self.train.candidates:
                raise ValueError(f"ensembles.{name}: a candidate of `train` has this name; rename one of them")
            for member in ensemble.chosen(self.train.candidates):
                if member not in self.train.candidates:
                    raise ValueError(f"ensembles.{name}.members: no candidate {member}; there are {there}")
            if len(ensemble.chosen(self.train.candidates)) < 2:
                raise ValueError(
                    f"ensembles.{name}: expected two candidates or more, there is {there} alone; `ensembles: {{}}` is "
                    "for no ensemble"
                )
        return self

    @model_validator(mode="after")
    def _profiles_of_steps(self) -> Self:
        # A profile of a step that does not exist would be passed over in silence.
        steps = [f"{step}.{name}" for step in ("train", "evaluate") for name in self.train.candidates]
        steps += [f"{step}.{name}" for step in ("ensemble", "evaluate") for name in self.ensembles]
        steps += ["default", *STEPS, "merge", "notify"]
        for name in self.kubeflow.steps:
            if name not in steps:
                raise ValueError(f"kubeflow.steps.{name}: no such step; there are {', '.join(steps)}")
        return self

    @model_validator(mode="after")
    def _candidates_of_stress(self) -> Self:
        for name in self.stress.candidates:
            if name not in self.train.candidates:
                raise ValueError(
                    f"stress.candidates: no candidate {name}; there are {', '.join(self.train.candidates)}"
                )
        return self

    @model_validator(mode="after")
    def _candidates_of_tune(self) -> Self:
        for name in self.tune.candidates:
            if name not in self.train.candidates:
                raise ValueError(f"tune.candidates: no candidate {name}; there are {', '.join(self.train.candidates)}")
        return self


def read_params(path: Path) -> Params:
    """Read and check a params.yaml.

    Raises:
        UsageError: the file is missing, is not YAML, or a choice in it is unknown, missing or out of bounds.
    """
    try:
        document = documents.yaml_of(documents.content(path, MOST).decode("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; run in the project's directory, or name one with --params.") from None
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"{path}: not readable as YAML ({_yaml_fault(error)}).") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not readable as YAML ({' '.join(str(error).split())}).") from error
    params: Params = _validate(Params, document, str(path))
    return params


def _yaml_fault(error: yaml.MarkedYAMLError) -> str:
    """The line and what is wrong there. A line that is too far right or left is no key or value at all."""
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}: " if mark else ""
    says = " ".join(f"{error.problem or error.context}".split())
    indented = ("block end", "mapping values are not allowed", "cannot start any token", "'<document start>'")
    return f"{where}{says}{'; look at the indentation' if any(each in says for each in indented) else ''}"


def section(params: Params, name: str, path: Path) -> BaseModel:
    """A section by its dotted name: `shard`, or `train.vgg16` (also `train.candidates.vgg16`) for a candidate.

    An ensemble's is `ensembles.NAME`.

    Raises:
        UsageError: there is none of that name.
    """
    head, _, key = name.partition(".")
    fields = {field.alias or attribute: attribute for attribute, field in Params.model_fields.items()}
    found = getattr(params, fields[head], None) if head in fields else None
    if isinstance(found, TrainSection | dict):
        # As the file itself has it, too.
        key = key.removeprefix("candidates.")
        entries = found.candidates if isinstance(found, TrainSection) else found
        if key not in entries:
            there = ", ".join(f"{head}.{entry}" for entry in entries) or f"none of {head}"
            raise UsageError(f"{path}: no section {name}; it has {there}.")
        found = entries[key]
    elif key:
        found = None
    if not isinstance(found, BaseModel):
        raise UsageError(f"{path}: no section {name}; it has {', '.join(fields)}.")
    return found


def parse(kind: type[Section], document: Any, where: str) -> Section:
    """A section from JSON, as Kubeflow hands it over: in full, or brief.

    Raises:
        UsageError: a choice in it is unknown, missing or out of bounds.
    """
    parsed: Section = _validate(kind, kind.in_full(document), where)
    return parsed


def _validate(kind: type[Any], document: Any, where: str) -> Any:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        says = told(kind, document, error)
        raise UsageError(f"{where}: {says}" if says.endswith("?") else f"{where}: {says}.") from error
