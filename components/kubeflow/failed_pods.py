"""The steps of a run whose pods failed, asked of Kubernetes by a pod of the run."""

import os
import ssl
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from components.base import answers, documents
from components.kubeflow import argo

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What Kubernetes gives each pod: a token, the cluster's certificate, and the namespace."""
_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
_SECONDS = 10
# Until the last byte of an answer, seconds.
_LONGEST = 60


def steps(run: str) -> list[str]:
    """The names of the steps whose last pods failed.

    Raises:
        OSError: this is no pod, Kubernetes does not answer, or does not let us list pods.
        ValueError: it answers with something else than pods.
    """
    host, port = os.environ.get(_HOST, ""), os.environ.get(_PORT, "443")
    if not host:
        raise OSError("not in a pod")
    namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    token = (ACCOUNT / "token").read_text(encoding="ascii").strip()
    query = urlencode({"labelSelector": f"{argo.RUN}={run}"})
    place = f"[{host}]" if ":" in host else host
    url = f"https://{place}:{port}/api/v1/namespaces/{namespace}/pods?{query}"
    question = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    open_ = partial(urllib.request.urlopen, timeout=_SECONDS, context=trust)
    with answers.limited(answers.LARGE, _LONGEST), open_(question) as answer:
        pods = documents.json_of(answer.read())
    try:
        return _failed(pods["items"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("expected a list of pods") from error


def _failed(pods: list[dict[str, Any]]) -> list[str]:
    """The steps whose last pods failed, in the order of their pods."""
    phases: dict[str, str] = {}
    for pod in sorted(pods, key=lambda each: str(each["metadata"].get("creationTimestamp", ""))):
        node = (pod["metadata"].get("annotations") or {}).get(argo.NODE, "")
        phase = str(pod["status"].get("phase", ""))
        # A driver that has done its work says nothing of the step.
        if node and not (argo.is_driver(node) and phase != "Failed"):
            phases[argo.step_of(node)[0]] = phase
    return [step for step, phase in phases.items() if phase == "Failed" and argo.is_step(step)]
