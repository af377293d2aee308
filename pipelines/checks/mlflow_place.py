"""Whether the pods of a run are told where MLflow is. Without that, a step that needs it refuses to start."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from components.base.errors import UsageError
from components.base.variables import TRACKING_URI
from pipelines.checks.check_result import CheckResult, missing, unknown
from pipelines.graph.package import Need, Package

if TYPE_CHECKING:
    from pipelines.checks.namespace import Namespace

OFF = "off"
# Steps that stop without MLflow, and those among them that need its registry.
_NEED_IT, _NEED_REGISTRY = ("train", "register", "promote"), ("register", "promote")


def look(there: "Namespace", package: Package) -> CheckResult | None:
    """Whether the secrets and config maps of a pipeline say where MLflow is.

    Args:
        there: the namespace of the runs.
        package: the pipeline.

    Returns:
        None if they say an address; its result otherwise.
    """
    steps = {step.key.partition("-")[0] for step in package.steps}
    if not steps & set(_NEED_IT):
        return None
    # Secrets last: they are not looked into where a config map says it.
    kinds = ("config map", "secret")
    sources = sorted((need for need in package.needs.sources if need.kind in kinds), key=lambda each: each.kind)
    seen: dict[Need, dict[str, str] | None] = {}
    for need in sources:
        content = seen[need] = there.content(need.kind, need.name)
        value = _given(need, content or {})
        if value.lower() == OFF and steps & set(_NEED_REGISTRY):
            edit = f"kubectl -n {there.name} edit {need.kind.replace(' ', '')} {need.name}"
            return missing(
                "MLflow",
                f"{TRACKING_URI} is {OFF} in {need.name}, and {' and '.join(_NEED_REGISTRY)} need MLflow's registry: "
                f"set it to the server's address. {edit}",
            )
        if value:
            return None
    if None in seen.values() or not there.exists():
        return unknown("MLflow", "whether pods are told where it is cannot be seen from here")
    named = next((need for need in sources if TRACKING_URI in need.keys), None)
    name = named.name if named else "mura-places"
    return missing(
        "MLflow",
        f"pods are not told where it is, and would not start: {TRACKING_URI} is in none of "
        f"{', '.join(need.name for need in sources) or 'the config maps'} in {there.name}. "
        f"{_make(there, name, seen)}",
    )


def demand(namespace: str, package: Package) -> None:
    """Refuse a pipeline whose pods are seen not to be told where MLflow is.

    Nothing is checked without a kubeconfig, or outside the cluster that it names.

    Args:
        namespace: of the runs.
        package: the pipeline.

    Raises:
        UsageError: they are not.
    """
    if not _may_ask():
        return
    # Imports kubernetes, which is slow.
    from pipelines.checks.namespace import Namespace

    try:
        there = Namespace(namespace, None)
    except ValueError:
        return
    found = look(there, package)
    if found is not None and found.mark == "no":
        raise UsageError(
            f"MLflow: {found.found} Kubeflow's own MLflow plugin, if there is one, overrules what stands there. "
            "--no-check submits without looking, where the kubeconfig is for another cluster."
        )


def _given(need: Need, content: dict[str, str]) -> str:
    """What a source says; a source with keys gives these only."""
    return content.get(TRACKING_URI, "").strip() if not need.keys or TRACKING_URI in need.keys else ""


def _make(there: "Namespace", name: str, seen: dict[Need, dict[str, str] | None]) -> str:
    if any(need.name == name and content for need, content in seen.items()):
        return f"kubectl -n {there.name} edit configmap {name}"
    return f"kubectl -n {there.name} create configmap {name} --from-literal={TRACKING_URI}=http://..."


def _may_ask() -> bool:
    files = os.environ.get("KUBECONFIG", "").split(os.pathsep) if os.environ.get("KUBECONFIG") else ["~/.kube/config"]
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) or any(Path(each).expanduser().is_file() for each in files)
