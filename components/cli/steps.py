"""Steps as commands. The flags of a step are read from its signature.

An artifact is a directory to read, a list of them a flag to repeat, one that may be None a flag that may be left out, a
section is `--params`, `out` is where the result goes. DVC's stages give `--settings` in place of everything that
params.yaml says (settings.py), Kubeflow `--executor-input` in place of everything.
"""

import importlib
import inspect
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.artifact import Artifact
from components.artifacts.manifest import Manifest, ManifestFacts, ValidManifest
from components.artifacts.trained_model import ENSEMBLE
from components.base import code, documents, space
from components.base.errors import DataRefused, MuraError, UsageError
from components.base.files import writing
from components.base.part import Part
from components.base.step import Declaration, Question
from components.base.terminal import tell
from components.cli import lineage, questions, settings
from components.cli.group import SETTINGS
from components.cli.settings import BY_CANDIDATE, Used
from components.kubeflow.executor import BROUGHT, ExecutorInput, brought
from components.params import DEFAULT
from components.params.document import SECTIONS_BY_ENTRY, parse, read_params, section
from components.params.ensemble import EnsembleParams
from components.params.ingest import MAX_MEMBERS, IngestParams
from components.params.section import Section

logger = logging.getLogger(__name__)


# MURA's CSVs, and what an archive of somebody's own says of its images.
LISTS = 5

EXECUTOR_INPUT = "--executor-input"
PART = "--part"
"""The flag for one share of a step's work."""
CANDIDATE = "{candidate}"
"""In a path it stands for the name of the candidate; in one that may be repeated, of every network of params.yaml, or
of every member of an ensemble."""
EACH_ENSEMBLE = "{ensemble}"
"""In a path that may be repeated it stands for the name of every ensemble of params.yaml."""


class Input(NamedTuple):
    """A step's parameter as the command line sees it."""

    name: str
    kind: Any
    """The artifact's class, the section's class, or int."""
    many: bool
    optional: bool = False
    """Whether it may be left out; the step then gets None."""

    @property
    def word(self) -> str:
        """`model` for `models`."""
        return self.name.removesuffix("s") if self.many else self.name

    @property
    def flag(self) -> str:
        """`--model` for `models`, to be repeated."""
        return "--" + self.word.replace("_", "-")

    @property
    def is_section(self) -> bool:
        """Whether it is a section of params.yaml."""
        return inspect.isclass(self.kind) and issubclass(self.kind, Section)

    def section_for(self, step: str) -> str:
        """The section: `params` is that of the step, another one has the name of the input."""
        return step if self.name == "params" else self.name

    @property
    def is_artifact(self) -> bool:
        """Whether another step makes it. Everything else is said in params.yaml."""
        return inspect.isclass(self.kind) and issubclass(self.kind, Artifact)


def step_function(name: str) -> Callable[..., Artifact[Any]]:
    """The step of that name; importing it is light, its libraries come when it runs."""
    function: Callable[..., Artifact[Any]] = getattr(importlib.import_module(f"components.{name}"), name)
    return function


def function_of(step: str, part: bool) -> Callable[..., Artifact[Any]]:
    """The function of a step, or of a part of it where the step can be done in parts."""
    of_part = declaration(step).part if part else None
    return of_part or step_function(step)


def inputs_of(function: Callable[..., Any]) -> list[Input]:
    """A step's inputs in the order of its signature.

    `out`, where the result goes, is not one, and neither is a keyword-only parameter: the step declares a flag for it.
    """
    hints = get_type_hints(function)
    return [
        _input(name, hints[name])
        for name, each in inspect.signature(function).parameters.items()
        if name != "out" and each.kind is not each.KEYWORD_ONLY
    ]


def _input(name: str, hint: Any) -> Input:
    """`model: Model` is one, `models: list[Model]` several, `model: Model | None` one or none."""
    if get_origin(hint) is list:
        return Input(name, get_args(hint)[0], many=True)
    if NoneType in get_args(hint):
        (kind,) = (each for each in get_args(hint) if each is not NoneType)
        return Input(name, kind, many=False, optional=True)
    return Input(name, hint, many=False)


def declaration(step: str) -> Declaration:
    """What the step of that name declares besides its signature."""
    found: Declaration = getattr(importlib.import_module(f"components.{step}"), "DECLARES", Declaration())
    return found


def _questions(step: str) -> tuple[Question, ...]:
    return (*declaration(step).questions, *questions.OF_STEPS.get(step, ()))


def command(name: str) -> click.Command:
    """The command of a step."""
    function = step_function(name)
    inputs = inputs_of(function)
    asked = _questions(name)
    options: list[click.Parameter] = [_option(name, each) for each in inputs]
    if declaration(name).part is not None:
        options.append(click.Option([PART, "part"], metavar=Part.METAVAR, help=_summary(Part)))
    product = get_type_hints(function)["return"]
    options.append(
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path, file_okay=False),
            required=True,
            help=f"Directory for the result, a {product.__name__}. It replaces an earlier one when the step is done.",
        )
    )

    options.append(
        click.Option(
            [EXECUTOR_INPUT],
            metavar="JSON",
            hidden=True,
            help="Inputs and outputs, from Kubeflow. In place of all flags that it has.",
        )
    )

    options += _options_of_dvc(name)
    options += [click.Option([each.flag, each.name], metavar=each.metavar, help=each.help) for each in asked]
    extra = declaration(name).flags
    options += [
        click.Option([each.flag, each.name], metavar=each.metavar, is_flag=each.metavar is None, help=each.help)
        for each in extra
    ]

    def callback(out: Path | None, executor_input: str | None, **flags: Any) -> None:
        for each in asked:
            if (value := flags.pop(each.name)) is not None:
                tell(each.answer(value, {**flags, "out": out}))
                return
        kubeflow = ExecutorInput(executor_input) if executor_input else None
        if kubeflow is not None:
            if declaration(name).part is not None:
                flags["part"] = flags["part"] or kubeflow.parameter("part")
            made = get_type_hints(function_of(name, flags.get("part") is not None))["return"]
            flags, out = _filled_in(kubeflow, inputs, flags, out or kubeflow.output(made))
        if out is None:
            raise click.UsageError("Missing option '--out'.", click.get_current_context())
        said = {each.name: flags.pop(each.name) for each in extra}
        _run_step(_call(name, flags, out)._replace(said=said), kubeflow)

    return _StepCommand(
        name,
        params=options,
        callback=callback,
        help=_help(function),
        epilog=_choices([each for each in inputs if each.is_section]),
    )


class _StepCommand(click.Command):
    """A question about the last result needs none of the flags that making one needs; settings have some of them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = {word.partition("=")[0] for word in args}
        name = self.name or ""
        asks = bool(words & {each.flag for each in _questions(name)})
        chosen = {each.name: each.flag for each in inputs_of(step_function(name)) if not each.is_artifact}
        for option in self.params:
            if asks or EXECUTOR_INPUT in words or (SETTINGS in words and option.name in chosen):
                option.required = False
        rest = super().parse_args(ctx, args)
        if ctx.params.get("settings") is not None:
            for each, flag in chosen.items():
                if ctx.get_parameter_source(each) is ParameterSource.COMMANDLINE:
                    raise click.UsageError(f"{flag} is in {SETTINGS}: leave one of them out.", ctx)
        return rest


def _filled_in(
    kubeflow: ExecutorInput, inputs: list[Input], flags: dict[str, Any], out: Path | None
) -> tuple[dict[str, Any], Path | None]:
    """The flags, with what Kubeflow says in place of those that were not given.

    Raises:
        UsageError: neither says what the step needs.
    """
    context = click.get_current_context()
    filled = dict(flags)
    for each in inputs:
        if each.many and not filled[each.name]:
            filled[each.name] = kubeflow.several(each.word)
    for each in inputs:
        if each.many and each.kind in BROUGHT and not filled.get(f"{BROUGHT[each.kind]}s"):
            # Each model lies in its evaluation.
            filled[f"{BROUGHT[each.kind]}s"] = tuple(brought(path, BROUGHT[each.kind]) for path in filled[each.name])
    for each in inputs:
        if not each.many and context.get_parameter_source(each.name) is not ParameterSource.COMMANDLINE:
            filled[each.name] = kubeflow.artifact(each.name) if each.is_artifact else kubeflow.parameter(each.name)
    for each in inputs:
        bringer = next((other.name for other in inputs if BROUGHT.get(other.kind) == each.name), None)
        if filled[each.name] is None and bringer and filled[bringer]:
            filled[each.name] = brought(filled[bringer], each.name)
        if filled[each.name] is None and not each.optional:
            raise UsageError(f"{EXECUTOR_INPUT}: it has no {each.name}, and {each.flag} is not given.")
    return filled, out


def _options_of_dvc(step: str) -> list[click.Parameter]:
    """The flags with which DVC's stages call a step."""
    found: list[click.Parameter] = [
        click.Option(
            [SETTINGS],
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Directory of `mura settings`: params.yaml at the start of a run. In place of all flags that it sets.",
        )
    ]
    if step in BY_CANDIDATE:
        about = f"Name of the candidate. Replaces {CANDIDATE} in paths. Required with {SETTINGS}."
        found.append(click.Option(["--candidate"], metavar="NAME", help=about))
        about = f"Number of the candidate in {DEFAULT}, from 0, in place of its name: that of a task of an array."
        found.append(click.Option(["--index"], type=click.IntRange(min=0), metavar="N", help=about))
        about = f"Do nothing if --out holds what these inputs and {SETTINGS} make."
        found.append(click.Option(["--once"], is_flag=True, help=about))
    return found


def _option(step: str, of: Input) -> click.Option:
    if of.is_section:
        name = of.section_for(step)
        many = name in SECTIONS_BY_ENTRY
        return click.Option(
            [of.flag, of.name],
            default=None if many else f"{DEFAULT}:{name}",
            required=many,
            show_default=True,
            metavar="FILE:SECTION|JSON",
            help=_summary(of.kind) + (f" For example {DEFAULT}:{SECTIONS_BY_ENTRY[name]}.NAME." if many else ""),
        )
    if of.kind is int:
        return click.Option([of.flag, of.name], type=click.IntRange(min=0), help=f"[default: {of.name} of {DEFAULT}]")
    names = f"each member, as {DEFAULT} has it" if step == ENSEMBLE else f"each candidate of {DEFAULT}"
    names += "" if step == ENSEMBLE else f", {EACH_ENSEMBLE} for that of each ensemble"
    again = f" Repeat the flag, or write {CANDIDATE} for the name of {names}." if of.many else ""
    return click.Option(
        [of.flag, of.name],
        # A path object would make s3:/bucket of s3://bucket.
        type=str if of.kind.BY_VALUE else click.Path(path_type=Path),
        required=not of.optional,
        multiple=of.many,
        metavar=of.kind.METAVAR,
        help=f"{of.kind.__name__}: {_summary(of.kind)}{again}{' Optional.' if of.optional else ''}",
    )


class Call(NamedTuple):
    """A step as it was called on the command line."""

    step: str
    function: Callable[..., Artifact[Any]]
    inputs: list[Input]
    flags: dict[str, Any]
    out: Path
    candidate: str | None
    """The one that this is about, if it was said."""
    used: Used | None
    """The settings, where DVC calls."""
    code: str
    """Digest of the step's code."""
    once: bool
    """Whether nothing is to be done if the result is there."""
    said: Mapping[str, Any] = MappingProxyType({})
    """Values of the flags that the step declares."""

    @property
    def refused(self) -> Path:
        """Where the reports of refused data are kept."""
        return self.out.absolute().with_name(f"{self.out.absolute().name}.refused")


def _call(step: str, flags: dict[str, Any], out: Path) -> Call:
    """A step with its flags; what the settings say is put in the place of flags that were not given."""
    folder, candidate = flags.pop("settings"), flags.pop("candidate", None)
    index, once = flags.pop("index", None), flags.pop("once", False)
    if folder is None and (index is not None or once):
        raise UsageError(f"{step}: {'--once' if once else '--index'} needs {SETTINGS}, a directory of `mura settings`.")
    if index is not None:
        if candidate is not None:
            raise UsageError(f"{step}: --index and --candidate both name the candidate: leave one of them out.")
        candidate = settings.candidate_at(folder, index)
    function = function_of(step, flags.get("part") is not None)
    if flags.get("part") is None:
        flags.pop("part", None)
    used = None
    if folder is not None:
        used = settings.read(folder, step, candidate)
        flags = {**flags, **used.inputs}
    inputs = inputs_of(function)
    # Before anything is read, which takes long.
    paths = {each.flag: flags[each.name] for each in inputs if each.is_artifact and not each.many} | {"--out": out}
    for flag, path in paths.items():
        if CANDIDATE in str(path) and not candidate:
            what = "Add `--candidate NAME`." if step in BY_CANDIDATE else "Write its name in the path."
            raise UsageError(f"{flag} {path}: which candidate? {what}")
    place = Path(str(out).replace(CANDIDATE, candidate)) if candidate else out
    if "part" in flags:
        place = Path(str(place).replace("{part}", str(Part.read(flags["part"]).number)))
    return Call(step, function, inputs, flags, place, candidate, used, code.digest(function.__module__), once)


def _run_step(call: Call, kubeflow: ExecutorInput | None) -> None:
    """Read the artifacts, run the step in a work directory, put the result into its place."""
    started = time.monotonic()
    if call.used is not None:
        call.used.check_code(call.code)
    if check := declaration(call.step).check:
        check()
    if kubeflow is not None:
        kubeflow.check_there()
    arguments = _arguments(call)
    if call.used is not None:
        call.used.check_files(arguments)
        _check_inputs(call, call.used, arguments)
    if kubeflow is not None:
        kubeflow.check(arguments, call.function.__module__)
    told = {key: value for key, value in arguments.items() if value is not None and not isinstance(value, Section)}
    logger.info("%s: %s", call.step, ", ".join(f"{key} {_location(value)}" for key, value in told.items()))
    if call.once and _is_made(call, arguments):
        logger.info("%s: %s is there, made of these inputs with these settings", call.step, call.out)
        return
    instead = declaration(call.step).instead
    if instead is not None and (other := instead()) is not None:
        other(**arguments)
        return
    artifact = _make(call, arguments)
    logger.info(
        "%s: wrote %s, digest %s, %.0f s", call.step, call.out, artifact.digest[:12], time.monotonic() - started
    )
    if kubeflow is not None:
        kubeflow.report(type(artifact)(call.out, artifact.facts, artifact.digest), arguments)
    if problem := artifact.verdict():
        raise problem


def _check_inputs(call: Call, used: Used, arguments: Mapping[str, Any]) -> None:
    """Check that each artifact was made as the settings say. An optional one is not of this run."""
    for each in call.inputs:
        if each.is_artifact and not each.optional:
            for artifact in arguments[each.name] if each.many else [arguments[each.name]]:
                settings.check_input(artifact, used.folder)


def _is_made(call: Call, arguments: Mapping[str, Any]) -> bool:
    """Whether the result is there, whole, and the same inputs and settings made it."""
    try:
        found = get_type_hints(call.function)["return"].read(call.out)
    except MuraError:
        return False
    inputs = {each.name: arguments[each.name] for each in call.inputs if each.is_artifact}
    return not (call.used and settings.difference(found, call.used)) and not lineage.difference(found, inputs)


def _make(call: Call, arguments: dict[str, Any]) -> Artifact[Any]:
    """Run the step in a work directory and put the result into its place, or keep the reports of a refusal."""
    # A half-done work directory of other code is not gone on with.
    decisive = {key: _identity(value) for key, value in arguments.items()} | {"code": call.code}
    if any(call.said.values()):
        decisive["said"] = dict(call.said)
    with space.named(call.out), writing(call.out, decisive, get_type_hints(call.function)["return"].CARD) as work:
        try:
            artifact = call.function(**arguments, **call.said, out=work)
        except DataRefused as error:
            if error.keep is not None:
                shutil.rmtree(call.refused, ignore_errors=True)
                shutil.copytree(error.keep, call.refused, ignore=shutil.ignore_patterns("checkpoint"))
                raise DataRefused(f"{error} The report is in {call.refused}.") from error
            raise
        if call.used is not None:
            call.used.check_unchanged()
            settings.record(call.used, call.out, artifact)
        shutil.rmtree(call.refused, ignore_errors=True)
    return artifact


def _arguments(call: Call) -> dict[str, Any]:
    """The step's arguments by name. How many members the archive may have is known from the others."""
    found = {each.name: _argument(each, call) for each in call.inputs if each.kind is not Overlay}
    limits = [
        value.max_members if isinstance(value, IngestParams) else _members(value.facts)
        for value in found.values()
        if isinstance(value, IngestParams | Manifest | ValidManifest)
    ]
    most = max(limits, default=MAX_MEMBERS)
    overlays = {each.name: call.flags[each.name] for each in call.inputs if each.kind is Overlay}
    found |= {name: None if place is None else Overlay.read(place, most) for name, place in overlays.items()}
    # In the order of the signature.
    ordered = {each.name: found[each.name] for each in call.inputs}
    return {name: value.checked(most) if isinstance(value, Archive) else value for name, value in ordered.items()}


def _members(facts: ManifestFacts) -> int:
    """Files that an archive may have which is described by a manifest: as many as ingest was told, or has found.

    A zip has entries of directories too, which nobody counts. Manifests of earlier versions do not say what was told.
    """
    found = facts.images + facts.left_out_images + facts.sidecars + len(facts.others) + LISTS
    return max(MAX_MEMBERS, facts.max_members or 0, found)


def _argument(of: Input, call: Call) -> Any:
    value = call.flags[of.name]
    if of.is_section:
        return (
            section_of(of.kind, of.flag, value)
            if isinstance(value, str)
            else parse(of.kind, value, str(call.used and call.used.file))
        )
    if of.kind is int:
        # In Kubeflow's JSON every number may be a float.
        return read_params(DEFAULT).seed if value is None else int(value)
    if value is None:
        return None
    if of.many:
        return [of.kind.read(path) for given in value for path in _for_each_candidate(given, call)]
    if of.kind is Archive:
        return Archive.find(value)
    if of.is_artifact and call.candidate:
        value = Path(str(value).replace(CANDIDATE, call.candidate))
    return of.kind.read(value)


def _for_each_candidate(given: Path, call: Call) -> list[Path]:
    """`model/{candidate}` as a path for each candidate of params.yaml; another path as it is."""
    for word, key in ((CANDIDATE, "candidates"), (EACH_ENSEMBLE, "ensembles")):
        if word in str(given):
            names = call.flags.get(key)
            return [Path(str(given).replace(word, name)) for name in (_names(word, call) if names is None else names)]
    return [given]


def _names(word: str, call: Call) -> list[str]:
    """The names that a word in a path stands for, where no settings say them."""
    text = call.flags.get("params") or ""
    file = DEFAULT if text.lstrip().startswith("{") or ":" not in text else Path(text.rpartition(":")[0])
    params = read_params(file)
    if word == EACH_ENSEMBLE:
        return list(params.ensembles)
    chosen = next((_argument(each, call) for each in call.inputs if each.kind is EnsembleParams), None)
    return chosen.chosen(params.train.candidates) if chosen else list(params.train.candidates)


def section_of(kind: type[Section], flag: str, text: str) -> Section:
    """A section from JSON, or from `FILE:SECTION`.

    Args:
        kind: of the section.
        flag: that has the text, for messages.
        text: what was given.

    Raises:
        UsageError: it is neither, or a section of another kind.
    """
    if text.lstrip().startswith("{"):
        try:
            document = documents.json_of(text)
        except ValueError as error:
            raise UsageError(f"{flag}: not JSON ({error}).") from error
        return parse(kind, document, flag)
    file, _, name = text.rpartition(":")
    path = Path(file or text)
    found = section(read_params(path), name, path)
    if not isinstance(found, Section) or not isinstance(found, kind):
        raise UsageError(f"{flag}: expected a section of {kind.__name__}, {text} is {type(found).__name__}.")
    return found


def _identity(value: Any) -> Any:
    """What of an argument decides the result."""
    if isinstance(value, list):
        return [_identity(each) for each in value]
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    return value if isinstance(value, int | None) else value.identity


def _location(value: Any) -> str:
    """Where an argument lies, for people."""
    if isinstance(value, list):
        return " ".join(_location(each) for each in value)
    return str(value) if isinstance(value, int) else str(value.location)


def _help(function: Callable[..., Any]) -> str:
    """A docstring without the part that says what the flags say."""
    text = inspect.getdoc(function) or ""
    for heading in ("\nArgs:", "\nReturns:", "\nRaises:"):
        text = text.split(heading)[0]
    return text.strip()


def _choices(sections: list[Input]) -> str | None:
    """The choices of sections, one a line, as click prints them unwrapped."""
    told = []
    for each in sections:
        fields = [(name, field.description or "") for name, field in each.kind.model_fields.items()]
        width = max(len(name) for name, _ in fields)
        lines = "\n".join(f"  {name:{width}}  {about}" for name, about in fields)
        told.append(f"\b\nChoices of {each.flag}:\n{lines}")
    return "\n\n".join(told) or None


def _summary(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").split("\n")[0]
