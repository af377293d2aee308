"""`mura pipeline logs`: the log of a step."""

import click

from components.base.errors import UsageError
from components.base.terminal import tell
from pipelines.client import runs, step_log
from pipelines.client.access import Access
from pipelines.client.cluster import Kubeflow
from pipelines.client.in_cluster import InCluster
from pipelines.client.refusal import Missing
from pipelines.client.runs import Progress, Row
from pipelines.commands.options import cluster

# Without a pod there is nothing to read.
_NO_LOG = {
    "waiting": "has not started yet",
    "not started": "was not started",
    "skipped": "was skipped",
    "starting": "is just starting",
    "waiting for a node": "waits for a node",
    "reused": "was not run: its result is that of an earlier run, from Kubeflow's cache",
}


@click.command("logs")
@click.argument("run", required=False)
@click.argument("step", required=False)
@cluster
@click.option("--whole", is_flag=True, help="With the lines of Kubeflow's launcher and of Argo.")
def command(access: Access, run: str | None, step: str | None, whole: bool) -> None:
    """Show the log of STEP in RUN.

    RUN is the id or the name of a run, or the beginning of one. [default: the newest run] STEP is the name of a step,
    or the beginning of one: train-vgg16, "Train (VGG". [default: those that failed; else those at work; else the last]
    The log is that of the step's pod, which a kubeconfig for the cluster lets us read. Of a pod that is gone, Kubeflow
    keeps the log in its bucket as long as it keeps artifacts.

    \b
    Exit codes: 0 shown; 2 no such run or step, or it has no log;
    5 Kubeflow Pipelines does not answer.
    """  # noqa: D301 - click wants the backspace itself
    kubeflow = Kubeflow(access)
    found = runs.find(kubeflow, run)
    in_cluster = InCluster(kubeflow, found.run_id)
    progress = in_cluster.add(runs.look(kubeflow, found.run_id, runs.pipeline_of(kubeflow, found)))
    chosen = _chosen(progress, step)
    for row in chosen:
        text = in_cluster.log(progress, row.key)
        if text is None:
            raise Missing(_missing(progress, row, in_cluster.name))
        if len(chosen) > 1 or step is None:
            tell(f"{row.name} of {progress.name}, {row.state}:")
        read = step_log.read(text)
        tell(text.rstrip("\n") if whole else "\n".join(read.lines))
        if read.launcher and not whole:
            tell(f"Kubeflow's launcher failed: {read.launcher}")


def _chosen(run: Progress, wanted: str | None) -> list[Row]:
    """The steps to be shown.

    Raises:
        UsageError: there is no such step, or there are several.
    """
    begun = [row for row in run.rows if row.key in run.nodes and row.state != "reused"]
    if wanted is None:
        for state in ("failed", "running"):
            if chosen := [row for row in begun if row.state.startswith(state)]:
                return chosen
        if begun:
            return begun[-1:]
        raise Missing(f"{run.name}: no step has a log yet.")
    named = [row for row in run.rows if wanted.lower() in (row.key.lower(), row.name.lower())]
    found = named or [row for row in run.rows if any(name.lower().startswith(wanted.lower()) for name in row[:2])]
    if len(found) == 1:
        return found
    names = ", ".join(row.key for row in found or run.rows)
    if not found:
        raise UsageError(f"{run.name} has no step {wanted}; it has {names}.")
    raise UsageError(f"{wanted}: {len(found)} steps begin so: {names}. Give more of the name.")


def _missing(run: Progress, row: Row, namespace: str) -> str:
    if row.state in _NO_LOG:
        return f"{row.name} has no log in {run.name}: it {_NO_LOG[row.state]}."
    if row.state.startswith("running") and not run.ended:
        return (
            f"{row.name} is still running: its log is in its pod until then, which needs a kubeconfig. "
            f"kubectl -n {namespace} get pods -l pipeline/runid={run.run_id}"
        )
    return (
        f"{row.name} has no log in {run.name}: its pod is gone or cannot be read, and Kubeflow has not kept it "
        "(it keeps logs where Argo's `archiveLogs` is set, as it is by default)."
    )
