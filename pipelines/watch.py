"""`mura pipeline watch`: the steps of a run, live, until it ends."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import click

from components.base.errors import ServiceUnreachable
from pipelines.access import Access
from pipelines.options import INTERVAL, cluster
from pipelines.package import Step
from pipelines.runs import Progress, Row, RunFailed, duration

# A server that restarts, a laptop that sleeps: the run goes on meanwhile.
_PATIENCE = 600.0
# Of a failed step's log.
_LINES = 20
# Where the pods are when there is one namespace for all.
_NAMESPACE = "kubeflow"
_STYLES = {"running": "bold", "done": "green", "reused": "green", "failed": "bold red", "cancelled": "yellow"}


@click.command("watch")
@click.argument("run")
@cluster
@INTERVAL
def command(access: Access, run: str, interval: float) -> None:
    """Show the steps of RUN with their durations until it ends.

    RUN is the id or the name of a run, or the beginning of one. On a terminal the table is redrawn; elsewhere every
    change is a line. Ctrl-C ends the watching, not the run. Of steps that failed the last lines of the log are shown,
    if there is a kubeconfig for the cluster.

    \b
    Exit codes: 0 the run succeeded; 1 it failed, was cancelled or skipped;
    2 no such run; 5 Kubeflow Pipelines does not answer for ten minutes.
    """  # noqa: D301 - click wants the backspace itself
    from pipelines import runs
    from pipelines.cluster import Kubeflow

    kubeflow = Kubeflow(access)
    found = runs.find(kubeflow, run)
    click.echo(f"{found.display_name}  {kubeflow.run_link(found.run_id)}")
    follow(kubeflow, found.run_id, runs.steps_of(kubeflow, found), interval)


def follow(kubeflow: Any, run_id: str, steps: Sequence[Step] | None, interval: float) -> None:
    """Show a run until it ends.

    Args:
        kubeflow: where it is.
        run_id: which.
        steps: of its pipeline, if known.
        interval: seconds between two looks.

    Raises:
        RunFailed: it failed, was cancelled or skipped.
        ServiceUnreachable: there has been no answer for ten minutes, or we are no longer allowed to ask.
    """
    from pipelines.runs import progress

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
            f"No longer watched; the run goes on. `mura pipeline watch {name}` looks again, "
            f"`mura pipeline cancel {name}` ends it.",
            err=True,
        )
        raise
    except ServiceUnreachable as error:
        raise type(error)(f"{error} The run goes on: `mura pipeline watch {name}` looks again.") from error
    _conclude(last, kubeflow)


class Screen:
    """A table that is redrawn on a terminal, a line for each change elsewhere."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._live: Any = None
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, run: Progress) -> None:
        """Show a run as it is now."""
        if self._live is not None:
            self._live.update(_table(run), refresh=True)
            return
        for row in run.rows:
            if row.state not in ("not started", self._shown.get(row.name, "waiting")):
                self._shown[row.name] = row.state
                took = f", {duration(row.seconds)}" if row.seconds is not None and row.state != "running" else ""
                self._line(f"{row.name}: {row.state}{took}")
        if self._shown.get("") != run.state:
            self._shown[""] = run.state
            self._line(f"run: {run.word}")

    def say(self, text: str) -> None:
        """A remark beside the table."""
        self._line(text)

    def _line(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False)


def _patiently(look: Callable[[], Progress], screen: Screen, interval: float) -> Progress:
    """Look, and again while the server is silent or in trouble."""
    from pipelines.refusal import Unavailable

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


def _conclude(run: Progress, kubeflow: Any) -> None:
    reused = sum(row.state == "reused" for row in run.rows)
    cached = f"; {reused} of {len(run.rows)} steps were there already" if reused else ""
    if run.state == "SUCCEEDED":
        click.echo(f"{run.name} succeeded in {duration(run.seconds)}{cached}.")
        return
    if run.state == "FAILED":
        _show_logs(run, kubeflow.access.namespace or _NAMESPACE)
    failed = [row.name for row in run.rows if row.state == "failed"]
    which = f" in {', '.join(failed)}" if failed else ""
    why = f": {run.error.rstrip('.')}" if run.error else ""
    ended = {"FAILED": "failed", "CANCELED": "was cancelled", "SKIPPED": "was skipped"}[run.state]
    namespace = kubeflow.access.namespace or _NAMESPACE
    logs = (
        f" Its logs: kubectl -n {namespace} logs -l pipeline/runid={run.run_id} -c main --tail=20 --prefix, or "
        f"{kubeflow.run_link(run.run_id)}"
    )
    raise RunFailed(
        f"{run.name} {ended}{which} after {duration(run.seconds)}{why}.{logs if run.state == 'FAILED' else ''}"
    )


def _show_logs(run: Progress, namespace: str) -> None:
    """What the pods that failed said last, where there is a kubeconfig and the logs are still there."""
    from pipelines.namespace import Namespace

    try:
        cluster_namespace = Namespace(namespace, None)
    except ValueError:
        return
    for pod, said in cluster_namespace.last_words(run.run_id, _LINES):
        click.echo(f"\nThe last lines of {pod}:")
        click.echo("\n".join(f"  {line}" for line in said.splitlines()))


def _table(run: Progress) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=f"{run.name}: {run.word}, {duration(run.seconds)}", title_justify="left")
    table.add_column("step")
    table.add_column("state")
    table.add_column("time", justify="right")
    for row in run.rows:
        table.add_row(*_cells(row), style=_STYLES.get(row.state, ""))
    return table


def _cells(row: Row) -> tuple[str, str, str]:
    return row.name, row.state, duration(row.seconds) if row.seconds is not None else ""
