"""The graph: the same steps, edges, commands and parameters as dvc.yaml."""

import inspect
from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_task import PipelineTask

from components.artifacts.shards import Shards
from components.params.document import Params
from pipelines import placement, steps

NAME = "mura"
ABOUT = (
    "From an archive of bone X-rays to a trusted model. Every argument is a choice; the values are those of the "
    "params.yaml it was compiled from. Research only: not a medical device."
)
_TITLES = {"custom_cnn": "custom CNN", "vgg16": "VGG-16", "vgg19": "VGG-19", "inception_v3": "Inception V3"}
_SHARDS_PLACE = f"{dsl.WORKSPACE_PATH_PLACEHOLDER}/shards"


def pipeline(params: Params, image: Callable[[bool], str]) -> GraphComponent:
    """The pipeline for the architectures of a params.yaml, placed as its `kubeflow` section says.

    The fan-out over architectures is written out in the compiled pipeline: inside a ParallelFor Kubeflow 2.17 ignores
    retries, and an architecture could have no resources and no name of its own.

    Args:
        params: the choices; which architectures there are, and where the steps run.
        image: reference of the image, of the GPU build if True.
    """
    profile = params.kubeflow
    on_volume = profile.shards == "workspace"
    by_path = (Shards,) if on_volume else ()

    def step(name: str, entry: str | None = None, **options: Any) -> Callable[..., PipelineTask]:
        """A step, to be called with its inputs; placed, named and cached as it should be."""
        where = profile.step(f"{name}.{entry}" if entry else name)
        made = steps.component(
            name,
            image(where.gpus > 0),
            name=f"{name}_{entry}" if entry else name,
            by_path=by_path,
            **options,
        )

        def task(**inputs: Any) -> PipelineTask:
            placed = placement.place(made(**inputs), profile, where)
            title = f" ({_TITLES.get(entry, entry)})" if entry else ""
            placed.set_display_name(name.capitalize() + title)
            placed.set_caching_options(name not in steps.RECEIPTS and not (name == "shard" and on_volume))
            return placed

        return task

    def shards_of(shard: PipelineTask) -> Any:
        return _SHARDS_PLACE if on_volume else shard.outputs["shards"]

    @_with_training_arguments(params)
    def mura(
        archive: str,
        archive_digest: str,
        overlay: str,
        code: str,
        seed: int,
        ingest: dict,  # type: ignore[type-arg]
        validate: dict,  # type: ignore[type-arg]
        shard: dict,  # type: ignore[type-arg]
        evaluate: dict,  # type: ignore[type-arg]
        register: dict,  # type: ignore[type-arg]
        promote: dict,  # type: ignore[type-arg]
        **train: dict,  # type: ignore[type-arg]
    ) -> None:
        told = placement.place(
            steps.notify(image(False))(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER), profile, profile.step("notify")
        )
        told.set_display_name("Notify").set_caching_options(False)
        with dsl.ExitHandler(told, name="training"):
            # For the lineage alone. An artifact that is an input is downloaded whole into every pod, so that the steps
            # get the URI and read the members they need. Its digest is an argument of the run: Kubeflow's server puts
            # no arguments into an importer's metadata.
            dsl.importer(artifact_uri=archive, artifact_class=dsl.Dataset, reimport=False).set_display_name("Archive")
            ingested = step("ingest", given=["overlay"])(
                archive=archive,
                archive_digest=archive_digest,
                overlay=overlay,
                params=ingest,
                seed=seed,
                code=code,
            )
            validated = step("validate")(
                archive=archive,
                archive_digest=archive_digest,
                manifest=ingested.outputs["manifest"],
                manifest_digest=ingested.outputs["digest"],
                params=validate,
                code=code,
            )
            sharded = step("shard")(
                archive=archive,
                archive_digest=archive_digest,
                manifest=validated.outputs["valid_manifest"],
                manifest_digest=validated.outputs["digest"],
                params=shard,
                code=code,
                **({"out": _SHARDS_PLACE} if on_volume else {}),
            )
            candidates: dict[str, Any] = {}
            for architecture, chosen in train.items():
                trained = step("train", architecture)(
                    shards=shards_of(sharded),
                    shards_digest=sharded.outputs["digest"],
                    params=chosen,
                    seed=seed,
                    code=code,
                )
                evaluated = step("evaluate", architecture)(
                    manifest=validated.outputs["valid_manifest"],
                    manifest_digest=validated.outputs["digest"],
                    shards=shards_of(sharded),
                    shards_digest=sharded.outputs["digest"],
                    model=trained.outputs["trained_model"],
                    model_digest=trained.outputs["digest"],
                    params=evaluate,
                    seed=seed,
                    code=code,
                )
                candidates[f"model_{architecture}"] = trained.outputs["trained_model"]
                candidates[f"evaluation_{architecture}"] = evaluated.outputs["evaluation"]
            registered = step("register", architectures=list(train))(**candidates, params=register)
            step("promote")(registration=registered.outputs["registration"], params=promote)

    workspace = dsl.WorkspaceConfig(
        size=profile.workspace_size,
        kubernetes=dsl.KubernetesWorkspaceConfig(
            pvcSpecPatch={"accessModes": ["ReadWriteMany"]}
            | ({"storageClassName": profile.workspace_class} if profile.workspace_class else {})
        ),
    )
    return dsl.pipeline(
        name=NAME,
        display_name="MURA",
        description=ABOUT,
        pipeline_config=dsl.PipelineConfig(
            workspace=workspace if on_volume else None,
            active_deadline_seconds=profile.hours * 3600,
            ttl_seconds_after_finished=profile.keep_hours * 3600,
        ),
    )(mura)


def _with_training_arguments(params: Params) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace `**train` by an argument for each architecture, `train_vgg16`."""

    def replace(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function)
        fixed = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        entries = [
            inspect.Parameter(f"train_{key}", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=dict)
            for key in params.train.candidates
        ]

        def called(*channels: Any) -> None:
            function(*channels[: len(fixed)], **dict(zip(params.train.candidates, channels[len(fixed) :], strict=True)))

        called.__name__, called.__doc__ = function.__name__, ABOUT
        called.__signature__ = signature.replace(parameters=[*fixed, *entries])  # type: ignore[attr-defined]
        return called

    return replace
