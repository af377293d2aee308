"""`mura pipeline run-local`: the compiled pipeline in containers of this machine."""

import contextlib
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import yaml

from components.base.errors import MuraError, ServiceUnreachable, UsageError
from components.kubeflow.pod import RUN_ID
from components.params.document import DEFAULT, Params, parse, read_params
from components.params.kubeflow import KubeflowParams
from pipelines.containers import Containers, StepFailed

# What the restricted Pod Security Standard and the image promise on a cluster is asked of them here.
_CONFINED: dict[str, Any] = {
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "read_only": True,
    "tmpfs": {"/tmp": ""},  # noqa: S108 - the one place where a step may write beside its artifacts
}
# Steps are retried here because a cluster would, not because this machine needs a rest.
_BACKOFF = "1s"
_HOW = "Start Docker, or `podman system service --time=0 unix:///tmp/podman.sock &`, and set DOCKER_HOST."


def run_local(
    params: Params, archive: str, root: Path, environment: dict[str, str], mounts: Sequence[Path] = ()
) -> Path:
    """Run the compiled pipeline, one container after the other.

    Args:
        params: the choices.
        archive: a zip or directory of this machine, or `s3://bucket/key`.
        root: where a directory of this run is made for its artifacts.
        environment: what the steps find in theirs.
        mounts: what the steps read beside the archive.

    Returns:
        The directory of the run.

    Raises:
        StepFailed: a step ended badly.
        ServiceUnreachable: there is no container engine.
        UsageError: there is no such image or archive, or kfp is not installed.
    """
    from pipelines.compiling import compile_pipeline
    from pipelines.door import needs_kfp

    root = root.absolute()
    remote = "://" in archive
    if not remote:
        if not Path(archive).exists():
            raise UsageError(f"{archive}: no such archive. `mura phantom --out {archive}` draws one.")
        archive = str(Path(archive).absolute())
    # There is one environment for all containers here, and no device in it.
    on_cpu = {name: step.model_copy(update={"gpus": 0}) for name, step in params.kubeflow.steps.items()}
    params = params.model_copy(update={"kubeflow": params.kubeflow.model_copy(update={"steps": on_cpu})})
    compiled = compile_pipeline(params, archive=archive)
    mounted = {path.absolute(): "ro" for path in [*mounts, *([] if remote else [Path(archive)])]}
    environment, database = _with_mlflow(environment, root)
    if database is not None:
        mounted[database] = "rw"
    containers = Containers(mounted)

    with needs_kfp(), _engine(compiled.text) as options, warnings.catch_warnings():
        # kfp warns that resources and display names have no effect here.
        warnings.simplefilter("ignore")
        from kfp import components, local

        user = _owner(params.kubeflow, root)
        local.init(
            local.DockerRunner(environment=environment, network_mode="host", user=user, **_CONFINED | options),
            pipeline_root=str(root),
            workspace_root=str(_volume(params.kubeflow, root)),
        )
        pipeline = components.load_component_from_text(_quick_to_retry(compiled.text))
        existing = set(root.iterdir())
        # kfp tells its story on the standard output; ours is the steps'.
        with (
            (root / "kfp.log").open("a") as log,
            contextlib.redirect_stdout(log),
            containers.in_place_of_kfps(),
        ):
            try:
                pipeline()
            except RuntimeError as error:
                # What kfp raises when a task failed; what failed, we know better.
                if containers.failure() is None:
                    raise MuraError(f"run-local: {error}") from error
    if failed := containers.failure():
        raise StepFailed(failed)
    return next(path for path in root.glob(f"{compiled.name}-*/") if path not in existing)


@click.command("run-local")
@click.option("--params", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT, show_default=True)
@click.option("--archive", metavar="PATH|s3://BUCKET/KEY", help="The archive. [default: `archive` of --params]")
@click.option(
    "--image", metavar="REFERENCE", help="The image. [default: the one of this code, as `make image` names it]"
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/kubeflow"),
    show_default=True,
    help="Where the artifacts of this run go, in a directory of its own.",
)
@click.option(
    "--mount",
    "mounts",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="What the steps read besides, such as pretrained weights; at the same path inside. Repeat the flag.",
)
def command(params: Path, archive: str | None, image: str | None, root: Path, mounts: tuple[Path, ...]) -> None:
    """Run the pipeline in containers of this machine, as Kubeflow would, one step after the other.

    Needs Docker or Podman's socket, and the image. The steps find the variables that `kubeflow.environment` names, as
    they are set here, and reach what this machine reaches. Without MLFLOW_TRACKING_URI, runs and models are kept beside
    the artifacts. A step that fails fails the run: its last lines are told, and its exit code is ours.
    """
    choices = read_params(params)
    if image:
        profile = choices.kubeflow.model_dump() | {"image": image}
        choices = choices.model_copy(update={"kubeflow": parse(KubeflowParams, profile, "--image")})
    names = [key for source in choices.kubeflow.environment for key in source.keys]
    environment = {name: os.environ[name] for name in names if os.environ.get(name)}
    started = time.monotonic()
    try:
        made = run_local(choices, archive or choices.archive, root, environment, mounts)
    except StepFailed as failed:
        # Again, since other steps may have spoken since.
        click.secho(f"run-local: the last lines of {failed.attempt.task}", err=True, bold=True)
        for line in failed.attempt.last_lines:
            click.echo(f"    {line}", err=True)
        raise
    click.echo(f"run-local: all steps done, {time.monotonic() - started:.0f} s, artifacts in {made}", err=True)


@contextlib.contextmanager
def _engine(pipeline: str) -> Iterator[dict[str, Any]]:
    """See that there is a container engine with the pipeline's images; what it wants to be told of users."""
    import docker

    where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    away = ServiceUnreachable(f"No container engine answers at {where}. {_HOW}")
    # Looked for before it is asked: docker's client leaves the socket open on which nobody answers.
    if where.startswith("unix://") and not Path(where.removeprefix("unix://")).exists():
        raise away
    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        raise away from error
    with contextlib.closing(client):
        executors = next(yaml.safe_load_all(pipeline))["deploymentSpec"]["executors"].values()
        for image in {executor["container"]["image"] for executor in executors if "container" in executor}:
            try:
                client.images.get(image)
            except docker.errors.ImageNotFound as error:
                raise UsageError(f"No image {image} here. Build it with `make image`, or name one: --image.") from error
        rootless = "name=rootless" in " ".join(client.info().get("SecurityOptions") or [])
        podman = "podman" in str(client.version().get("Components", "")).lower()
        # Without root, Podman can keep our number inside; Docker makes us number 0 there.
        yield {} if not rootless else {"userns_mode": "keep-id"} if podman else {"user": "0:0"}


def _owner(profile: KubeflowParams, root: Path) -> str:
    """Whose files the artifacts will be: ours; root's steps run as the profile's user, as they would on a cluster."""
    root.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        return f"{os.getuid()}:{os.getgid()}"
    os.chown(root, profile.user, profile.user)
    return f"{profile.user}:{profile.user}"


def _volume(profile: KubeflowParams, root: Path) -> Path:
    """What a run's pods share on a cluster. kfp removes it when the run ends, as a cluster does."""
    made = Path(tempfile.mkdtemp(prefix=".workspace-", dir=root))
    if os.getuid() == 0:
        os.chown(made, profile.user, profile.user)
    return made


def _with_mlflow(environment: dict[str, str], root: Path) -> tuple[dict[str, str], Path | None]:
    """The environment with an MLflow, and the directory of its database if that must be mounted."""
    uri = environment.get("MLFLOW_TRACKING_URI")
    run = {RUN_ID: f"local-{uuid.uuid4().hex[:12]}"}
    if uri is None:
        return {"MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}", **environment, **run}, None
    if urlsplit(uri).scheme == "sqlite":
        return {**environment, **run}, Path(uri.removeprefix("sqlite:///")).absolute().parent
    return {**environment, **run}, None


def _quick_to_retry(pipeline: str) -> str:
    documents = list(yaml.safe_load_all(pipeline))
    for component in [documents[0]["root"], *documents[0]["components"].values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            if "retryPolicy" in task:
                task["retryPolicy"]["backoffDuration"] = _BACKOFF
    return yaml.safe_dump_all(documents)
