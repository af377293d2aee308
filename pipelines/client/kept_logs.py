"""The logs that Argo keeps in Kubeflow's bucket when a pod has ended."""

import base64
import binascii

from components.base.errors import MuraError
from pipelines.client.cluster import Kubeflow
from pipelines.client.runs import Progress

# As Kubeflow Pipelines is installed: the artifact that is the log, the bucket, and where logs are in it.
_LOG = "main-logs"
_BUCKET = "mlpipeline"
_KEY = "private-artifacts/{namespace}/{workflow}/{date:%Y/%m/%d}/{pod}/main.log"
_TEMPLATES = ("retry-system-container-impl", "system-container-impl")
NAMESPACE = "kubeflow"
"""Of the pods, if the server has one namespace for all."""


def log(kubeflow: Kubeflow, run: Progress, step: str) -> str | None:
    """The log of a step's last pod that has ended; None if there is none, or Kubeflow does not give it.

    Args:
        kubeflow: the server.
        run: as it is now.
        step: name of the step in the graph.
    """
    if step not in run.nodes:
        return None
    node = run.nodes[step].ids[-1]
    # The server finds it by the workflow, which it has not if the workflow grew past 1 MiB.
    found = _by_node(kubeflow, run.run_id, node)
    return found if found is not None else _by_key(kubeflow, run, node)


def _by_node(kubeflow: Kubeflow, run_id: str, node: str) -> str | None:
    path = "/apis/v2beta1/runs/{run}/nodes/{node}/artifacts/{artifact}:read"
    try:
        answer = kubeflow.get("reading a log", path, {"run": run_id, "node": node, "artifact": _LOG})
        return base64.b64decode(answer["data"], validate=True).decode(errors="replace")
    except (MuraError, KeyError, TypeError, binascii.Error):
        return None


def _by_key(kubeflow: Kubeflow, run: Progress, node: str) -> str | None:
    namespace = kubeflow.access.namespace or NAMESPACE
    for template in _TEMPLATES:
        pod = f"{run.workflow}-{template}-{node.rpartition('-')[2]}"
        key = _KEY.format(namespace=namespace, workflow=run.workflow, date=run.created, pod=pod)
        if (found := at(kubeflow, f"minio://{_BUCKET}/{key}")) is not None:
            return found
    return None


def at(kubeflow: Kubeflow, uri: str) -> str | None:
    """The log at a URI, from Kubeflow's user interface, which reads the objects of its buckets; None if it does not."""
    source, _, place = uri.partition("://")
    bucket, _, key = place.partition("/")
    namespace = kubeflow.access.namespace or NAMESPACE
    query = {"source": source, "namespace": namespace, "bucket": bucket, "key": key}
    try:
        found = kubeflow.get("reading a log", "/artifacts/get", query=query)
    except MuraError:
        return None
    # An address that the user interface does not know is answered with its page.
    return found if isinstance(found, str) and not found.lstrip().lower().startswith("<!doctype") else None
