"""Runs: find one, and read its progress."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from components.base.errors import UsageError
from components.kubeflow import argo
from components.kubeflow.run_states import cancelled
from pipelines.client.cluster import Kubeflow, whose_name
from pipelines.client.nodes import EPOCH, Attempt, Node, attempts, moment, nodes, workflow_of
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
LOST, UNHEARD = "running when last heard of", "not heard of"
_NOT_BEGUN = ("RUNTIME_STATE_UNSPECIFIED", "PENDING")
_OPEN = ("PENDING", "RUNNING", "CANCELING")
# A pod that starts is pending too, for some seconds.
_STARTING = 30.0
# The exit handler works after the limit, and pods take their time to end.
_OVERDUE = 3600.0
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BEGINNING_OF_ID = r"[0-9a-f]{6}[0-9a-f-]*"


class Row(NamedTuple):
    """A step of a run, for people."""

    key: str
    """Its name in the graph."""
    name: str
    state: str
    """waiting, starting, waiting for a node, running, done, reused, skipped, failed, cancelled, not started; if the run
    has ended: stopped, or LOST and UNHEARD, of which Kubeflow has not told the end."""
    seconds: float | None
    """How long it has worked; None if that is not known, or it has not started."""
    why: str = ""
    """Why it is in this state, if Kubernetes says so."""
    attempt: int = 1
    """How often it was started."""


@dataclass(frozen=True)
class Progress:
    """A run at one moment."""

    name: str
    run_id: str
    state: str
    """One of Kubeflow's runtime states. CANCELED also if the server says FAILED of a run that was cancelled."""
    seconds: float
    rows: tuple[Row, ...]
    error: str
    created: datetime
    now: datetime
    unfinished: bool = False
    """The run has ended, and some of its nodes have not: Kubeflow has not told of their ends, or never will."""
    workflow: str = ""
    """Argo's name of it; empty if not known."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    """The pods of steps, by the steps' names in the graph."""
    schedule: str = ""
    """Id of the schedule that started it."""

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED

    @property
    def word(self) -> str:
        """Its state in our words."""
        return _WORDS.get(self.state, self.state.lower())


def find(kubeflow: Kubeflow, wanted: str | None) -> Any:
    """The run whose id or name is, or begins with, `wanted`; the newest run without it.

    Raises:
        Missing: there is none.
        UsageError: there are several.
    """
    if wanted is None:
        return _newest(kubeflow)
    if re.fullmatch(_UUID, wanted):
        get = kubeflow.client.runs.run_service_get_run
        return kubeflow.call(f"looking for the run {wanted}", get, wanted)
    by_name = {"filter": whose_name("IS_SUBSTRING", wanted)}
    # The server can search in names, not in ids, and ignores case.
    found = [each for each in _runs(kubeflow, **by_name) if each.display_name.startswith(wanted)]
    if not found and re.fullmatch(_BEGINNING_OF_ID, wanted):
        found = [each for each in _runs(kubeflow) if each.run_id.startswith(wanted)]
    exact = [each for each in found if each.display_name == wanted]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    if not found:
        raise Missing(f"No run{_where(kubeflow)} whose name or id begins with {wanted}. `mura pipeline watch` takes "
                      "the newest; the names are in the user interface.")  # fmt: skip
    some = ", ".join(f"{each.display_name} ({each.run_id[:8]})" for each in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    raise UsageError(f"{wanted}: {len(found)} runs begin so: {some}{more}. Give more of the name, or the id.")


def pipeline_of(kubeflow: Kubeflow, run: Any) -> Package | None:
    """The pipeline of a run; None if the server does not say."""
    spec = run.pipeline_spec
    reference = run.pipeline_version_reference
    if spec is None and reference is not None and reference.pipeline_version_id:
        get = kubeflow.client.pipelines.pipeline_service_get_pipeline_version
        ids = (reference.pipeline_id, reference.pipeline_version_id)
        try:
            spec = kubeflow.call("looking for the run's pipeline", get, *ids).pipeline_spec
        except Missing:
            return None
    if not isinstance(spec, dict):
        return None
    platform = spec.get("platform_spec") or {}
    spec = spec.get("pipeline_spec", spec)
    return Package(b"", spec, platform) if {"pipelineInfo", "root"} <= spec.keys() else None


def look(kubeflow: Kubeflow, run_id: str, pipeline: Package | None) -> Progress:
    """Ask for the progress of a run."""
    get = kubeflow.client.runs.run_service_get_run
    run = kubeflow.call(f"asking for the run {run_id}", get, run_id)
    return progress(run, pipeline.steps if pipeline else None, kubeflow.clock())


def overdue(run: Progress, pipeline: Package | None) -> bool:
    """Whether the server lists a run as running that Argo has ended long ago, by the pipeline's own limit."""
    limit = pipeline.seconds if pipeline else None
    return run.state == "RUNNING" and limit is not None and run.seconds > limit + _OVERDUE


def progress(run: Any, steps: Sequence[Step] | None, now: datetime | None = None) -> Progress:
    """The progress of a run.

    Args:
        run: as the server describes it.
        steps: of its pipeline, in the order to be shown; None: those that the run has started.
        now: the present time.
    """
    now = now or datetime.now(UTC)
    tasks = list(run.run_details.task_details or ()) if run.run_details else []
    state = _state(run)
    known = nodes(tasks)
    named = sorted((each for each in tasks if each.display_name), key=lambda each: moment(each.start_time) or EPOCH)
    latest = {each.display_name: each for each in named}
    if not tasks and state not in _NOT_BEGUN:
        # Newer servers list tasks elsewhere. No steps are better than steps that are all "not started".
        steps = []
    workflow = workflow_of(tasks)
    if steps is None:
        others = [name for name in latest if argo.is_step(name) and name != workflow]
        steps = [Step(name, name) for name in (latest if known else others) if name in known or not known]
    unfinished = state in ENDED and any(each.state in _OPEN for each in named)
    spans = attempts(tasks, {step.key: latest[step.key] for step in steps if step.key in latest}, known)
    moments = _Moment(latest, known, spans, _reuses(named), state, unfinished, now)
    rows = tuple(moments.row(step) for step in steps)
    created = moment(run.created_at) or now
    return Progress(
        name=run.display_name,
        run_id=run.run_id,
        state=state,
        seconds=((moment(run.finished_at) or now) - created).total_seconds(),
        rows=rows,
        error=run.error.message if run.error is not None and run.error.message else "",
        created=created,
        now=now,
        unfinished=unfinished,
        workflow=workflow,
        nodes=known,
        schedule=run.recurring_run_id or "",
    )


@dataclass(frozen=True)
class _Moment:
    """All that the state of a step follows from."""

    tasks: Mapping[str, Any]
    nodes: Mapping[str, Node]
    spans: Mapping[str, Attempt]
    reuses: frozenset[datetime]
    run: str
    unfinished: bool
    now: datetime

    def row(self, step: Step) -> Row:
        """A step at this moment."""
        task = self.tasks.get(step.key)
        state = _WORDS.get(task.state if task else None, "waiting")
        if state == "waiting" and self.run == "FAILED" and self._driver_failed(step.key):
            state = "failed"
        if self.run in ENDED and state in ("waiting", "running", "failed"):
            state = self._end(state)
        start, end = (moment(task.start_time), moment(task.end_time)) if task else (None, None)
        if start is None or state in ("waiting", "skipped", "not started", UNHEARD):
            return Row(step.key, step.name, state, None)
        span = self.spans.get(step.key)
        if state == "done" and start in self.reuses and not self._has_pods(step.key):
            return Row(step.key, step.name, "reused", None)
        if span is not None:
            start, end = span.start, span.end
            state = self._running(span) if state == "running" else state
        seconds = ((end or self.now) - start).total_seconds()
        going = self.run not in ENDED
        tries = len(self.nodes[step.key].ids) if step.key in self.nodes else 1
        return Row(step.key, step.name, state, seconds if end is not None or going else None, attempt=tries)

    def _driver_failed(self, key: str) -> bool:
        driver = self.tasks.get(f"{key}{argo.DRIVER}")
        return driver is not None and driver.state == "FAILED"

    def _end(self, state: str) -> str:
        """The state of a step whose run has ended, from the state that the server told last."""
        if self.run == "SUCCEEDED":
            # A step that the server has not heard of since is done: otherwise the run would have failed.
            return "done" if state == "running" or self.unfinished else "not started"
        if self.run == "CANCELED":
            return "not started" if state == "waiting" else "cancelled"
        if state == "failed":
            return state
        if self.unfinished:
            return LOST if state == "running" else UNHEARD
        return "stopped" if state == "running" else "not started"

    def _running(self, span: Attempt) -> str:
        """The state of a step that has begun, by that of its pod."""
        if "PENDING" not in span.states:
            return "running"
        waits = (self.now - span.start).total_seconds() > _STARTING
        if span.states == {"PENDING"}:
            return "waiting for a node" if waits else "starting"
        return "running or waiting for a node" if waits else "running"

    def _has_pods(self, key: str) -> bool:
        # The executor of a step that is tried again is a node above its pods; without pods it did not run.
        return key in self.nodes and self.nodes[key].last.endswith(")")


def _state(run: Any) -> str:
    """The run's state. The server says FAILED of a run that was cancelled; its history says why."""
    state = str(run.state or "RUNTIME_STATE_UNSPECIFIED")
    history = [each.state for each in run.state_history or ()]
    return "CANCELED" if state == "FAILED" and cancelled(history) else state


def _reuses(named: Sequence[Any]) -> frozenset[datetime]:
    """When steps were taken from the cache: an executor is skipped at the moment when its step begins and ends."""
    skipped = (
        moment(each.start_time) for each in named if each.display_name == argo.EXECUTOR and each.state == "SKIPPED"
    )
    return frozenset(each for each in skipped if each is not None)


def _newest(kubeflow: Kubeflow) -> Any:
    list_runs = kubeflow.client.runs.run_service_list_runs
    more = {"namespace": kubeflow.namespace, "sort_by": "created_at desc", "page_size": 1}
    found = kubeflow.call("looking for the newest run", list_runs, **more).runs
    if not found:
        raise Missing(f"There is no run{_where(kubeflow)} yet: `mura pipeline submit` starts one.")
    return found[0]


def _where(kubeflow: Kubeflow) -> str:
    return f" in {kubeflow.access.namespace}" if kubeflow.namespace else ""


def _runs(kubeflow: Kubeflow, **more: Any) -> Iterator[Any]:
    yield from kubeflow.pages(
        "listing runs",
        kubeflow.client.runs.run_service_list_runs,
        "runs",
        namespace=kubeflow.namespace,
        sort_by="created_at desc",
        **more,
    )
