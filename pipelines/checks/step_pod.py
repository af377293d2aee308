"""A pod of a step: how it stands, and why it has not started."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from components.kubeflow import argo

OUT_OF_MEMORY = "OOMKilled"
# Reasons of containers that start by themselves in a moment.
_ON_THE_WAY = ("ContainerCreating", "PodInitializing", None)


class StepPod(NamedTuple):
    """One pod."""

    name: str
    node: str
    """The whole name of its node in Argo; empty if the pod does not say."""
    phase: str
    """Pending, Running, Succeeded or Failed."""
    waits: str = ""
    """What it waits for, if it has not started: `starting`, `waiting for a node`, `waiting`."""
    why: str = ""
    """The reason, in Kubernetes' words."""
    start: datetime | None = None
    """When the step's own container started and ended."""
    end: datetime | None = None
    killed: bool = False
    """Its memory was too small."""
    memory: str = ""
    """Its limit of memory, such as 3Gi."""
    made: datetime | None = None


def read(pod: Any) -> StepPod:
    """Read a pod as Kubernetes' client gives it."""
    status, annotations = pod.status, pod.metadata.annotations or {}
    statuses = [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
    main = next((each.state for each in status.container_statuses or () if each.name == "main"), None)
    ended, running = (main.terminated, main.running) if main else (None, None)
    waits, why = _waiting(status, statuses) if status.phase == "Pending" else ("", "")
    limits = (each.resources.limits or {} for each in _containers(pod) if each.name == "main" and each.resources)
    return StepPod(
        name=pod.metadata.name,
        node=annotations.get(argo.NODE, ""),
        phase=status.phase or "Pending",
        waits=waits,
        why=why or " ".join(str(status.message or "").split()),
        start=began.started_at if (began := ended or running) else None,
        end=ended.finished_at if ended else None,
        killed=bool(ended and ended.reason == OUT_OF_MEMORY),
        memory=str(next(limits, {}).get("memory", "")),
        made=pod.metadata.creation_timestamp,
    )


def _containers(pod: Any) -> Iterable[Any]:
    return (pod.spec.containers or ()) if pod.spec else ()


def _waiting(status: Any, statuses: list[Any]) -> tuple[str, str]:
    """What a pending pod waits for, and why."""
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return "waiting for a node", " ".join(str(condition.message or condition.reason or "").split())
    for container in statuses:
        waiting = container.state.waiting if container.state else None
        if waiting and waiting.reason not in _ON_THE_WAY:
            message = " ".join(str(waiting.message or "").split())
            return "waiting", f"{waiting.reason}: {message}" if message else str(waiting.reason)
    return "starting", ""
