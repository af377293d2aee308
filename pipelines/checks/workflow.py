"""Argo's workflow of a run: why pods cannot be made."""

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from components.base import documents
from components.kubeflow import argo

# How a container ended is told by its log, and that one starts is no trouble.
_NO_TROUBLE = re.compile(
    r"(\w+: )?Error \(exit code \d+\)\s*$|PodInitializing|ContainerCreating|pod deleted|child |\s*$"
)
_LOG = re.compile(r"\w+://[^\"\\\\\s]+/executor-logs\b")
_TROUBLED = ("Pending", "Error", "Failed")


class Trouble(NamedTuple):
    """A node that Argo cannot start, or could not."""

    node: str
    """Its whole name."""
    why: str
    """In Argo's and Kubernetes' words."""


class Workflow(NamedTuple):
    """A workflow."""

    name: str
    run_id: str
    made: str
    phase: str
    troubles: tuple[Trouble, ...]
    """Of the last pods of its steps."""
    logs: Mapping[str, str]
    """Where Kubeflow's launcher puts the logs of steps, as URIs, by the whole names of their nodes."""


def read(document: Mapping[str, Any]) -> Workflow:
    """Read a workflow as Kubernetes gives it."""
    metadata, status = document.get("metadata", {}), document.get("status") or {}
    pods = [node for node in _nodes(status).values() if node.get("type") == "Pod"]
    pods.sort(key=lambda node: str(node.get("startedAt", "")))
    # What went wrong with an earlier attempt of a step is over.
    latest = {argo.step_of(str(node.get("name", "")))[0]: node for node in pods}
    troubles = (
        Trouble(str(node.get("name", "")), " ".join(str(node["message"]).split()))
        for node in latest.values()
        if node.get("phase") in _TROUBLED and not _NO_TROUBLE.match(str(node.get("message") or ""))
    )
    return Workflow(
        name=str(metadata.get("name", "")),
        run_id=str((metadata.get("labels") or {}).get(argo.RUN, "")),
        made=str(metadata.get("creationTimestamp", "")),
        phase=str(status.get("phase", "")),
        troubles=tuple(troubles),
        logs={str(node.get("name", "")): uri for node in pods if (uri := _log(node))},
    )


def _log(node: Mapping[str, Any]) -> str:
    """Where the launcher puts the log of a node: it is told so in the JSON of its arguments."""
    parameters = (node.get("inputs") or {}).get("parameters") or ()
    patch = next((str(each.get("value")) for each in parameters if each.get("name") == "pod-spec-patch"), "")
    found = _LOG.search(patch)
    return found[0] if found else ""


def _nodes(status: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes. From 1 MiB on Argo compresses them."""
    if packed := status.get("compressedNodes"):
        try:
            found = documents.json_of(_unpacked(base64.b64decode(packed)))
        except (ValueError, zlib.error, binascii.Error):
            return {}
        return found if isinstance(found, dict) else {}
    return dict(status.get("nodes") or {})


def _unpacked(packed: bytes) -> bytes:
    """What gzip packed, unless that is far more than the nodes of any workflow."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    found = inflate.decompress(packed, documents.MOST)
    if not inflate.eof:
        raise ValueError("larger than a workflow, or cut off")
    return found
