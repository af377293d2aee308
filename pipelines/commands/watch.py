"""`mura pipeline watch`: the steps of a run, live, until it ends."""

import click

from components.base.terminal import tell
from pipelines.client import runs
from pipelines.client.access import Access
from pipelines.client.cluster import Kubeflow
from pipelines.client.following import follow
from pipelines.commands.options import INTERVAL, cluster


@click.command("watch")
@click.argument("run", required=False)
@cluster
@INTERVAL
def command(access: Access, run: str | None, interval: float) -> None:
    """Show the steps of RUN with the time of their work until it ends.

    RUN is the id or the name of a run, or the beginning of one. [default: the newest run] On a terminal the table is
    redrawn; elsewhere every change is a line. Ctrl-C ends the watching, not the run. Of each step that fails the last
    lines of the log are shown. With a kubeconfig for the cluster it says what a step waits for.

    \b
    Exit codes: 0 the run succeeded; that of the step which failed, if its log
    says it (1, 2, 3, 4 or 5); 6 it failed, was cancelled or skipped, or its
    workflow is gone; 2 no such run; 5 Kubeflow Pipelines does not answer for
    ten minutes.
    """  # noqa: D301 - click wants the backspace itself
    kubeflow = Kubeflow(access)
    found = runs.find(kubeflow, run)
    tell(f"{found.display_name}  {kubeflow.run_link(found.run_id)}")
    follow(kubeflow, found.run_id, runs.pipeline_of(kubeflow, found), interval)
