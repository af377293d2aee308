"""`mura pipeline cancel`: end a run."""

import time

import click

from components.base.errors import UsageError
from components.base.terminal import tell
from pipelines.client import runs
from pipelines.client.access import Access
from pipelines.client.cluster import Kubeflow
from pipelines.client.refusal import Unavailable
from pipelines.commands.options import INTERVAL, cluster


@click.command("cancel")
@click.argument("run")
@cluster
@click.option("--wait", is_flag=True, help="Wait until its pods have ended.")
@INTERVAL
def command(access: Access, run: str, wait: bool, interval: float) -> None:
    """End RUN: its pods are stopped. The results of finished steps stay.

    RUN is the id or the name of a run, or the beginning of one. Nothing happens to a run that has ended already.
    """
    kubeflow = Kubeflow(access)
    found = runs.find(kubeflow, run)
    service = kubeflow.client.runs

    def look() -> runs.Progress:
        return runs.look(kubeflow, found.run_id, None)

    if not (now := look()).ended:
        try:
            kubeflow.call(f"cancelling {found.display_name}", service.run_service_terminate_run, found.run_id)
        except (Unavailable, UsageError):
            # If the run has just ended by itself, the server's answer depends on its version.
            if not (now := look()).ended:
                raise
        else:
            while wait and not (now := look()).ended:
                time.sleep(interval)
            tell(f"{found.display_name}: {now.word if wait else 'being cancelled'}.")
            return
    tell(f"{found.display_name} has ended already: {now.word}. Nothing to cancel.")
