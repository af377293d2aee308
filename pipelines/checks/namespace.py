"""Whether the namespace of the runs has what their pods need, asked of Kubernetes.

The only module that imports kubernetes, which is slow.
"""

import base64
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.utils.quantity import parse_quantity

from components.base import answers
from components.kubeflow import argo
from pipelines.checks import step_pod, workflow
from pipelines.checks.check_result import CheckResult, missing, unknown
from pipelines.checks.step_pod import StepPod
from pipelines.graph.package import Need, Needs, Room

_SECONDS = (5, 15)
# Bytes of a list of nodes or pods, and of a log.
_MOST = 4 * answers.LARGE
_KINDS = {"secret": "secret", "config map": "configmap", "pull secret": "secret"}
_MAKE = {
    "secret": "kubectl -n {namespace} create secret generic {name} {keys}",
    "config map": "kubectl -n {namespace} create configmap {name} {keys}",
    "pull secret": "kubectl -n {namespace} create secret docker-registry {name} --docker-server=...",
}


class Namespace:
    """A namespace, as far as we may read it."""

    def __init__(self, name: str, context: str | None) -> None:
        """Read the pod's own configuration, or the kubeconfig. No request is sent.

        Raises:
            ValueError: there is neither, or no such context.
        """
        self.name = name
        configuration = client.Configuration()
        try:
            if context is not None:
                raise ConfigException("the context is one of the kubeconfig")
            config.load_incluster_config(client_configuration=configuration)
        except ConfigException:
            try:
                # The library reads the variable only once, when it is imported.
                file = os.environ.get("KUBECONFIG")
                config.load_kube_config(config_file=file, context=context, client_configuration=configuration)
            except (ConfigException, OSError) as error:
                raise ValueError(" ".join(str(error).split())) from error
        # No retries: a cluster that cannot be reached is reported at once, not after a minute.
        configuration.retries = False
        self._core = client.CoreV1Api(client.ApiClient(configuration))

    def examine(self, needs: Needs, service_account: str) -> Iterator[CheckResult]:
        """Check one thing after the other. Stop if Kubernetes does not answer.

        Args:
            needs: what the pods need.
            service_account: runs the pods.
        """
        try:
            there = self._look("namespace", self._core.read_namespace, _namespace(self.name))
            yield there
            if there.mark == "no":
                return
            yield self._look("service account", self._core.read_namespaced_service_account, _account, service_account)
            for need in needs.sources:
                core = self._core
                read = core.read_namespaced_config_map if need.kind == "config map" else core.read_namespaced_secret
                yield self._look(need.kind, read, partial(_source, need, self.name), need.name)
            if needs.rooms:
                yield self._look("nodes", self._core.list_node, _room(needs.rooms), everywhere=True)
            for kind, count in needs.gpus.items():
                yield self._look("quota", self._core.list_namespaced_resource_quota, _quota(kind, count))
                yield self._look("GPUs", self._core.list_node, _gpus(kind), everywhere=True)
        except _Silent as error:
            yield unknown(
                "Kubernetes", f"does not answer ({error}): service account, secrets and quota are not checked"
            )

    def troubles(self) -> Iterator[CheckResult]:
        """Why the newest run cannot make a pod, or could not; nothing if all is well, or we may not know."""
        newest = max(self.workflows() or (), key=lambda each: each.made, default=None)
        if newest is None or newest.phase == "Succeeded" or not newest.troubles:
            return
        node, why = newest.troubles[-1]
        step = argo.step_of(node)[0]
        if newest.phase in ("Failed", "Error"):
            yield unknown("pods", f"the newest run, {newest.name}, could not start {step}: {why}")
        else:
            yield missing("pods", f"the newest run, {newest.name}, cannot start {step}: {why}. Change what it names.")

    def places(self, name: str) -> dict[str, str]:
        """The content of a config map; empty if there is none, or we may not read it."""
        try:
            found = _asked(lambda: self._core.read_namespaced_config_map(name, self.name, _request_timeout=_SECONDS))
        except (_Silent, _NotAllowed):
            return {}
        return dict(found.data or {}) if found else {}

    def pods(self, run_id: str) -> list[StepPod] | None:
        """The pods of a run; None if Kubernetes does not tell us."""
        label = f"{argo.RUN}={run_id}"
        ask = partial(self._core.list_namespaced_pod, self.name, label_selector=label, _request_timeout=_SECONDS)
        try:
            found = _asked(ask)
        except (_Silent, _NotAllowed):
            return None
        return [step_pod.read(pod) for pod in found.items] if found else []

    def log(self, pod: str, lines: int | None = None) -> str | None:
        """The log of a pod's step; None if there is none, or Kubernetes does not tell us."""
        tail = {"tail_lines": lines} if lines else {}
        ask = partial(self._core.read_namespaced_pod_log, pod, self.name, container="main", **tail)
        try:
            # Not parsed: the client would turn a log that happens to be JSON into Python's words.
            found = _asked(lambda: ask(_preload_content=False, _request_timeout=_SECONDS).data)
        except (_Silent, _NotAllowed):
            return None
        return None if found is None else str(found.decode(errors="replace"))

    def workflows(self, run_id: str | None = None) -> list[workflow.Workflow] | None:
        """Argo's workflows of a run, or of all; None if Kubernetes does not tell us."""
        label = f"{argo.RUN}={run_id}" if run_id else argo.RUN
        ask = client.CustomObjectsApi(self._core.api_client).list_namespaced_custom_object
        kind = ("argoproj.io", "v1alpha1", self.name, "workflows")
        try:
            found = _asked(partial(ask, *kind, label_selector=label, _request_timeout=_SECONDS))
        except (_Silent, _NotAllowed):
            return None
        return None if found is None else [workflow.read(each) for each in found.get("items", ())]

    def _look(
        self,
        subject: str,
        ask: Callable[..., Any],
        judge: Callable[[Any], CheckResult],
        name: str | None = None,
        everywhere: bool = False,
    ) -> CheckResult:
        """Send a request and judge the answer, None if there is no such thing."""
        words = [*([name] if name else []), *([] if everywhere else [self.name])]
        try:
            found = _asked(lambda: ask(*words, _request_timeout=_SECONDS))
        except _NotAllowed as error:
            return unknown(subject, f"{f'{name}: ' if name else ''}not checked, Kubernetes {error}")
        if found is None and subject == "service account":
            return missing(
                subject,
                f"{name} does not exist. Name another in `kubeflow.service_account`, or make mura-runner: "
                f"kubectl -n {self.name} apply -f infra/kustomize/runs/account.yaml.",
            )
        return judge(found)

    def exists(self) -> bool:
        """Whether there is such a namespace, or may be."""
        try:
            return _asked(lambda: self._core.read_namespace(self.name, _request_timeout=_SECONDS)) is not None
        except (_Silent, _NotAllowed):
            return True

    def content(self, kind: str, name: str, namespace: str = "") -> dict[str, str] | None:
        """What a secret or a config map holds; empty if there is none, None if we may not read it. Never show it."""
        core = self._core
        read = core.read_namespaced_config_map if kind == "config map" else core.read_namespaced_secret
        try:
            found = _asked(lambda: read(name, namespace or self.name, _request_timeout=_SECONDS))
        except (_Silent, _NotAllowed):
            return None
        data = dict(found.data or {}) if found else {}
        return (
            data if kind == "config map" else {k: base64.b64decode(v).decode(errors="replace") for k, v in data.items()}
        )


class _Silent(Exception):
    """Kubernetes does not answer."""


class _NotAllowed(Exception):
    """Kubernetes does not give the answer."""


def _asked(ask: Callable[[], Any]) -> Any:
    """Send a request; None if there is no such thing."""
    try:
        with answers.limited(_MOST):
            return ask()
    except ApiException as error:
        if error.status == 404:
            return None
        why = f"does not allow it ({error.status})" if error.status in (401, 403) else f"answered {error.status}"
        raise _NotAllowed(why) from None
    except (urllib3.exceptions.HTTPError, OSError, ValueError, RecursionError) as error:
        raise _Silent(answers.fault(error) or type(error).__name__) from None


def _namespace(name: str) -> Callable[[Any], CheckResult]:
    def judge(found: Any) -> CheckResult:
        if found is None:
            return missing("namespace", f"{name} does not exist: kubectl create namespace {name}.")
        level = (found.metadata.labels or {}).get("pod-security.kubernetes.io/enforce", "not set")
        return CheckResult("namespace", f"{name}, Pod Security: {level}")

    return judge


def _account(found: Any) -> CheckResult:
    return CheckResult("service account", str(found.metadata.name))


def _source(need: Need, namespace: str, found: Any) -> CheckResult:
    """Whether a secret or a config map exists and has its keys."""
    if found is None:
        keys = " ".join(f"--from-literal={key}=..." for key in need.keys)
        make = _MAKE[need.kind].format(namespace=namespace, name=need.name, keys=keys).strip()
        if need.optional:
            return unknown(need.kind, f"{need.name} does not exist; steps start without it. To make it: {make}")
        return missing(need.kind, f"{need.name} does not exist: {make}")
    values = found.data or {}
    absent = [key for key in need.keys if key not in values]
    empty = [key for key in need.keys if key in values and not _content(need, values[key])]
    if (absent and not need.optional) or empty:
        what = ", ".join([*(f"{key} is missing" for key in absent), *(f"{key} is empty" for key in empty)])
        return missing(need.kind, f"{need.name}: {what}. kubectl -n {namespace} edit {_KINDS[need.kind]} {need.name}")
    without = f", without {', '.join(absent)}, which is optional" if absent else ""
    keys = f": {len(need.keys) - len(absent)} of {len(need.keys)} keys" if need.keys else ""
    return CheckResult(need.kind, f"{need.name}{keys}{without}")


def _content(need: Need, value: str) -> str:
    """The value of a key. Only whether it is empty is used."""
    return base64.b64decode(value).decode(errors="replace").strip() if need.kind == "secret" else value.strip()


def _quota(kind: str, count: int) -> Callable[[Any], CheckResult]:
    """How many accelerators the quotas leave."""
    key = f"requests.{kind}"

    def judge(found: Any) -> CheckResult:
        left = [
            int(quota.status.hard[key]) - int((quota.status.used or {}).get(key, 0))
            for quota in found.items
            if quota.status and key in (quota.status.hard or {})
        ]
        if not left:
            return CheckResult("quota", f"none on {kind}")
        if min(left) < 1:
            return missing("quota", f"no {kind} is left: steps would wait until others end. Ask for {key} of {count}.")
        waiting = ": the others wait" if min(left) < count else ""
        return CheckResult("quota", f"{min(left)} x {kind} left, {count} wanted at once{waiting}")

    return judge


def _room(rooms: tuple[Room, ...]) -> Callable[[Any], CheckResult]:
    """Whether each step fits on some node that is empty."""

    def judge(found: Any) -> CheckResult:
        there = [
            tuple(parse_quantity((node.status.allocatable or {}).get(key, 0)) for key in ("cpu", "memory"))
            for node in found.items
        ]
        for room in rooms:
            cpu, memory = parse_quantity(room.cpu), parse_quantity(room.memory)
            if not any(cpu <= cores and memory <= size for cores, size in there):
                return missing(
                    "nodes",
                    f"{room.step} asks for {room.cpu} cores and {room.memory}. None of {len(there)} nodes has that: "
                    "the step would never start. Ask for less in `kubeflow.steps`, or add a larger node.",
                )
        return CheckResult("nodes", f"{len(there)}, and every step fits on one that is empty")

    return judge


def _gpus(kind: str) -> Callable[[Any], CheckResult]:
    def judge(found: Any) -> CheckResult:
        there = [int((node.status.allocatable or {}).get(kind, 0)) for node in found.items]
        if not any(there):
            return missing(
                "GPUs",
                f"none of {len(there)} has {kind}: install its device plugin, or ask for none in `kubeflow.steps`.",
            )
        return CheckResult("GPUs", f"{sum(there)} x {kind} on {sum(map(bool, there))} of {len(there)} nodes")

    return judge
