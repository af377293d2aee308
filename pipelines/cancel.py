"""`mura pipeline cancel`: end a run."""

import click

from components.base.errors import UsageError
from pipelines.access import Access
from pipelines.options import INTERVAL, cluster


@click.command("cancel")
@click.argument("run")
@cluster
@click.option("--wait", is_flag=True, help="Wait until its pods have ended.")
@INTERVAL
def command(access: Access, run: str, wait: bool, interval: float) -> None:
    """End RUN: its pods are stopped, what its steps have finished stays.

    RUN is the id or the name of a run, or the beginning of one. A run that has ended already is left as it is.
    """
    import time

    from pipelines import runs
    from pipelines.cluster import Kubeflow
    from pipelines.refusal import Unavailable

    kubeflow = Kubeflow(access)
    found = runs.find(kubeflow, run)
    service = kubeflow.client.runs

    def look() -> runs.Progress:
        seen = kubeflow.call(f"asking for the run {found.run_id}", service.run_service_get_run, found.run_id)
        return runs.progress(seen, [])

    if not (now := look()).ended:
        try:
            kubeflow.call(f"cancelling {found.display_name}", service.run_service_terminate_run, found.run_id)
        except (Unavailable, UsageError):
            # What Kubeflow answers when the run has just ended by itself differs from version to version.
            if not (now := look()).ended:
                raise
        else:
            while wait and not (now := look()).ended:
                time.sleep(interval)
            click.echo(f"{found.display_name}: {now.word if wait else 'being cancelled'}.")
            return
    click.echo(f"{found.display_name} has ended already: {now.word}. Nothing to cancel.")
