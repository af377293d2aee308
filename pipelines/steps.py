"""Container components, read from the signatures of the steps: the same words that DVC's stages run."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from kfp import dsl
from kfp.dsl.container_component_class import ContainerComponent

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.artifact import Artifact
from components.artifacts.manifest import Manifest, ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.cli import steps
from components.kubeflow.executor import CODE, DIGEST, VIEWS, noun

# Receipts stand for an effect on a server. They are made anew in every run, which does nothing when nothing is to do.
RECEIPTS = ("register", "promote")
_TYPES: dict[type[Artifact[Any]], type[dsl.Artifact]] = {
    Manifest: dsl.Dataset,
    ValidManifest: dsl.Dataset,
    Shards: dsl.Dataset,
    TrainedModel: dsl.Model,
}
_VIEWS = {kind.schema_title: kind for kind in (dsl.Metrics, dsl.ClassificationMetrics, dsl.HTML, dsl.Model)}


def component(
    step: str,
    image: str,
    *,
    name: str | None = None,
    architectures: Sequence[str] = (),
    given: Sequence[str] = (),
    by_path: Sequence[type[Artifact[Any]]] = (),
) -> ContainerComponent:
    """A step as a Kubeflow component.

    Its inputs are those of the step. A list has one input for each architecture: `model_vgg16`. A section is a JSON
    object. Beside each artifact comes its digest, `shards_digest`: Kubeflow's cache knows an artifact by the name of
    its output only, and would give the model of other shards for these. `code` is there for the cache alone. Receipts,
    which are not cached, have neither.

    Its outputs are the artifact, named as its noun, its `digest`, and what the user interface shows of it.

    Args:
        step: name of the step.
        image: reference of the image that runs it.
        name: of the component; the step's if not given.
        architectures: what lists have an input for.
        given: which of the step's optional inputs it has; the others are left out.
        by_path: kinds of artifacts that are passed as a path on a volume and not as Kubeflow's artifacts.
    """
    function = steps.step_function(step)
    product = get_type_hints(function)["return"]
    cached = step not in RECEIPTS
    hints: dict[str, Any] = {}
    words: list[str | tuple[str, str]] = []
    """Flags, and after each the name of the input or output that is its value."""

    def read(kind: type[Artifact[Any]], key: str, flag: str) -> None:
        words.extend((flag, (key, "path")) if kind not in by_path else (flag, (key, "value")))
        hints[key] = str if kind in by_path else dsl.Input[_TYPES.get(kind, dsl.Artifact)]
        if cached:
            hints[f"{key}_{DIGEST}"] = str

    for each in steps.inputs_of(function):
        if each.optional and each.name not in given:
            continue
        if each.is_section or each.kind in (Archive, Overlay, int):
            hints[each.name] = dict if each.is_section else int if each.kind is int else str
            if each.kind is Archive:
                hints[f"{each.name}_{DIGEST}"] = str
            words += [each.flag, (each.name, "value")]
        elif each.many:
            for architecture in architectures:
                read(each.kind, f"{each.flag.removeprefix('--')}_{architecture}", each.flag)
        else:
            read(each.kind, each.name, each.flag)
    if cached:
        hints[CODE] = str

    if product in by_path:
        hints["out"] = str
        words += ["--out", ("out", "value")]
    else:
        hints[noun(product)] = dsl.Output[_TYPES.get(product, dsl.Artifact)]
        words += ["--out", (noun(product), "path")]
    hints[DIGEST] = dsl.OutputPath(str)
    hints |= {name: dsl.Output[_VIEWS[view.schema]] for name, view in VIEWS.get(product, {}).items()}

    def container(*placeholders: Any) -> dsl.ContainerSpec:
        found = dict(zip(hints, placeholders, strict=True))
        args = [
            word if isinstance(word, str) else found[word[0]].path if word[1] == "path" else found[word[0]]
            for word in words
        ]
        args += ["--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
        return dsl.ContainerSpec(image=image, command=["mura", step], args=args)

    about = (inspect.getdoc(function) or "").split("\n")[0]
    return dsl.container_component(_with_signature(container, name or step, about, hints))


def notify(image: str) -> ContainerComponent:
    """The end of a run, told to a webhook."""

    def container(*placeholders: Any) -> dsl.ContainerSpec:
        status, run = placeholders
        return dsl.ContainerSpec(image=image, command=["mura", "notify"], args=["--status", status, "--run", run])

    about = "Tell a webhook how the run ended; never fails it."
    return dsl.container_component(
        _with_signature(container, "notify", about, {"status": dsl.PipelineTaskFinalStatus, "run": str})
    )


def _with_signature(
    function: Callable[..., dsl.ContainerSpec], name: str, about: str, hints: dict[str, Any]
) -> Callable[..., dsl.ContainerSpec]:
    """The function as if these parameters were written in its definition, where kfp looks for them."""
    parameters = [
        inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=hint) for key, hint in hints.items()
    ]
    function.__name__, function.__doc__, function.__annotations__ = name, about, hints
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function
