"""Show a run until it ends."""

import time
from collections.abc import Callable, Sequence

import click

from components.base.errors import RunFailed, ServiceUnreachable
from components.base.progress import duration
from pipelines.client.cluster import Kubeflow
from pipelines.client.refusal import Unavailable
from pipelines.client.runs import Progress, progress
from pipelines.client.screen import Screen
from pipelines.graph.package import Step

# A server restarts, a laptop sleeps: the run goes on meanwhile.
_PATIENCE = 600.0
# The last lines of a failed step's log.
_LINES = 20
# Of the pods, if the server has one namespace for all.
_NAMESPACE = "kubeflow"
_ENDS = {"FAILED": "failed", "CANCELED": "was cancelled", "SKIPPED": "was skipped"}


def follow(kubeflow: Kubeflow, run_id: str, steps: Sequence[Step] | None, interval: float) -> None:
    """Show a run until it ends.

    Args:
        kubeflow: the server.
        run_id: id of the run.
        steps: of its pipeline, if known.
        interval: seconds between two requests.

    Raises:
        RunFailed: the run failed, was cancelled or skipped.
        ServiceUnreachable: the server has not answered for ten minutes, or refuses our login.
    """
    name = run_id

    def look() -> Progress:
        run = kubeflow.call(f"asking for the run {run_id}", kubeflow.client.runs.run_service_get_run, run_id)
        return progress(run, steps)

    try:
        with Screen() as screen:
            last = look()
            name = last.name
            screen.show(last)
            while not last.ended:
                time.sleep(interval)
                last = _patiently(look, screen, interval)
                screen.show(last)
    except KeyboardInterrupt:
        click.echo(
            f"No longer watched; the run goes on. `mura pipeline watch {name}` shows it again, "
            f"`mura pipeline cancel {name}` ends it.",
            err=True,
        )
        raise
    except ServiceUnreachable as error:
        raise type(error)(f"{error} The run goes on: `mura pipeline watch {name}` shows it again.") from error
    _conclude(last, kubeflow)


def _patiently(look: Callable[[], Progress], screen: Screen, interval: float) -> Progress:
    """Ask for the run; again and again while the server does not answer or fails."""
    began = time.monotonic()
    told = False
    while True:
        try:
            return look()
        except Unavailable as error:
            if time.monotonic() - began > _PATIENCE:
                raise
            if not told:
                screen.say(f"{error} Asking again for ten minutes; the run goes on.")
            told = True
            time.sleep(interval)


def _conclude(run: Progress, kubeflow: Kubeflow) -> None:
    """Print how the run ended, or raise."""
    if run.state == "SUCCEEDED":
        reused = sum(row.state == "reused" for row in run.rows)
        cached = f"; {reused} of {len(run.rows)} steps were there already" if reused else ""
        click.echo(f"{run.name} succeeded in {duration(run.seconds)}{cached}.")
        return
    logs = ""
    if run.state == "FAILED":
        namespace = kubeflow.access.namespace or _NAMESPACE
        _show_logs(run, namespace)
        logs = (
            f" Its logs: kubectl -n {namespace} logs -l pipeline/runid={run.run_id} -c main --tail={_LINES} --prefix, "
            f"or {kubeflow.run_link(run.run_id)}"
        )
    failed = [row.name for row in run.rows if row.state == "failed"]
    which = f" in {', '.join(failed)}" if failed else ""
    why = f": {run.error.rstrip('.')}" if run.error else ""
    raise RunFailed(f"{run.name} {_ENDS[run.state]}{which} after {duration(run.seconds)}{why}.{logs}")


def _show_logs(run: Progress, namespace: str) -> None:
    """Print the last lines of the pods that failed, if there is a kubeconfig and the pods still exist."""
    # Imports kubernetes, which is slow.
    from pipelines.checks.namespace import Namespace

    try:
        cluster_namespace = Namespace(namespace, None)
    except ValueError:
        return
    for pod, lines in cluster_namespace.last_words(run.run_id, _LINES):
        click.echo(f"\nThe last lines of {pod}:")
        click.echo("\n".join(f"  {line}" for line in lines.splitlines()))
