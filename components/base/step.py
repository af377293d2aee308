"""The steps, what one takes, and what it may declare besides its signature."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

STEPS = ("ingest", "validate", "shard", "train", "evaluate", "ensemble", "register", "promote")
"""In the order of the graph; an ensemble is evaluated after it is made. The step `train` is the function `train` of the
package `components.train`."""
ANALYSES = ("stress",)
"""Steps that DVC's graph has and Kubeflow's has not: nothing is made of their results. A task would take 50 kB of the
1 MiB that the state of a run may have on Kubeflow."""


class StepInput(Protocol):
    """What a step reads from a place: an artifact, the archive, the overlay."""

    METAVAR: ClassVar[str]
    """How the command line calls such a place."""
    BY_VALUE: ClassVar[bool]
    """Whether an orchestrator hands over the place itself (True), or a directory that it fetched (False)."""
    WITH_DIGEST: ClassVar[bool]
    """Whether an orchestrator's cache needs its digest too: what is handed over does not show the content."""

    @classmethod
    def read(cls, place: Any) -> Self:
        """Open what lies at a place, as the command line names it."""

    @property
    def location(self) -> str:
        """Where it lies, for people."""

    @property
    def identity(self) -> Any:
        """What of it decides a result. JSON-serialisable."""


class Question(NamedTuple):
    """A flag that asks something else than what the step makes, such as about its last result.

    The step itself does not run, and needs no other flag. The question may need some.
    """

    flag: str
    metavar: str
    help: str
    answer: Callable[[str, dict[str, Path | None]], str]
    """From the flag's value and the step's other flags to the text to print."""

    @property
    def name(self) -> str:
        """`explain` for `--explain`."""
        return self.flag.removeprefix("--").replace("-", "_")


class Flag(NamedTuple):
    """A flag for people, which DVC and Kubeflow do not set. The step has a keyword-only parameter of its name."""

    flag: str
    metavar: str | None
    """None for one without a value."""
    help: str

    @property
    def name(self) -> str:
        """`dry_run` for `--dry-run`."""
        return self.flag.removeprefix("--").replace("-", "_")


class Declaration(NamedTuple):
    """What a step says of itself besides its signature, as `DECLARES` of its package."""

    questions: tuple[Question, ...] = ()
    check: Callable[[], None] | None = None
    """Checks what the step needs from outside, before anything is read."""
    part: Callable[..., Any] | None = None
    """What `--part I/N` runs in place of the step: it has the step's inputs and `part`."""
    instead: Callable[[], Callable[..., None] | None] | None = None
    """Gives what this process runs in place of the step, with the same inputs and no result; None if the step."""
    flags: tuple[Flag, ...] = ()
