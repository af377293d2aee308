"""`mura pipeline logs`: the log of a step."""

import click

from components.base.errors import UsageError
from components.base.terminal import tell
from pipelines.client import runs, step_log
from pipelines.client.access import Access
from pipelines.client.cluster import Kubeflow
from pipelines.client.in_cluster import InCluster
from pipelines.client.refusal import Missing
from pipelines.client.runs import LOST, Progress, Row
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
    missing = []
    for row in chosen:
        text = (in_cluster.log_of_failed if row.state == "failed" else in_cluster.log)(progress, row.key)
        if text is None:
            missing.append(_missing(progress, row, in_cluster.name))
            continue
        if len(chosen) > 1 or step is None:
            tell(f"{row.name} of {progress.name}, {row.state}:")
        read = step_log.read(text)
        tell(text.rstrip("\n") if whole else "\n".join(read.lines))
        if read.launcher and not whole:
            tell(f"Kubeflow's launcher failed: {read.launcher}")
    if missing:
        raise Missing(" ".join(missing))


def _chosen(run: Progress, wanted: str | None) -> list[Row]:
    """The steps to be shown.

    Raises:
        UsageError: there is no such step, or there are several.
    """
    if wanted is None:
        return _unnamed(run)
    named = [row for row in run.rows if wanted.lower() in (row.key.lower(), row.name.lower())]
    found = named or [row for row in run.rows if any(name.lower().startswith(wanted.lower()) for name in row[:2])]
    if len(found) == 1:
        return found
    names = ", ".join(row.key for row in found or run.rows)
    if not found:
        raise UsageError(f"{run.name} has no step {wanted}; it has {names}.")
    raise UsageError(f"{wanted}: {len(found)} steps begin so: {names}. Give more of the name.")


def _unnamed(run: Progress) -> list[Row]:
    """The steps to be shown where none is named.

    Raises:
        Missing: no step has a log, or the run failed and nothing says where.
    """
    # A step that could not be prepared has failed without a pod of its own.
    if failed := [row for row in run.rows if row.state == "failed"]:
        return failed
    begun = [row for row in run.rows if row.key in run.nodes and row.state != "reused"]
    if run.state == "FAILED":
        if lost := [row for row in begun if row.state in ("stopped", LOST)]:
            return lost
        raise Missing(
            f"{run.name} failed, and nothing says in which step. `mura pipeline watch {run.name}` tells what is known; "
            f"`mura pipeline logs {run.name} STEP` shows the log of a step."
        )
    if chosen := [row for row in begun if row.state.startswith("running")] or begun[-1:]:
        return chosen
    raise Missing(f"{run.name}: no step has a log yet.")


def _missing(run: Progress, row: Row, namespace: str) -> str:
    if row.state in _NO_LOG:
        return f"{row.name} has no log in {run.name}: it {_NO_LOG[row.state]}."
    if row.state == "failed" and row.key not in run.nodes:
        why = f" ({row.why.rstrip('.')})" if row.why else ""
        return (
            f"{row.name} has no log in {run.name}: it failed before it began{why}. The pod that prepares it may say "
            f"more: kubectl -n {namespace} get pods -l pipeline/runid={run.run_id}"
        )
    if row.state.startswith("running") and not run.ended:
        return (
            f"{row.name} is still running: its log is in its pod until then, which needs a kubeconfig. "
            f"kubectl -n {namespace} get pods -l pipeline/runid={run.run_id}"
        )
    return (
        f"{row.name} has no log in {run.name}: its pod is gone or cannot be read, and Kubeflow has not kept it "
        "(it keeps logs where Argo's `archiveLogs` is set, as it is by default)."
    )
