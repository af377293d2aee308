"""The graph: the same steps, edges, commands and parameters as dvc.yaml."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_task import PipelineTask

from components.artifacts.shards import Shards
from components.kubeflow.executor import CODE, DIGEST, DIGITS
from components.params.document import Params
from components.params.kubeflow import KubeflowParams
from components.params.train import TrainParams, title
from pipelines.graph.component import RECEIPTS, component, notify, with_signature
from pipelines.graph.placement import place

NAME = "mura"
ABOUT = (
    "From an archive of bone X-rays to a trusted model. Every argument is a choice; the values are those of the "
    "params.yaml it was compiled from. Research only: not a medical device."
)
_SHARDS_PLACE = f"{dsl.WORKSPACE_PATH_PLACEHOLDER}/shards"

Inputs = dict[str, Any]
"""What a task is given, by the names of its component's inputs."""


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

    def add(self, step: str, inputs: Inputs, candidate: TrainParams | None = None) -> PipelineTask:
        """Add a task.

        Args:
            step: name of the step.
            inputs: what the task is given. The digest of its code is added.
            candidate: the candidate that the task is about.
        """
        name = f"{step}_{candidate.candidate}" if candidate else step
        where = f"{step}.{candidate.candidate}" if candidate else step
        if step not in RECEIPTS:
            inputs = inputs | {CODE: self._code(f"components.{step}")[:DIGITS]}
        on_volume = (Shards,) if self.shards_on_volume else ()
        made = component(step, self._image(self._profile.step(where).gpus > 0), name, inputs, on_volume)
        task = place(made(**inputs), self._profile, where).set_display_name(_display_name(step, candidate))
        # A result on the run's volume ends with the run.
        return task.set_caching_options(step not in RECEIPTS and "out" not in inputs)

    def notify(self) -> PipelineTask:
        """Add the task that reports the end of the run."""
        task = notify(self._image(False))(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        return place(task, self._profile, "notify").set_display_name("Notify").set_caching_options(False)


def pipeline(params: Params, arguments: Mapping[str, Any], tasks: Tasks) -> GraphComponent:
    """The pipeline for the candidates of a params.yaml.

    Args:
        params: the candidates, and the limits of a run.
        arguments: what a run can be given, with the defaults.
        tasks: makes the tasks.
    """

    def mura(*channels: Any) -> None:
        given = dict(zip(arguments, channels, strict=True))
        with dsl.ExitHandler(tasks.notify(), name="training"):
            _add_steps(tasks, given, params.train.candidates)

    profile = params.kubeflow
    decorate = dsl.pipeline(
        name=NAME,
        display_name="MURA",
        description=ABOUT,
        pipeline_config=dsl.PipelineConfig(
            workspace=_workspace(profile) if tasks.shards_on_volume else None,
            active_deadline_seconds=profile.hours * 3600,
            # Argo's own config map has an hour for success and for failure, which win over the time of any end.
            ttl_seconds_after_finished=profile.keep_hours * 3600,
            ttl_seconds_after_success=profile.keep_hours * 3600,
            ttl_seconds_after_failure=profile.keep_hours * 3600,
        ),
    )
    found: GraphComponent = decorate(
        with_signature(mura, NAME, ABOUT, {name: type(default) for name, default in arguments.items()})
    )
    return found


def _add_steps(tasks: Tasks, given: Inputs, candidates: Mapping[str, TrainParams]) -> None:
    """Add the steps.

    Each candidate has tasks of its own in the compiled pipeline: in a ParallelFor Kubeflow 2.17 ignores retries, and a
    candidate could have no resources and no name of its own.
    """
    # For the lineage alone. Kubeflow downloads an artifact that is an input whole into every pod, so the steps get the
    # URI and read the members they need. The digest of the archive is an argument of the run: Kubeflow's server puts no
    # arguments into an importer's metadata.
    importer = dsl.importer(artifact_uri=given["archive"], artifact_class=dsl.Dataset, reimport=False)
    importer.set_display_name("Archive")
    archive = {"archive": given["archive"], "archive_digest": given["archive_digest"]}
    seed = {"seed": given["seed"]}

    called = {"archive_name": given["archive_name"]}
    ingest = tasks.add("ingest", archive | called | seed | {"overlay": given["overlay"], "params": given["ingest"]})
    validate = tasks.add("validate", archive | _made("manifest", ingest, "manifest") | {"params": given["validate"]})
    valid = _made("manifest", validate, "valid_manifest")
    if tasks.shards_on_volume:
        shard = tasks.add("shard", archive | valid | {"params": given["shard"], "out": _SHARDS_PLACE})
        shards = {"shards": _SHARDS_PLACE, f"shards_{DIGEST}": shard.outputs[DIGEST]}
    else:
        shard = tasks.add("shard", archive | valid | {"params": given["shard"]})
        shards = _made("shards", shard, "shards")

    # An evaluation brings its model along.
    made: Inputs = {}
    for name, candidate in candidates.items():
        train = tasks.add("train", shards | seed | {"params": given[f"train_{name}"]}, candidate)
        model = _made("model", train, "trained_model")
        evaluate = tasks.add("evaluate", valid | shards | model | seed | {"params": given["evaluate"]}, candidate)
        made[f"evaluation_{name}"] = evaluate.outputs["evaluation"]
    register = tasks.add("register", made | {"params": given["register"]})
    tasks.add("promote", {"registration": register.outputs["registration"], "params": given["promote"]})


def _made(name: str, task: PipelineTask, output: str) -> Inputs:
    """An output of a task as the input `name` of others, with its digest."""
    return {name: task.outputs[output], f"{name}_{DIGEST}": task.outputs[DIGEST]}


def _display_name(step: str, candidate: TrainParams | None) -> str:
    """`Shard`, `Train (VGG-16)`, or `Train wide (VGG-16)` if the candidate's name is not its architecture's."""
    if candidate is None:
        return step.capitalize()
    written = title(candidate.candidate, candidate.architecture)
    own_name = candidate.candidate != candidate.architecture
    return f"{step.capitalize()} {written if own_name else f'({written})'}"


def _workspace(profile: KubeflowParams) -> dsl.WorkspaceConfig:
    claim: dict[str, Any] = {"accessModes": ["ReadWriteMany"]}
    if profile.workspace_class:
        claim["storageClassName"] = profile.workspace_class
    return dsl.WorkspaceConfig(
        size=profile.workspace_size, kubernetes=dsl.KubernetesWorkspaceConfig(pvcSpecPatch=claim)
    )
