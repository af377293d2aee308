"""Show a run until it ends."""

import time
from collections.abc import Callable

from components.base.errors import RunFailed, ServiceUnreachable
from components.base.terminal import tell
from pipelines.client import runs
from pipelines.client.cluster import Kubeflow
from pipelines.client.conclusion import conclude
from pipelines.client.in_cluster import InCluster
from pipelines.client.refusal import Missing, Unavailable
from pipelines.client.runs import Progress
from pipelines.client.screen import Screen
from pipelines.graph.package import Package

# A server restarts, a laptop sleeps: the run goes on meanwhile.
_PATIENCE = 600.0
# So long after its start a run has its workflow.
_MADE = 60.0


def follow(kubeflow: Kubeflow, run_id: str, pipeline: Package | None, interval: float) -> None:
    """Show a run until it ends.

    Args:
        kubeflow: the server.
        run_id: id of the run.
        pipeline: of the run, if known.
        interval: seconds between two requests.

    Raises:
        RunFailed: the run failed, was cancelled or skipped, or nobody works for it any more.
        ServiceUnreachable: the server has not answered for ten minutes, or refuses our login.
    """
    name = run_id
    cluster = InCluster(kubeflow, run_id)

    def look() -> Progress:
        return cluster.add(runs.look(kubeflow, run_id, pipeline))

    try:
        with Screen() as screen:
            last = look()
            name = last.name
            screen.show(last)
            _warn_of_schedule(kubeflow, last, screen)
            while not last.ended:
                if _left_alone(last, cluster) or runs.overdue(last, pipeline):
                    raise _abandoned(last, kubeflow)
                time.sleep(interval)
                last = _patiently(look, screen, interval)
                screen.show(last)
            if last.unfinished:
                # The server writes the end of a run before those of its last steps.
                time.sleep(interval)
                last = _patiently(look, screen, interval)
                screen.show(last)
    except KeyboardInterrupt:
        tell(
            f"No longer watched; the run goes on. `mura pipeline watch {name}` shows it again, "
            f"`mura pipeline cancel {name}` ends it.",
            err=True,
        )
        raise
    except ServiceUnreachable as error:
        raise type(error)(f"{error} The run goes on: `mura pipeline watch {name}` shows it again.") from error
    conclude(last, kubeflow, cluster, pipeline.steps if pipeline else ())


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


def _left_alone(run: Progress, cluster: InCluster) -> bool:
    return not run.ended and (run.now - run.created).total_seconds() > _MADE and cluster.gone()


def _abandoned(run: Progress, kubeflow: Kubeflow) -> RunFailed:
    return RunFailed(
        f"{run.name} does not run any more, although Kubeflow lists it as {run.word} for ever: its workflow is gone "
        "from the cluster. Was its schedule removed in the user interface, which removes workflows of its runs too? "
        f"Start it again: `mura pipeline submit`. {kubeflow.run_link(run.run_id)}"
    )


def _warn_of_schedule(kubeflow: Kubeflow, run: Progress, screen: Screen) -> None:
    """Say that a run may never end: a schedule removed in the user interface takes the workflows of its runs along."""
    if run.ended or not run.schedule:
        return
    try:
        get = kubeflow.client.recurring_runs.recurring_run_service_get_recurring_run
        kubeflow.call("looking for the run's schedule", get, run.schedule)
    except Missing:
        screen.say(
            "The schedule that started this run was removed. If its workflow was removed too, the run never ends; "
            f"`kubectl get workflows -l pipeline/runid={run.run_id}` tells."
        )
