"""Argo's nodes of a run: which pods worked for a step, and when.

Kubeflow lists nodes without the step that they belong to (kubeflow/pipelines#14007): every step has a node `executor`.
But Argo derives the id of a node from its whole name, such as `mura-zjd7p(0).root(0).ingest(0).executor(0)`, and
Kubeflow tells the ids of a node's children.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from components.kubeflow import argo

EPOCH = datetime.fromtimestamp(0, UTC)
IMPORTER = "importer"
# A time that is not set has the year 1 in Argo, 1970 in Unix.
_NEVER = 1970
# Kubeflow's server looks at pods every ten seconds or so. A pod that is seen waiting for longer has waited.
_SEEN_LATE = 20.0
# A record is written when the step has ended; its pod ends a moment later.
_RECORD_BEFORE_POD = 15.0
_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193


class Attempt(NamedTuple):
    """The last pod of a step, as Kubeflow's server has seen it."""

    states: frozenset[str]
    """PENDING, RUNNING, SUCCEEDED or FAILED. Several if steps began together, and the server does not say which is
    which."""
    start: datetime
    """When its work began; while it is pending, when the pod was made."""
    end: datetime | None


class Node(NamedTuple):
    """What is known of a step's pods."""

    ids: tuple[str, ...]
    """Of its pods, the last one last. None if its results came from the cache."""
    last: str
    """The display name of the last pod."""


def moment(stamp: datetime | None) -> datetime | None:
    """A time, or None if it is not set."""
    return stamp if stamp is not None and stamp.year > _NEVER else None


def node_id(workflow: str, name: str) -> str:
    """Argo's id of a node: the workflow's name, and the FNV-1a hash of the node's whole name."""
    return workflow if name == workflow else f"{workflow}-{_hash(name)}"


def workflow_of(tasks: Iterable[Any]) -> str:
    """The name of a run's workflow; empty if the server tells no ids."""
    return next((child.rpartition("-")[0] for task in tasks for child in _children(task)), "")


def nodes(tasks: Sequence[Any]) -> dict[str, Node]:
    """The pods of each step, by the name of its task. Steps of which no ids are told are left out."""
    workflow = workflow_of(tasks)
    known = {child for task in tasks for child in _children(task)}
    labels = {argo.split(task.display_name)[0] for task in tasks if task.display_name}
    found: dict[str, Node] = {}

    def there(code: int) -> bool:
        return f"{workflow}-{code}" in known

    def visit(step: str, code: int) -> None:
        """Look for nodes below one of a given hash."""
        for label in labels:
            below = _hash(f".{label}", code)
            if not there(below):
                continue
            tries = _tries(below, there)
            if label in (argo.EXECUTOR, IMPORTER):
                # Without attempts: from the cache, or a pod that may not be tried again.
                ids = tuple(f"{workflow}-{each}" for each in tries)
                last = f"{label}({len(tries) - 1})" if tries else label
                found[step if label == argo.EXECUTOR else label] = Node(ids or (f"{workflow}-{below}",), last)
            elif not label.endswith(argo.DRIVER):
                for each in tries or [below]:
                    visit(label, each)

    if workflow:
        whole = _hash(workflow)
        for each in _tries(whole, there) or [whole]:
            visit("", each)
    return found


def attempts(tasks: Sequence[Any], steps: Mapping[str, Any], known: Mapping[str, Node]) -> dict[str, Attempt]:
    """The last attempt of each step, as far as it can be told.

    Args:
        tasks: all nodes, as the server lists them.
        steps: the tasks of steps, by name.
        known: the pods of steps.
    """
    free = sorted((task for task in tasks if task.display_name and moment(task.start_time)), key=_end)
    # What the server's cache remembers of steps that it did not know: the work itself, without names.
    records = [task for task in tasks if not task.display_name and moment(task.start_time) and moment(task.end_time)]
    found: dict[str, Attempt] = {}
    for key, step in sorted(steps.items(), key=lambda each: _end(each[1])):
        if key not in known or (start := moment(step.start_time)) is None:
            continue
        fitting = [task for task in free if task.display_name == known[key].last and _within(task, step, start)]
        if not fitting:
            continue
        if moment(step.end_time) is None:
            states = frozenset(str(task.state) for task in fitting)
            found[key] = Attempt(states, min(_begun(task) for task in fitting), None)
            continue
        pod = fitting[0]
        free.remove(pod)
        record = _record(pod, records)
        if record is not None:
            records.remove(record)
        worked = record or pod
        found[key] = Attempt(frozenset((str(pod.state),)), _begun(worked), moment(worked.end_time))
    return found


def _within(pod: Any, step: Any, start: datetime) -> bool:
    """Whether a pod may be the last of a step: they end in the same way, and it began and ended while the step ran."""
    begin, end, last = moment(pod.start_time), moment(pod.end_time), moment(step.end_time)
    if begin is None or begin < start:
        return False
    if last is None:
        return end is None and (begin == start or not pod.display_name.endswith("(0)"))
    return end is not None and end <= last and pod.state == step.state


def _begun(pod: Any) -> datetime:
    """When a pod's work began: when it was made, or when it was seen to run, if it had waited before."""
    start = moment(pod.start_time) or EPOCH
    seen = next((moment(each.update_time) for each in pod.state_history or () if each.state == "RUNNING"), None)
    waited = seen is not None and (seen - start).total_seconds() > _SEEN_LATE
    return seen if waited and seen is not None else start


def _record(pod: Any, records: Sequence[Any]) -> Any:
    """The record of a pod's work: it began and ended while the pod was there, and ended with it."""
    begin, end = moment(pod.start_time) or EPOCH, _end(pod)
    fitting = [
        each
        for each in records
        if (moment(each.start_time) or EPOCH) >= begin and 0 <= (end - _end(each)).total_seconds() <= _RECORD_BEFORE_POD
    ]
    return max(fitting, key=_end, default=None)


def _end(task: Any) -> datetime:
    return moment(task.end_time) or datetime.max.replace(tzinfo=UTC)


def _children(task: Any) -> Iterable[str]:
    return (child.pod_name for child in task.child_tasks or () if child.pod_name)


def _tries(code: int, there: Any) -> list[int]:
    """The hashes of the attempts of a node that is tried again."""
    found: list[int] = []
    while there(attempt := _hash(f"({len(found)})", code)):
        found.append(attempt)
    return found


def _hash(text: str, code: int = _FNV_OFFSET) -> int:
    for byte in text.encode():
        code = ((code ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return code
