"""What Argo retries on a cluster. Its config map decides: the policy that stands there is merged into each task's."""

from typing import TYPE_CHECKING, Any

import yaml

from components.base import documents
from pipelines.checks.check_result import CheckResult

if TYPE_CHECKING:
    from pipelines.checks.namespace import Namespace

CONFIG_MAP = "workflow-controller-configmap"
_CONTROLLERS = "kubeflow"
"""The namespace of Argo's controller, where Kubeflow's manifests put it."""
# Argo's own policy, where none is set.
_DEFAULT = "OnFailure"
_MEANING = {
    "OnError": "a pod that is deleted, evicted or lost. Not a step that ends with a code or is killed for memory, "
    "whatever `retries` says: a step waits for services by itself (MURA_PATIENCE)",
    "OnFailure": "a step that ends with a code or is killed for memory. Not a pod that is deleted, evicted or lost",
    "Always": "a step that ends with a code, and a pod that is lost",
    "OnTransientError": "errors of Kubernetes that pass. Neither a step that ends with a code nor a pod that is lost",
}


def look(there: "Namespace") -> CheckResult | None:
    """What is retried on this cluster; None if we may not read Argo's config map."""
    for namespace in dict.fromkeys((_CONTROLLERS, there.name)):
        if content := there.content("config map", CONFIG_MAP, namespace):
            policy = _policy(content)
            meaning = _MEANING.get(policy, "by that policy")
            return CheckResult("retries", f"{policy} in {CONFIG_MAP}: {meaning}")
    return None


def _policy(content: dict[str, str]) -> str:
    """The policy for all tasks. A config map has one document `config`, or a key for each of its parts."""
    try:
        whole = _mapping(documents.yaml_of(content.get("config", "")))
        defaults = whole.get("workflowDefaults") or documents.yaml_of(content.get("workflowDefaults", ""))
    except yaml.YAMLError:
        return _DEFAULT
    found = _mapping(defaults)
    for key in ("spec", "templateDefaults", "retryStrategy"):
        found = _mapping(found.get(key))
    return str(found.get("retryPolicy") or _DEFAULT)


def _mapping(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
