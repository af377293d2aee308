"""Runs: find one, and read its progress."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from components.base.errors import UsageError
from pipelines.client.cluster import Kubeflow, whose_name
from pipelines.client.refusal import Missing
from pipelines.graph.package import Package, Step

# States that do not change any more. kfp's own function to wait ignores CANCELED and never returns.
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
_WORDS = {
    None: "waiting",
    "RUNTIME_STATE_UNSPECIFIED": "waiting",
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELING": "being cancelled",
    "CANCELED": "cancelled",
    "PAUSED": "paused",
}
_NOT_BEGUN = ("RUNTIME_STATE_UNSPECIFIED", "PENDING")
# A time that is not set has the year 1 in Argo, 1970 in Unix.
_NEVER = 1970
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BEGINNING_OF_ID = r"[0-9a-f]{6}[0-9a-f-]*"


class Row(NamedTuple):
    """A step of a run, for people."""

    name: str
    state: str
    """waiting, running, done, reused, skipped, failed, cancelled, stopped, not started."""
    seconds: float | None
    """How long it took, or has been running; None if it has not started."""


@dataclass(frozen=True)
class Progress:
    """A run at one moment."""

    name: str
    run_id: str
    state: str
    """One of Kubeflow's runtime states."""
    seconds: float
    rows: tuple[Row, ...]
    error: str

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED

    @property
    def word(self) -> str:
        """Its state in our words."""
        return _WORDS.get(self.state, self.state.lower())


def find(kubeflow: Kubeflow, wanted: str) -> Any:
    """The run whose id or name is, or begins with, `wanted`.

    Raises:
        Missing: there is none.
        UsageError: there are several.
    """
    runs = kubeflow.client.runs
    if re.fullmatch(_UUID, wanted):
        return kubeflow.call(f"looking for the run {wanted}", runs.run_service_get_run, wanted)
    by_name = {"filter": whose_name("IS_SUBSTRING", wanted)}
    # The server can search in names, not in ids.
    found = [each for each in _runs(kubeflow, **by_name) if each.display_name.startswith(wanted)]
    if not found and re.fullmatch(_BEGINNING_OF_ID, wanted):
        found = [each for each in _runs(kubeflow) if each.run_id.startswith(wanted)]
    exact = [each for each in found if each.display_name == wanted]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    if not found:
        where = f" in {kubeflow.access.namespace}" if kubeflow.namespace else ""
        raise Missing(f"No run{where} whose name or id begins with {wanted}. The names are in the user interface.")
    some = ", ".join(f"{each.display_name} ({each.run_id[:8]})" for each in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    raise UsageError(f"{wanted}: {len(found)} runs begin so: {some}{more}. Give more of the name, or the id.")


def steps_of(kubeflow: Kubeflow, run: Any) -> list[Step] | None:
    """The steps of a run's pipeline; None if the server does not say."""
    spec = run.pipeline_spec
    reference = run.pipeline_version_reference
    if spec is None and reference is not None and reference.pipeline_version_id:
        version = kubeflow.call(
            "looking for the run's pipeline",
            kubeflow.client.pipelines.pipeline_service_get_pipeline_version,
            reference.pipeline_id,
            reference.pipeline_version_id,
        )
        spec = version.pipeline_spec
    if not isinstance(spec, dict):
        return None
    spec = spec.get("pipeline_spec", spec)
    return Package(b"", spec, {}).steps if {"pipelineInfo", "root"} <= spec.keys() else None


def progress(run: Any, steps: Sequence[Step] | None, now: datetime | None = None) -> Progress:
    """The progress of a run.

    Args:
        run: as the server describes it.
        steps: of its pipeline, in the order to be shown; None: those that the run has started.
        now: the present time.
    """
    now = now or datetime.now(UTC)
    tasks = list(run.run_details.task_details or ()) if run.run_details else []
    state = str(run.state or "RUNTIME_STATE_UNSPECIFIED")
    # The server does not say which step an executor belongs to (kubeflow/pipelines#14007). If one was skipped, some
    # step was taken from the cache. That step took no time.
    cached = any(each.display_name == "executor" and each.state == "SKIPPED" for each in tasks)
    latest = {each.display_name: each for each in sorted(tasks, key=lambda each: _moment(each.start_time) or _EPOCH)}
    if not tasks and state not in _NOT_BEGUN:
        # Newer servers list tasks elsewhere. No steps are better than steps that are all "not started".
        steps = []
    known = steps if steps is not None else [Step(name, name) for name in latest if not _is_machinery(name)]
    rows = tuple(_row(step, latest.get(step.key), cached, state, now) for step in known)
    ended = _moment(run.finished_at) or now
    started = _moment(run.created_at) or now
    error = run.error.message if run.error is not None and run.error.message else ""
    return Progress(run.display_name, run.run_id, state, (ended - started).total_seconds(), rows, error)


_EPOCH = datetime.fromtimestamp(0, UTC)


def _runs(kubeflow: Kubeflow, **more: Any) -> Iterator[Any]:
    yield from kubeflow.pages(
        "listing runs",
        kubeflow.client.runs.run_service_list_runs,
        "runs",
        namespace=kubeflow.namespace,
        sort_by="created_at desc",
        **more,
    )


def _row(step: Step, task: Any, cached: bool, run_state: str, now: datetime) -> Row:
    state = _WORDS.get(task.state if task else None, "waiting")
    start, end = (_moment(task.start_time), _moment(task.end_time)) if task else (None, None)
    if state == "running" and run_state in ENDED:
        state = "stopped"
    if start is None or state in ("waiting", "skipped"):
        return Row(step.name, "not started" if state == "waiting" and run_state in ENDED else state, None)
    seconds = ((end or now) - start).total_seconds()
    if state == "done" and cached and end is not None and seconds < 1:
        state = "reused"
    return Row(step.name, state, seconds if end is not None or state == "running" else None)


def _is_machinery(name: str) -> bool:
    """Whether a node is Kubeflow's own, not a step."""
    return name in ("root", "executor", "importer") or name.endswith("-driver") or name.startswith("executor(")


def _moment(stamp: datetime | None) -> datetime | None:
    return stamp if stamp is not None and stamp.year > _NEVER else None
