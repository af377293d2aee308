"""What Kubernetes adds to a run's progress, where it may be asked: pods that wait, steps that Kubeflow lost, logs."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.base.errors import MuraError
from components.kubeflow.argo import is_driver, step_of
from pipelines.checks.step_pod import StepPod
from pipelines.checks.workflow import Workflow
from pipelines.client import kept_logs
from pipelines.client.cluster import Kubeflow
from pipelines.client.runs import LOST, UNHEARD, Progress, Row

if TYPE_CHECKING:
    from pipelines.checks.namespace import Namespace

# Argo and Kubeflow look every ten seconds or so.
_TOLD = 60.0
# What a step's state may be in truth, if Kubeflow has not heard of it since.
_NOT_TOLD = (LOST, UNHEARD, "stopped", "not started")


class InCluster:
    """A run, seen from Kubernetes. Nothing is asked any more once Kubernetes has not answered."""

    def __init__(self, kubeflow: Kubeflow, run_id: str) -> None:
        """Look for a kubeconfig. No request is sent."""
        self.kubeflow = kubeflow
        self.run_id = run_id
        self.name = kubeflow.access.namespace or kept_logs.NAMESPACE
        self.failed: list[StepPod] = []
        """Pods that failed, when the run was looked at last."""
        self.troubles: dict[str, str] = {}
        """Why pods could not be made, by the names of their steps or groups of steps."""
        self._namespace = _namespace(self.name)
        self._seen = False
        self._workflows: list[Workflow] | None = None
        """Of the run, as they were when it was looked at last; None if Kubernetes does not tell us."""

    def add(self, run: Progress) -> Progress:
        """The same progress, with what the pods say."""
        pods = self._namespace.pods(self.run_id) if self._namespace else None
        if pods is None:
            self._namespace = self._workflows = None
            return run
        latest = _latest(pods)
        self.failed = [pod for pod in pods if pod.phase == "Failed" and latest.get(step_of(pod.node)[0], pod) == pod]
        self._workflows = self._namespace.workflows(self.run_id) if self._namespace else None
        self._seen = self._seen or bool(self._workflows)
        self.troubles = self._troubles(run)
        rows = (_with(row, run, latest.get(row.key), self.troubles.get(row.key, "")) for row in run.rows)
        return replace(run, rows=tuple(rows))

    def log(self, run: Progress, step: str, lines: int | None = None) -> str | None:
        """The log of a step: of its last pod, or from Kubeflow's archive; None if there is none."""
        pods = (self._namespace.pods(self.run_id) or []) if self._namespace else []
        pod = _latest([pod for pod in pods if not is_driver(pod.node)]).get(step)
        if pod and self._namespace and (found := self._namespace.log(pod.name, lines)) is not None:
            return found
        if (kept := kept_logs.log(self.kubeflow, run, step)) is not None:
            return kept
        # Where Argo keeps no logs, Kubeflow's launcher does, at a place that the workflow knows.
        places = {node: uri for workflow in self._workflows or () for node, uri in workflow.logs.items()}
        mine = max(
            (node for node in places if step_of(node)[0] == step), key=lambda node: step_of(node)[1], default=None
        )
        return kept_logs.at(self.kubeflow, places[mine]) if mine else None

    def failed_pod(self, step: str) -> StepPod | None:
        """The pod with which a step failed, also if that only prepared it."""
        return next((pod for pod in self.failed if pod.node and step_of(pod.node)[0] == step), None)

    def log_of_failed(self, run: Progress, step: str, lines: int | None = None) -> str | None:
        """The log of a step that failed: of the pod that failed, or as `log`."""
        pod = self.failed_pod(step)
        return (self.log_of(pod.name, lines) if pod else None) or self.log(run, step, lines)

    def log_of(self, pod: str, lines: int | None = None) -> str | None:
        """The log of a pod."""
        return self._namespace.log(pod, lines) if self._namespace else None

    def gone(self) -> bool:
        """Whether the run's workflow is not there any more: nobody works for it, and its state will not change.

        The kubeconfig may be another cluster's. What was not seen there before counts only if the cluster has the
        workflow of another run that the server knows.
        """
        return self._workflows == [] and (self._seen or self._same_cluster())

    def _same_cluster(self) -> bool:
        others = (self._namespace.workflows() if self._namespace else None) or []
        get = self.kubeflow.client.runs.run_service_get_run
        for other in others[:3]:
            try:
                self.kubeflow.call("comparing clusters", get, other.run_id)
            except MuraError:
                continue
            return True
        return False

    def _troubles(self, run: Progress) -> dict[str, str]:
        """Why pods cannot be made, by step. Of a step that works again nothing is told."""
        well = {row.key for row in run.rows if row.state in ("done", "reused")}
        told = {step_of(each.node)[0]: each.why for workflow in self._workflows or () for each in workflow.troubles}
        return {step: why for step, why in told.items() if step not in well}


def _latest(pods: Sequence[StepPod]) -> dict[str, StepPod]:
    """The newest pod of each step. That of its driver, which prepares it, counts if it waits or has failed."""
    counted = [pod for pod in pods if pod.node and not (is_driver(pod.node) and pod.phase in ("Running", "Succeeded"))]
    counted.sort(key=lambda pod: (str(pod.made), step_of(pod.node)[1]))
    return {step_of(pod.node)[0]: pod for pod in counted}


def _with(row: Row, run: Progress, pod: StepPod | None, trouble: str) -> Row:
    """A step with what its pod says."""
    if pod is None or row.state in ("reused", "cancelled"):
        # Argo's own words say why there is no pod.
        if trouble and not run.ended and row.state in ("waiting", "starting", "running"):
            return row._replace(state="waiting", why=trouble, seconds=None)
        return row._replace(why=trouble) if trouble and row.state == "failed" else row
    if pod.phase == "Pending" and not run.ended:
        return row._replace(state=pod.waits, why=pod.why, seconds=None)
    seconds = ((pod.end or run.now) - pod.start).total_seconds() if pod.start and (pod.end or not run.ended) else None
    timed = row._replace(seconds=row.seconds if seconds is None else seconds)
    if pod.phase == "Running" and not run.ended:
        return timed._replace(state="running")
    if pod.phase == "Succeeded" and row.state in ("running", "waiting") and _long_ago(pod, run):
        return timed._replace(state="done")
    if pod.phase in ("Succeeded", "Failed") and run.ended and row.state in _NOT_TOLD:
        return timed._replace(state="done" if pod.phase == "Succeeded" else "failed")
    why = trouble if row.state in ("waiting", "running", "failed") else ""
    return (timed if row.state in ("done", "failed") else row)._replace(why=why)


def _long_ago(pod: StepPod, run: Progress) -> bool:
    """Whether a pod has ended so long ago that Kubeflow would have told of it, if it still did."""
    return pod.end is not None and not run.ended and (run.now - pod.end).total_seconds() > _TOLD


def _namespace(name: str) -> "Namespace | None":
    """The namespace; None if we have neither a kubeconfig nor a pod's account."""
    named = os.environ.get("KUBECONFIG")
    files = [Path(each) for each in named.split(os.pathsep)] if named else [Path.home() / ".kube" / "config"]
    if not os.environ.get("KUBERNETES_SERVICE_HOST") and not any(file.is_file() for file in files):
        return None
    # Imports kubernetes, which is slow.
    from pipelines.checks.namespace import Namespace

    try:
        return Namespace(name, None)
    except ValueError:
        return None
