"""`mura pipeline`: the commands for Kubeflow Pipelines.

commands/
    compile.py          the YAML that Kubeflow Pipelines takes
    run_local.py        the pipeline in containers of this machine
    submit.py           upload the pipeline and start a run
    watch.py            show a run until it ends
    logs.py             the log of a step
    schedule.py         start runs by the clock
    cancel.py           end a run
    cluster_doctor.py   `mura pipeline doctor`: what a run needs, and what is missing
    options.py          flags that several commands have
"""

import importlib

import click

from components.cli.group import Group

# The module of each command, which has it as `command`. None imports kfp when it is imported.
COMMANDS = {
    "compile": "compile",
    "run-local": "run_local",
    "submit": "submit",
    "watch": "watch",
    "logs": "logs",
    "schedule": "schedule",
    "cancel": "cancel",
    "doctor": "cluster_doctor",
}


class PipelineGroup(Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{COMMANDS[cmd_name]}").command
        return command


@click.group("pipeline", cls=PipelineGroup)
def pipeline() -> None:
    """The same steps on Kubeflow Pipelines: compile, run, watch.

    Places and credentials come from the environment; where and with what the steps run is the section `kubeflow` of
    params.yaml.
    """
