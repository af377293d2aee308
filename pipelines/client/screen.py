"""The steps of a run on the screen."""

import time
from types import TracebackType
from typing import Self

from rich import box
from rich.live import Live
from rich.table import Table

from components.base.console import Console
from components.base.progress import duration
from pipelines.client.runs import Progress, Row

# A step with one of these states has worked for the last time.
_OVER = ("done", "failed", "cancelled", "stopped")
_LONG = 200
_STYLES = {"running": "bold", "done": "green", "reused": "green", "failed": "bold red", "cancelled": "yellow"}


class Screen:
    """A table that is redrawn on a terminal, a line for each change elsewhere."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._console = Console(soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
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
            # Kubernetes alternates between reasons; one of them is enough.
            told = f"{row.state} {row.attempt} ..." if row.why or row.attempt > 1 else row.state
            if told not in ("not started", self._shown.get(row.key, "waiting")):
                self._shown[row.key] = told
                took = f", {duration(row.seconds)}" if row.seconds is not None and row.state in _OVER else ""
                self.say(f"{row.name}: {_state(row)}{took}")
        if self._shown.get("") != run.state:
            self._shown[""] = run.state
            self.say(f"run: {run.word}")

    def say(self, text: str) -> None:
        """Print a line beside the table."""
        self._console.print(f"{time.strftime('%H:%M:%S')}  {text}")


def _state(row: Row) -> str:
    """The state of a step, and why."""
    why = row.why if len(row.why) <= _LONG else f"{row.why[: _LONG - 1]}…"
    again = f", attempt {row.attempt}" if row.attempt > 1 else ""
    return f"{row.state}{again} ({why})" if why else f"{row.state}{again}"


def _table(run: Progress) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=f"{run.name}: {run.word}, {duration(run.seconds)}", title_justify="left")
    table.add_column("step")
    table.add_column("state")
    table.add_column("time", justify="right")
    for row in run.rows:
        took = duration(row.seconds) if row.seconds is not None else ""
        table.add_row(row.name, _state(row), took, style=_STYLES.get(row.state, ""))
    return table
