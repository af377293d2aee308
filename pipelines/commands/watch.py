"""`mura pipeline watch`: the steps of a run, live, until it ends."""

import click

from pipelines.client import runs
from pipelines.client.access import Access
from pipelines.client.cluster import Kubeflow
from pipelines.client.following import follow
from pipelines.commands.options import INTERVAL, cluster


@click.command("watch")
@click.argument("run")
@cluster
@INTERVAL
def command(access: Access, run: str, interval: float) -> None:
    """Show the steps of RUN with their durations until it ends.

    RUN is the id or the name of a run, or the beginning of one. On a terminal the table is redrawn; elsewhere every
    change is a line. Ctrl-C ends the watching, not the run. With a kubeconfig for the cluster, the last lines of the
    log of each failed step are shown.

    \b
    Exit codes: 0 the run succeeded; 6 it failed, was cancelled or skipped;
    2 no such run; 5 Kubeflow Pipelines does not answer for ten minutes.
    """  # noqa: D301 - click wants the backspace itself
    kubeflow = Kubeflow(access)
    found = runs.find(kubeflow, run)
    click.echo(f"{found.display_name}  {kubeflow.run_link(found.run_id)}")
    follow(kubeflow, found.run_id, runs.steps_of(kubeflow, found), interval)
