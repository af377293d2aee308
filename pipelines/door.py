"""`mura pipeline`: the door to Kubeflow."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import click

from components.base.errors import UsageError
from components.cli.group import Group

# By command: the module that has it as `command`. None of them imports kfp when it is imported.
COMMANDS = {
    "compile": "pipelines.compiling",
    "run-local": "pipelines.local",
    "submit": "pipelines.submit",
    "watch": "pipelines.watch",
    "schedule": "pipelines.schedule",
    "cancel": "pipelines.cancel",
    "doctor": "pipelines.doctor",
}


@contextmanager
def needs_kfp() -> Iterator[None]:
    """Around what imports kfp: where it is missing, say how it is installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("kfp", "kfp_server_api", "docker"):
            raise
        raise UsageError(
            f"{error.name} is not installed; Kubeflow Pipelines needs it. "
            "Install it with: pip install 'mura-pipeline[pipelines]' (in a checkout: make setup)."
        ) from error


class PipelineDoor(Group):
    """Commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group("pipeline", cls=PipelineDoor)
def pipeline() -> None:
    """The same steps on Kubeflow Pipelines: compile, run, watch.

    Places and credentials come from the environment; where and with what the steps run is the section `kubeflow` of
    params.yaml.
    """
