"""How a run ended, told to a webhook."""

import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from components import kubeflow

logger = logging.getLogger(__name__)

WEBHOOK = "MURA_WEBHOOK_URL"
_SECONDS = 15


def message(status: str, run: str) -> dict[str, Any]:
    """What is told: one line as Slack, Mattermost and Teams show it, and the same as fields.

    Args:
        status: Kubeflow's final status, JSON: `state`, `error`, and the names of the pipeline's job and task.
        run: its id.
    """
    try:
        document = json.loads(status)
    except ValueError:
        document = {}
    found: dict[str, Any] = document if isinstance(document, dict) else {}
    state = str(found.get("state") or "UNKNOWN")
    error = found.get("error") or {}
    why = " ".join(str(error.get("message", "") if isinstance(error, dict) else error).split())
    link = kubeflow.page(run) or ""
    job = str(found.get("pipelineJobResourceName") or run)
    text = f"mura {job}: {state.lower()}{f', {why}' if why else ''}{f' {link}' if link else ''}"
    return {"text": text, "state": state, "run_id": run, "job": job, "error": why, "url": link}


def send(told: dict[str, Any]) -> None:
    """Post it to the webhook of MURA_WEBHOOK_URL; what goes wrong is logged, since a run is not worse for it."""
    url = os.environ.get(WEBHOOK)
    if not url:
        logger.info("notify: %s (%s is not set, nobody is told)", told["text"], WEBHOOK)
        return
    # Whoever has the address of a webhook can post to it: the host says enough.
    where = urlsplit(url).hostname or "no host"
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("expected http(s)://")
        body, headers = json.dumps(told).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - see above
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
            logger.info("notify: %s; told to %s", told["text"], where)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        logger.warning("notify: %s; %s could not be told (%s)", told["text"], where, reason)
