"""The graphs: the same steps, edges, commands and parameters as dvc.yaml.

`mura` is all of it, or begins with the shards of an earlier run. `mura-data` makes these in parts.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_task import PipelineTask

from components.artifacts.artifact import Artifact
from components.artifacts.manifest import Manifest
from components.artifacts.parts import ManifestPart, ShardsPart
from components.artifacts.shards import Shards
from components.artifacts.trained_model import ENSEMBLE
from components.kubeflow.executor import CODE, CODE_DIGITS, DIGEST, noun
from components.params.document import Params
from components.params.kubeflow import KubeflowParams
from components.params.train import title
from pipelines.graph.component import RECEIPTS, component, merge, notify, with_signature
from pipelines.graph.placement import place

_ARGUMENTS = (
    "Every argument is a choice; the values are those of the params.yaml it was compiled from. Research only: not a "
    "medical device."
)
# What parts of a step make together, and the output of one.
_WHOLES: Mapping[str, tuple[type[Artifact[Any]], str]] = {
    "ingest": (Manifest, noun(ManifestPart)),
    "shard": (Shards, noun(ShardsPart)),
}
_SHARDS_PLACE = f"{dsl.WORKSPACE_PATH_PLACEHOLDER}/shards"

Inputs = dict[str, Any]
"""What a task is given, by the names of its component's inputs."""


class Candidate(NamedTuple):
    """Whom a task is about."""

    name: str
    architecture: str


class Tasks:
    """Makes tasks. Each is placed, named and cached as its step needs."""

    def __init__(self, profile: KubeflowParams, image: Callable[[bool], str], code: Callable[[str], str]) -> None:
        """Say where and with what tasks run.

        Args:
            profile: where the steps run.
            image: reference of the image; of the GPU build if True.
            code: digest of the code that a module runs.
        """
        self.shards_on_volume = profile.shards == "workspace"
        self._profile, self._image = profile, image
        self._code = functools.cache(code)

    def add(self, step: str, inputs: Inputs, candidate: Candidate | None = None) -> PipelineTask:
        """Add a task.

        Args:
            step: name of the step.
            inputs: what the task is given. The digest of its code is added.
            candidate: the candidate that the task is about.
        """
        part = inputs.get("part", "")
        number = part.partition("/")[0]
        of = candidate.name if candidate else number
        # The ensemble that is called so has the task of that name.
        name = f"{step}_{of}" if of and of != step else step
        where = f"{step}.{candidate.name}" if candidate else step
        if step not in RECEIPTS:
            inputs = inputs | {CODE: self._code(f"components.{step}")[:CODE_DIGITS]}
        on_volume = (Shards,) if self.shards_on_volume else ()
        made = component(step, self._image(self._profile.step(where).gpus > 0), name, inputs, on_volume)
        task = place(made(**inputs), self._profile, where).set_display_name(_display_name(step, candidate, part))
        # A result on the run's volume ends with the run.
        return task.set_caching_options(step not in RECEIPTS and "out" not in inputs)

    def merge(self, step: str, inputs: Inputs, parts: Sequence[PipelineTask]) -> PipelineTask:
        """Add the task that makes the whole of parts, with the places and keys of the step that made them.

        Args:
            step: name of the step.
            inputs: what the parts were given.
            parts: their tasks.
        """
        product, made = _WHOLES[step]
        for number, part in enumerate(parts, 1):
            inputs = inputs | {f"part_{number}": part.outputs[made]}
        inputs = inputs | {CODE: self._code(f"components.{step}")[:CODE_DIGITS]}
        task = place(merge(product, self._image(False), list(inputs))(**inputs), self._profile, "merge", step)
        return task.set_display_name(f"Merge {noun(product)}")

    def notify(self) -> PipelineTask:
        """Add the task that reports the end of the run."""
        task = notify(self._image(False))(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        return place(task, self._profile, "notify").set_display_name("Notify").set_caching_options(False)


def whole_pipeline(params: Params, arguments: Mapping[str, Any], tasks: Tasks) -> GraphComponent:
    """`mura`: from the archive to the promotion.

    Args:
        params: the candidates, and the limits of a run.
        arguments: what a run can be given, with the defaults.
        tasks: makes the tasks.
    """

    def steps(given: Inputs) -> None:
        archive = _archive(given)
        called = {"archive_name": given["archive_name"], "seed": given["seed"], "overlay": given["overlay"]}
        ingest = tasks.add("ingest", archive | called | {"params": given["ingest"]})
        valid = _validated(tasks, given, archive, ingest)
        if tasks.shards_on_volume:
            shard = tasks.add("shard", archive | valid | {"params": given["shard"], "out": _SHARDS_PLACE})
            shards = {"shards": _SHARDS_PLACE, f"shards_{DIGEST}": shard.outputs[DIGEST]}
        else:
            shard = tasks.add("shard", archive | valid | {"params": given["shard"]})
            shards = _made("shards", shard, "shards")
        # The shards bring the manifest along.
        del valid["manifest"]
        _add_candidates(tasks, given, params, valid | shards)

    about = f"From an archive of bone X-rays to a trusted model. {_ARGUMENTS}"
    return _pipeline(Naming("mura", "MURA", about, "training"), params.kubeflow, arguments, tasks, steps)


def data_pipeline(params: Params, arguments: Mapping[str, Any], tasks: Tasks, parts: int) -> GraphComponent:
    """`mura-data`: from the archive to the valid manifest and the shards, both made in parts at the same time.

    Args:
        params: the limits of a run.
        arguments: what a run can be given, with the defaults.
        tasks: makes the tasks.
        parts: how many there are.
    """

    def steps(given: Inputs) -> None:
        archive = _archive(given)
        called = {"archive_name": given["archive_name"], "seed": given["seed"], "overlay": given["overlay"]}
        made_with = archive | called | {"params": given["ingest"]}
        named = [{"part": f"{number}/{parts}"} for number in range(1, parts + 1)]
        ingest = tasks.merge("ingest", made_with, [tasks.add("ingest", made_with | part) for part in named])
        valid = _validated(tasks, given, archive, ingest)
        packed_with = valid | {"params": given["shard"]}
        # The manifest has the digest of every image, so the cache need not know the archive's.
        place = {"archive": given["archive"]}
        shards = [tasks.add("shard", place | packed_with | part) for part in named]
        # Without the manifest itself: each part knows it, and the digest tells the cache.
        tasks.merge("shard", {key: each for key, each in packed_with.items() if key != "manifest"}, shards)

    about = f"From an archive of bone X-rays to a valid manifest and shards, in parts. {_ARGUMENTS}"
    return _pipeline(Naming("mura-data", "MURA data", about, "data"), params.kubeflow, arguments, tasks, steps)


def training_pipeline(params: Params, arguments: Mapping[str, Any], tasks: Tasks) -> GraphComponent:
    """`mura` from the valid manifest and the shards of an earlier run on. The cache knows its trainings as the same.

    Args:
        params: the candidates, and the limits of a run.
        arguments: what a run can be given, with the defaults.
        tasks: makes the tasks.
    """

    def steps(given: Inputs) -> None:
        data: Inputs = {}
        for name in ("manifest", "shards"):
            importer = dsl.importer(artifact_uri=given[name], artifact_class=dsl.Dataset, reimport=False)
            importer.set_display_name(name.capitalize())
            data |= {name: importer.output, f"{name}_{DIGEST}": given[f"{name}_{DIGEST}"]}
        _add_candidates(tasks, given, params, data)

    about = f"From a valid manifest and shards of bone X-rays to a trusted model. {_ARGUMENTS}"
    return _pipeline(Naming("mura", "MURA", about, "training"), params.kubeflow, arguments, tasks, steps)


class Naming(NamedTuple):
    """How a pipeline is called."""

    name: str
    display_name: str
    about: str
    group: str
    """All its steps besides the notification."""


def _pipeline(
    naming: Naming,
    profile: KubeflowParams,
    arguments: Mapping[str, Any],
    tasks: Tasks,
    steps: Callable[[Inputs], None],
) -> GraphComponent:
    """A pipeline of steps, whose end is notified. `steps` adds them, and gets the arguments."""

    def add(*channels: Any) -> None:
        with dsl.ExitHandler(tasks.notify(), name=naming.group):
            steps(dict(zip(arguments, channels, strict=True)))

    decorate = dsl.pipeline(
        name=naming.name,
        display_name=naming.display_name,
        description=naming.about,
        pipeline_config=dsl.PipelineConfig(
            workspace=_workspace(profile) if tasks.shards_on_volume else None,
            active_deadline_seconds=profile.hours * 3600,
            # Argo's own config map has an hour for success and for failure, which win over the time of any end.
            ttl_seconds_after_finished=profile.keep_hours * 3600,
            ttl_seconds_after_success=profile.keep_hours * 3600,
            ttl_seconds_after_failure=profile.keep_hours * 3600,
        ),
    )
    hints = {name: type(default) for name, default in arguments.items()}
    found: GraphComponent = decorate(with_signature(add, naming.name, naming.about, hints))
    return found


def _archive(given: Inputs) -> Inputs:
    """The archive as an input, and for the lineage.

    Kubeflow downloads an artifact that is an input whole into every pod, so the steps get the URI and read the members
    they need. The digest of the archive is an argument of the run: Kubeflow's server puts no arguments into an
    importer's metadata.
    """
    importer = dsl.importer(artifact_uri=given["archive"], artifact_class=dsl.Dataset, reimport=False)
    importer.set_display_name("Archive")
    return {"archive": given["archive"], "archive_digest": given["archive_digest"]}


def _validated(tasks: Tasks, given: Inputs, archive: Inputs, manifest: PipelineTask) -> Inputs:
    """Add `validate`, and give the valid manifest as an input of others."""
    inputs = archive | _made("manifest", manifest, "manifest") | {"params": given["validate"]}
    return _made("manifest", tasks.add("validate", inputs), "valid_manifest")


def _add_candidates(tasks: Tasks, given: Inputs, params: Params, data: Inputs) -> None:
    """Add all that comes after the shards.

    Each candidate has tasks of its own in the compiled pipeline: in a ParallelFor Kubeflow 2.17 ignores retries, and a
    candidate could have no resources and no name of its own.

    Args:
        tasks: makes the tasks.
        given: arguments of the run.
        params: the candidates and the ensembles.
        data: the valid manifest and the shards, as inputs; the manifest's digest alone where the shards bring it along.
    """
    shards = {name: each for name, each in data.items() if name.startswith("shards")}
    seed = {"seed": given["seed"]}
    chosen = {"params": given["evaluate"], "protocol": given["protocol"]}
    # An evaluation brings its model along.
    made: dict[str, PipelineTask] = {}

    def evaluate(maker: PipelineTask, candidate: Candidate) -> None:
        model = _made("model", maker, "trained_model")
        made[candidate.name] = tasks.add("evaluate", data | model | seed | chosen, candidate)

    def evaluations(names: Iterable[str]) -> Inputs:
        found = [_made(f"evaluation_{i}", made[name], "evaluation") for i, name in enumerate(names, 1)]
        return {name: each for some in found for name, each in some.items()}

    for name, trained in params.train.candidates.items():
        candidate = Candidate(name, trained.architecture)
        evaluate(tasks.add("train", shards | seed | {"params": given[f"train_{name}"]}, candidate), candidate)
    for name, ensemble in params.ensembles.items():
        candidate = Candidate(name, ENSEMBLE)
        members = evaluations(ensemble.chosen(params.train.candidates))
        evaluate(tasks.add(ENSEMBLE, members | {"params": given[f"ensemble_{name}"]}, candidate), candidate)
    register = tasks.add("register", evaluations(made) | {"params": given["register"]})
    tasks.add("promote", _made("registration", register, "registration") | {"params": given["promote"]})


def _made(name: str, task: PipelineTask, output: str) -> Inputs:
    """An output of a task as the input `name` of others, with its digest."""
    return {name: task.outputs[output], f"{name}_{DIGEST}": task.outputs[DIGEST]}


def _display_name(step: str, candidate: Candidate | None, part: str) -> str:
    """`Shard`, `Shard 3/8`, `Train (VGG-16)`, or `Train wide (VGG-16)` if the name is not the architecture's."""
    if candidate is None or candidate.name == step:
        return f"{step.capitalize()} {part}".rstrip()
    written = title(*candidate)
    own_name = candidate.name != candidate.architecture
    return f"{step.capitalize()} {written if own_name else f'({written})'}"


def _workspace(profile: KubeflowParams) -> dsl.WorkspaceConfig:
    claim: dict[str, Any] = {"accessModes": ["ReadWriteMany"]}
    if profile.workspace_class:
        claim["storageClassName"] = profile.workspace_class
    return dsl.WorkspaceConfig(
        size=profile.workspace_size, kubernetes=dsl.KubernetesWorkspaceConfig(pvcSpecPatch=claim)
    )
