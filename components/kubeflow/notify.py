"""Report to a webhook how a run ended."""

import http.client
import json
import logging
import os
import re
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

from components.base.errors import UsageError
from components.kubeflow import pod

logger = logging.getLogger(__name__)

WEBHOOK = "MURA_WEBHOOK_URL"
_SECONDS = 15
# The server uses the words of its metadata store, kfp.local those of a run. The state stays RUNNING if a pod was killed
# before it could report its end.
_STATES = {"COMPLETE": "SUCCEEDED", "CACHED": "SUCCEEDED", "RUNNING": "UNKNOWN"}
_ENDS = {"UNKNOWN": "ended, and Kubeflow does not say how"}
# Kubeflow's own nodes of a run, not steps.
_MACHINERY = re.compile(r"root|importer|executor(\(.*)?|exit-handler-\d+|.*-driver|mura-\S+")


def message(status: str, run: str) -> dict[str, Any]:
    """The message: one line for Slack, Mattermost and Teams, and the same as fields.

    The final status says neither which steps failed nor why. The steps are asked of Kubeflow's API, if
    KF_PIPELINES_ENDPOINT names it, and it needs no login or this pod has a token for it.

    Args:
        status: Kubeflow's final status, JSON: `state`, `error`, and the names of the pipeline's job and task.
        run: its id.
    """
    try:
        document = json.loads(status)
    except ValueError:
        document = {}
    found: dict[str, Any] = document if isinstance(document, dict) else {}
    error = found.get("error") or {}
    why = " ".join(str(error.get("message", "") if isinstance(error, dict) else error).split())
    state = str(found.get("state") or "UNKNOWN")
    state = _STATES.get(state, state)
    failed = [] if state == "SUCCEEDED" else _failed(run)
    state = "FAILED" if failed else state
    link = pod.page(run) or ""
    job = str(found.get("pipelineJobResourceName") or run)
    told = _ENDS.get(state, state.lower()) + (f" in {', '.join(failed)}" if failed else "")
    text = f"mura {job}: {told}{f', {why}' if why else ''}{f' {link}' if link else ''}"
    return {"text": text, "state": state, "failed": failed, "run_id": run, "job": job, "error": why, "url": link}


def _failed(run: str) -> list[str]:
    """The steps that failed, from Kubeflow's API; none if it does not answer."""
    host = os.environ.get(pod.API, "").rstrip("/")
    try:
        if urlsplit(host).scheme not in ("http", "https"):
            return []
        url = f"{host}/apis/v2beta1/runs/{quote(run, safe='')}"
        question = urllib.request.Request(url)  # noqa: S310 - see above
        token = pod.token_path()
        if token.is_file():
            # Not sent to the target of a redirect.
            question.add_unredirected_header("Authorization", f"Bearer {token.read_text(encoding='ascii').strip()}")
        with urllib.request.urlopen(question, timeout=_SECONDS) as answer:  # noqa: S310
            tasks = json.load(answer)["run_details"]["task_details"]
            names = {str(task["display_name"]) for task in tasks if task.get("state") == "FAILED"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException) as error:
        logger.info("notify: %s does not say which steps failed (%s)", pod.API, type(error).__name__)
        return []
    return sorted(name for name in names if not _MACHINERY.fullmatch(name))


def check_webhook() -> None:
    """Check that MURA_WEBHOOK_URL is an address, if it is set. It is a secret, and not shown.

    Raises:
        UsageError: it is not.
    """
    try:
        url = urlsplit(os.environ.get(WEBHOOK) or "http://none")
        good = url.scheme in ("http", "https") and bool(url.hostname)
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{WEBHOOK}: expected http(s)://host/..., found something else.")


def send(told: dict[str, Any]) -> None:
    """Post a message to the webhook of MURA_WEBHOOK_URL. Errors are only logged: they do not fail the run."""
    url = os.environ.get(WEBHOOK)
    if not url:
        logger.info("notify: %s (%s is not set, no message is sent)", told["text"], WEBHOOK)
        return
    # The whole address is a secret: whoever has it can post to the webhook.
    where = urlsplit(url).hostname or "no host"
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("expected http(s)://")
        body, headers = json.dumps(told).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - see above
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
            logger.info("notify: %s; sent to %s", told["text"], where)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        logger.warning("notify: %s; not sent to %s (%s)", told["text"], where, reason)
