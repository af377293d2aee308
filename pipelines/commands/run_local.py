"""`mura pipeline run-local`: the compiled pipeline in containers of this machine."""

import os
import time
from pathlib import Path

import click

from components.base.terminal import tell
from components.params.document import parse, read_params
from components.params.kubeflow import KubeflowParams
from pipelines.commands.options import PARAMS
from pipelines.kfp_extra import needs_kfp


@click.command("run-local")
@PARAMS
@click.option("--archive", metavar="PATH|s3://BUCKET/KEY", help="The archive. [default: `archive` of --params]")
@click.option(
    "--image", metavar="REFERENCE", help="The image. [default: the one of this code, as `make image` names it]"
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/kubeflow"),
    show_default=True,
    help="The run makes a directory in it for its artifacts.",
)
@click.option(
    "--mount",
    "mounts",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="A path that the steps read besides, such as pretrained weights; the same path inside. Repeat the flag.",
)
def command(params: Path, archive: str | None, image: str | None, root: Path, mounts: tuple[Path, ...]) -> None:
    """Run the pipeline in containers of this machine, as Kubeflow would, one step after the other.

    Needs the socket of Docker or Podman, and the image. The steps get the variables that `kubeflow.environment` names,
    with the values that they have here, and the network of this machine. Without MLFLOW_TRACKING_URI, runs and models
    are kept beside the artifacts. A step that fails ends the run: its last lines are shown, and this command ends
    with its exit code.
    """
    with needs_kfp():
        from pipelines.local.containers import StepFailed
        from pipelines.local.local_run import run_local

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
        # Shown again: the notification was printed after them.
        tell(f"run-local: the last lines of {failed.attempt.task}", err=True, bold=True)
        for line in failed.attempt.last_lines:
            tell(f"    {line}", err=True)
        raise
    tell(f"run-local: all steps done, {time.monotonic() - started:.0f} s, artifacts in {made}", err=True)
