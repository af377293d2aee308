"""A step as a Kubeflow component, read from the step's signature: the same words that DVC's stage runs."""

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_type_hints

from kfp import dsl
from kfp.dsl.container_component_class import ContainerComponent

from components.artifacts.artifact import Artifact
from components.artifacts.manifest import Manifest, ValidManifest
from components.artifacts.parts import ManifestPart, ShardsPart
from components.artifacts.shards import Shards
from components.artifacts.trained_model import ENSEMBLE, TrainedModel
from components.cli import steps
from components.kubeflow.executor import CODE, DIGEST, NAME, VIEWS, WITHOUT_DIGEST, noun

# A receipt stands for an effect on a server. It is made in every run; the step does nothing if nothing is to do.
RECEIPTS = ("register", "promote")
_TYPES: dict[type[Artifact[Any]], type[dsl.Artifact]] = {
    Manifest: dsl.Dataset,
    ValidManifest: dsl.Dataset,
    Shards: dsl.Dataset,
    ManifestPart: dsl.Dataset,
    ShardsPart: dsl.Dataset,
    TrainedModel: dsl.Model,
}
_VIEWS = {kind.schema_title: kind for kind in (dsl.Metrics, dsl.ClassificationMetrics, dsl.HTML, dsl.Model)}


class Argument(NamedTuple):
    """A flag of the step's command, and the component's input or output that is its value."""

    flag: str
    name: str
    hint: Any
    """Its type for kfp."""
    as_path: bool = False
    """Whether the command is given the path of an artifact, or the value itself."""
    is_flag: bool = False
    """Whether the command is given it by its flag."""
    with_digest: bool = False
    """Whether the component has a digest beside it, for Kubeflow's cache and for the step."""


def component(
    step: str,
    image: str,
    name: str,
    given: Collection[str],
    on_volume: Collection[type[Artifact[Any]]] = (),
) -> ContainerComponent:
    """A step as a Kubeflow component.

    Its inputs are those of the step. A section is a JSON object. Each artifact has its digest beside it,
    `shards_digest`: Kubeflow's cache knows an artifact only by the name of its output. Without the digest it would take
    the model of other shards. The step compares it with what it reads. `code` is for the cache alone. Receipts are not
    cached and have none.

    The command reads its inputs from `--executor-input`, which Kubeflow writes into the pod in any case. Flags would
    say them a second time, and what a pod is told stands six times in the state of the run. Flags are what the
    executor's input does not say: places on a volume. The order of a list is in the names of its inputs.

    Its outputs are the artifact, named as its noun, its `digest`, and what the user interface shows of it: of a model,
    the numbers of its training.

    Args:
        step: name of the step.
        image: reference of the image that runs it.
        name: of the component.
        given: names of the inputs that the task has. They say which optional inputs the component has, and what a list
            is made of: `evaluation_1` and `evaluation_2` for `evaluations`. With `part`, it is of a part of the step,
            which has no digest as an output: see `merge`.
        on_volume: kinds of artifacts that are passed as a path on a volume, not as Kubeflow's artifacts.
    """
    function = steps.function_of(step, "part" in given)
    product = get_type_hints(function)["return"]
    arguments = [each for of in steps.inputs_of(function) for each in _inputs(of, given, on_volume)]
    hints = _hints(arguments, given)
    if step not in RECEIPTS:
        hints[CODE] = str
    out = _output(product, on_volume)
    hints[out.name] = out.hint
    if product not in WITHOUT_DIGEST:
        hints[DIGEST] = dsl.OutputPath(str)
    shown = VIEWS.get(product, {}) if step != ENSEMBLE else {}
    hints |= {view: dsl.Output[_VIEWS[each.schema]] for view, each in shown.items()}

    def container(*placeholders: Any) -> dsl.ContainerSpec:
        values = dict(zip(hints, placeholders, strict=True))
        args = []
        for each in (*arguments, out):
            if each.is_flag:
                args += [each.flag, values[each.name].path if each.as_path else values[each.name]]
        args += [steps.EXECUTOR_INPUT, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
        return dsl.ContainerSpec(image=image, command=["mura", step], args=args)

    about = (inspect.getdoc(function) or "").split("\n")[0]
    return dsl.container_component(with_signature(container, name, about, hints))


def merge(product: type[Artifact[Any]], image: str, given: Collection[str]) -> ContainerComponent:
    """The component that makes the whole of its parts.

    Its inputs are the parts, `part_1` and so on, and for Kubeflow's cache what they were made with. That decides what
    is in them, so they come without digests: with eight parts these would take 40 kB of the run's state. The command
    reads the parts, and the archive if there is one.

    Args:
        product: the whole.
        image: reference of the image that runs it.
        given: names of the inputs that the task has.
    """
    kinds = {"params": dict, "seed": int}
    hints: dict[str, Any] = {
        each: dsl.Input[dsl.Dataset] if re.fullmatch(r"part_\d+", each) else kinds.get(each, str) for each in given
    }
    out = _output(product, ())
    hints |= {out.name: out.hint, DIGEST: dsl.OutputPath(str)}

    def container(*_placeholders: Any) -> dsl.ContainerSpec:
        args = [steps.EXECUTOR_INPUT, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
        return dsl.ContainerSpec(image=image, command=["mura", "merge"], args=args)

    about = f"Make {noun(product)} of all its parts."
    return dsl.container_component(with_signature(container, f"merge_{noun(product)}", about, hints))


def notify(image: str) -> ContainerComponent:
    """The component that reports the end of a run to a webhook."""

    def container(*placeholders: Any) -> dsl.ContainerSpec:
        status, run = placeholders
        return dsl.ContainerSpec(image=image, command=["mura", "notify"], args=["--status", status, "--run", run])

    about = "Report to a webhook how the run ended; never fails the run."
    hints = {"status": dsl.PipelineTaskFinalStatus, "run": str}
    return dsl.container_component(with_signature(container, "notify", about, hints))


def with_signature(function: Callable[..., Any], name: str, about: str, hints: Mapping[str, Any]) -> Callable[..., Any]:
    """Give a function the name, docstring and parameters that kfp reads from it. kfp calls it by position."""
    parameters = [
        inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=hint) for key, hint in hints.items()
    ]
    function.__name__, function.__doc__, function.__annotations__ = name, about, dict(hints)
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def _hints(arguments: Iterable[Argument], given: Collection[str]) -> dict[str, Any]:
    """The types of the inputs for kfp, by name: of the arguments, and of what is told of them."""
    hints: dict[str, Any] = {}
    for each in arguments:
        hints[each.name] = each.hint
        known_by = f"{each.name}_{DIGEST}"
        if known_by in given or (each.with_digest and "part" not in given):
            hints[known_by] = str
        if (called := f"{each.name}_{NAME}") in given:
            hints[called] = str
    # Of what another input brings along.
    return hints | {each: str for each in given if each.endswith(f"_{DIGEST}") and each not in hints}


def _inputs(of: steps.Input, given: Collection[str], on_volume: Collection[type[Artifact[Any]]]) -> Iterator[Argument]:
    """The component's inputs for an input of the step: one; none or several if it is optional or a list."""
    if of.is_section or of.kind is int:
        yield Argument(of.flag, of.name, dict if of.is_section else int)
        return
    by_value = of.kind.BY_VALUE or of.kind in on_volume
    hint = str if by_value else dsl.Input[_TYPES.get(of.kind, dsl.Artifact)]
    names = [of.name]
    if of.many:
        names = [each for each in given if re.fullmatch(rf"{of.word}_\d+", each)]
    elif of.name not in given and (of.optional or f"{of.name}_{DIGEST}" in given):
        # Left out, or brought along by another input.
        names = []
    for name in names:
        is_flag = of.kind in on_volume
        yield Argument(of.flag, name, hint, not by_value, is_flag, of.kind.WITH_DIGEST)


def _output(product: type[Artifact[Any]], on_volume: Collection[type[Artifact[Any]]]) -> Argument:
    if product in on_volume:
        return Argument("--out", "out", str, is_flag=True)
    return Argument("--out", noun(product), dsl.Output[_TYPES.get(product, dsl.Artifact)], as_path=True)
