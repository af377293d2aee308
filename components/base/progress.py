"""Long work shows how far it is: a bar on a terminal, a line every tenth elsewhere."""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Fewer than this are done before a line about them is read.
LONG = 500


class Bar:
    """Counts up to a total where people can see it."""

    def __init__(self, total: int, what: str) -> None:
        """Count `total` things of the work `what`, as in "ingest: images"."""
        self._total, self._what, self._count = total, what, 0
        self._step = max(1, total // 10)
        self._progress: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.start()
            self._task = self._progress.add_task(self._what, total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, by: int = 1) -> None:
        """So many more are done."""
        before, self._count = self._count, self._count + by
        if self._progress is not None:
            self._progress.advance(self._task, by)
        elif self._total >= LONG and before // self._step < self._count // self._step and self._count < self._total:
            logger.info("%s %s of %s", self._what, f"{self._count:,}", f"{self._total:,}")

    def advance_to(self, done: int) -> None:
        """So many are done in all."""
        self.advance(done - self._count)


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items on, and tell people how many of how many have gone by.

    Args:
        items: whatever is counted.
        total: how many will come.
        what: the work, as in "ingest: images".
    """
    with Bar(total, what) as bar:
        for item in items:
            yield item
            bar.advance()


def duration(seconds: float) -> str:
    """42 s, 3 min 20 s, 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
