"""Run the compiled pipeline through kfp.local."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import yaml
from kfp import components, local

from components.archive.archive import missing
from components.base.errors import RunFailed, ServiceUnreachable, UsageError
from components.kubeflow.pod import RUN_ID
from components.params.document import Params
from components.params.kubeflow import KubeflowParams
from components.signing import keys
from pipelines.graph import overlay_argument
from pipelines.graph.compiling import compile_pipeline
from pipelines.graph.package import Package
from pipelines.kfp_extra import needs_kfp
from pipelines.local.containers import Containers, StepFailed

# The limits that the restricted Pod Security Standard sets on a cluster.
_CONFINED: dict[str, Any] = {
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "read_only": True,
    "tmpfs": {"/tmp": ""},  # noqa: S108 - the one place where a step may write besides its artifacts
}
# A step is retried as on a cluster, but this machine needs no pause.
_BACKOFF = "1s"
# In a directory that only we may enter: somebody else could have a socket in /tmp first, and would be told our keys.
_HOW = (
    "Start Docker; or `export DOCKER_HOST=unix://$(mktemp -d)/podman.sock` and `podman system service --time=0 "
    "$DOCKER_HOST &`."
)


def run_local(
    params: Params, archive: str, root: Path, environment: dict[str, str], mounts: Sequence[Path] = ()
) -> Path:
    """Run the compiled pipeline, one container after the other.

    Args:
        params: the choices.
        archive: a zip or directory of this machine, or `s3://bucket/key`.
        root: the run gets a directory of its own in it, for its artifacts.
        environment: environment variables of the steps.
        mounts: paths that the steps read besides the archive.

    Returns:
        The directory of the run.

    Raises:
        StepFailed: a step failed.
        RunFailed: the run failed, and no step did.
        ServiceUnreachable: there is no container engine.
        UsageError: there is no such image or archive.
    """
    root = root.absolute()
    readable = [path.absolute() for path in mounts]
    if "://" not in archive:
        if not Path(archive).exists():
            raise UsageError(missing(archive))
        archive = str(Path(archive).absolute())
        readable.append(Path(archive))
    package = compile_pipeline(_on_cpu(params), archive=archive, overlay=_overlay(params, readable))
    environment, database = _with_mlflow(environment, root)
    environment |= keys.environment()
    containers = Containers(dict.fromkeys(readable, "ro") | dict.fromkeys(database, "rw"))

    # kfp warns that resources and display names have no effect here.
    with needs_kfp(), _engine(package) as options:
        user = _owner(params.kubeflow, root)
        runner = local.DockerRunner(environment=environment, network_mode="host", user=user, **_CONFINED | options)
        local.init(runner, pipeline_root=str(root), workspace_root=str(_volume(params.kubeflow, root)))
        existing = set(root.iterdir())
        _run(package, containers, root / "kfp.log")
    if failed := containers.failure():
        raise StepFailed(failed)
    return next(path for path in root.glob(f"{package.name}-*/") if path not in existing)


def _run(package: Package, containers: Containers, log: Path) -> None:
    pipeline = components.load_component_from_text(_quick_to_retry(package))
    # kfp logs to the standard output. Only the output of the steps is shown.
    with log.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file), containers.in_place_of_kfps():
        try:
            pipeline()
        except RuntimeError as error:
            # kfp raises it when a task failed. `containers` knows which one.
            if containers.failure() is None:
                raise RunFailed(f"run-local: {error}") from error


@contextlib.contextmanager
def _engine(package: Package) -> Iterator[dict[str, Any]]:
    """Check that a container engine answers and has the images; give the options that it needs for users."""
    where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    away = ServiceUnreachable(f"No container engine answers at {where}. {_HOW}")
    # Checked first: docker's client does not close a socket on which nobody answers.
    if where.startswith("unix://"):
        socket = Path(where.removeprefix("unix://"))
        if not socket.exists():
            raise away
        if (owner := socket.stat().st_uid) not in (0, os.getuid()):
            raise UsageError(
                f"{socket}: belongs to another user ({owner}), who would be told the keys that steps get. {_HOW}"
            )
    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        raise away from error
    with contextlib.closing(client):
        for image in package.needs.images:
            try:
                client.images.get(image)
            except docker.errors.ImageNotFound as error:
                raise UsageError(f"No image {image} here. Build it with `make image`, or name one: --image.") from error
        rootless = "name=rootless" in " ".join(client.info().get("SecurityOptions") or [])
        podman = "podman" in str(client.version().get("Components", "")).lower()
        # Rootless Podman can keep our user id in the container. In rootless Docker, id 0 is our user.
        yield {} if not rootless else {"userns_mode": "keep-id"} if podman else {"user": "0:0"}


def _overlay(params: Params, readable: list[Path]) -> str:
    """What the steps are given as overlay, if it is too long for an argument: the file, which they may read."""
    path = Path(params.labels.overlay).absolute()
    if not path.is_file() or path.stat().st_size <= overlay_argument.LONGEST:
        return ""
    readable.append(path)
    return str(path)


def _on_cpu(params: Params) -> Params:
    """The choices without GPUs: all containers have the same options here, and no device."""
    steps = {name: step.model_copy(update={"gpus": 0}) for name, step in params.kubeflow.steps.items()}
    return params.model_copy(update={"kubeflow": params.kubeflow.model_copy(update={"steps": steps})})


def _owner(profile: KubeflowParams, root: Path) -> str:
    """The user that steps run as: ours, so that the artifacts are ours; for root, the profile's as on a cluster."""
    root.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        return f"{os.getuid()}:{os.getgid()}"
    os.chown(root, profile.user, profile.user)
    return f"{profile.user}:{profile.user}"


def _volume(profile: KubeflowParams, root: Path) -> Path:
    """A directory for the volume that a run's pods share on a cluster. kfp removes it at the end of the run."""
    made = Path(tempfile.mkdtemp(prefix=".workspace-", dir=root))
    if os.getuid() == 0:
        os.chown(made, profile.user, profile.user)
    return made


def _with_mlflow(environment: dict[str, str], root: Path) -> tuple[dict[str, str], list[Path]]:
    """The environment with an MLflow, and the directory of its database if it must be mounted."""
    uri = environment.get("MLFLOW_TRACKING_URI")
    run = {RUN_ID: f"local-{uuid.uuid4().hex[:12]}"}
    if not uri:
        return {**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}", **run}, []
    if urlsplit(uri).scheme == "sqlite":
        return {**environment, **run}, [Path(uri.removeprefix("sqlite:///")).absolute().parent]
    return {**environment, **run}, []


def _quick_to_retry(package: Package) -> str:
    documents = list(yaml.safe_load_all(package.text))
    for component in [documents[0]["root"], *documents[0]["components"].values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            if "retryPolicy" in task:
                task["retryPolicy"]["backoffDuration"] = _BACKOFF
    return yaml.safe_dump_all(documents)
