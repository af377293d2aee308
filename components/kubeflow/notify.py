"""Report to a webhook how a run ended."""

import http.client
import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from components.base import answers, documents
from components.base.errors import UsageError, printable
from components.base.terminal import without_secrets
from components.base.urls import without_credentials
from components.kubeflow import argo, failed_pods, pod
from components.kubeflow.run_states import cancelled

logger = logging.getLogger(__name__)

WEBHOOK = "MURA_WEBHOOK_URL"
_SECONDS = 15
# Until the last byte of an answer, seconds.
_LONGEST = 60
# The server uses the words of its metadata store, kfp.local those of a run. The state stays RUNNING if a pod was killed
# before it could report its end.
_STATES = {"COMPLETE": "SUCCEEDED", "CACHED": "SUCCEEDED", "RUNNING": "UNKNOWN"}
_ENDS = {"UNKNOWN": "ended, and Kubeflow does not say how", "CANCELED": "cancelled"}
# What an answer of another form, or none, raises.
_FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, http.client.HTTPException)


def message(status: str, run: str) -> dict[str, Any]:
    """The message: one line for Slack, Mattermost and Teams, and the same as fields.

    The final status says neither the name of the run nor which steps failed. Both are asked of Kubeflow's API, if
    KF_PIPELINES_ENDPOINT names it, and it needs no login or this pod has a token for it.

    Args:
        status: Kubeflow's final status, JSON: `state`, `error`, and the names of the pipeline's job and task.
        run: its id.
    """
    try:
        document = documents.json_of(status)
    except ValueError:
        document = {}
    found: dict[str, Any] = document if isinstance(document, dict) else {}
    error = found.get("error") or {}
    why = without_secrets(" ".join(str(error.get("message", "") if isinstance(error, dict) else error).split()))
    told = str(found.get("state") or "UNKNOWN")
    state = _STATES.get(told, told)
    job = str(found.get("pipelineJobResourceName") or run)
    known = Run.ask(run)
    failed: list[str] = []
    where = ""
    if state != "SUCCEEDED":
        # Kubernetes knows it too, where Kubeflow has stopped telling of steps.
        if not known.cancelled:
            failed = known.failed() or (_by_pods(run) if state == "FAILED" else [])
        state = "CANCELED" if known.cancelled else "FAILED" if failed else state
        where = known.where(failed) if state == "FAILED" else ""
    name = known.name or job
    link = _address(run)
    said = f"{_ENDS.get(state, state.lower())}{where}"
    text = f"{_plain(f'mura {name}: {said}')}{f', {_plain(why)}' if why else ''}{f' {_escaped(link)}' if link else ''}"
    fields = {"text": text, "state": state, "failed": failed, "run": name, "run_id": run, "job": job}
    return fields | {"error": why, "url": link}


def _plain(text: str) -> str:
    """A text of others, which calls nobody and hides no link behind other words.

    Slack reads `<!channel>` and `<https://...|words>`, Mattermost and Teams `@channel` and `[words](https://...)`.
    """
    text = re.sub(r"(?<![\w.+-])@(?=\w)", "@ ", printable(without_secrets(text))).replace("](", "] (")
    return _escaped(text)


def _escaped(text: str) -> str:
    """The three signs that Slack asks to escape. Markdown knows them so as well.

    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Run(NamedTuple):
    """A run, as Kubeflow's API tells of it. Everything is empty if it does not answer."""

    name: str = ""
    cancelled: bool = False
    tasks: tuple[dict[str, Any], ...] = ()
    """Its nodes, in the order in which they started."""
    titles: Mapping[str, str] = {}
    """Names of steps for people, by their names in the graph."""

    @classmethod
    def ask(cls, run: str) -> "Run":
        """Ask Kubeflow's API."""
        try:
            found = _get(f"runs/{quote(run, safe='')}")
            details = (found.get("run_details") or {}).get("task_details") or []
            tasks = [task for task in details if task.get("display_name")]
            history = [each.get("state") for each in found.get("state_history") or ()]
            tasks.sort(key=lambda task: (str(task.get("start_time", "")), str(task["display_name"])))
            name = str(found.get("display_name") or "")
            return cls(name, cancelled(history), tuple(tasks), _titles(found) if tasks else {})
        except _FAILURES as error:
            logger.info("notify: %s does not tell of the run (%s)", pod.API, type(error).__name__)
            return cls()

    def failed(self) -> list[str]:
        """The steps that failed, by their names in the graph. One that its driver could not prepare has failed too."""
        failed = [str(task["display_name"]) for task in self.tasks if task.get("state") == "FAILED"]
        names = dict.fromkeys(name.removesuffix(argo.DRIVER) for name in failed)
        return [name for name in names if self._is_step(name)]

    def where(self, failed: list[str]) -> str:
        """Where it failed, for people; as nearly as possible if that is not known."""
        if failed:
            return f" in {', '.join(self.titles.get(name, name) for name in failed)}"
        steps = [task for task in self.tasks if self._is_step(str(task["display_name"]))]
        # The step that tells is at work now.
        others = [task for task in steps if task["display_name"] != "notify"]
        running = [task for task in others if task.get("state") == "RUNNING"]
        done = [task for task in others if task.get("state") == "SUCCEEDED"]
        if not running and not done:
            return ""
        last = str((running or done)[-1]["display_name"])
        return f" {'in or after' if running else 'after'} {self.titles.get(last, last)}"

    def _is_step(self, name: str) -> bool:
        if self.titles:
            return name in self.titles
        # A workflow is called by the beginning of the ids of its nodes.
        ids = (child.get("pod_name") or "" for task in self.tasks for child in task.get("child_tasks") or ())
        workflow = next((each.rpartition("-")[0] for each in ids if each), "")
        return argo.is_step(name) and name != workflow and not name.startswith("mura-")


def _titles(run: dict[str, Any]) -> dict[str, str]:
    """Names of steps for people, from the pipeline that the run refers to; none if the server does not give it."""
    reference = run.get("pipeline_version_reference") or {}
    spec = run.get("pipeline_spec")
    try:
        if not spec:
            ids = [quote(str(reference[key]), safe="") for key in ("pipeline_id", "pipeline_version_id")]
            spec = _get(f"pipelines/{ids[0]}/versions/{ids[1]}")["pipeline_spec"]
        spec = spec.get("pipeline_spec", spec)
        components = spec["components"]
        graphs = [part["dag"]["tasks"] for part in (spec["root"], *components.values()) if "dag" in part]
        tasks = {name: task for graph in graphs for name, task in graph.items()}
        steps = {name: task for name, task in tasks.items() if "dag" not in components[task["componentRef"]["name"]]}
        return {name: str((task.get("taskInfo") or {}).get("name") or name) for name, task in steps.items()}
    except _FAILURES as error:
        logger.info("notify: %s does not tell the names of steps (%s)", pod.API, type(error).__name__)
        return {}


def _get(path: str) -> dict[str, Any]:
    """Ask Kubeflow's API."""
    host = os.environ.get(pod.API, "").rstrip("/")
    if urlsplit(host).scheme not in ("http", "https"):
        raise ValueError("no address")
    question = urllib.request.Request(f"{host}/apis/v2beta1/{path}")  # noqa: S310 - see above
    token = pod.token_path()
    if token.is_file():
        # Not sent to the target of a redirect.
        question.add_unredirected_header("Authorization", f"Bearer {token.read_text(encoding='ascii').strip()}")
    with answers.limited(answers.LARGE, _LONGEST), urllib.request.urlopen(question, timeout=_SECONDS) as answer:  # noqa: S310
        found: dict[str, Any] = documents.json_of(answer.read())
    return found


def _by_pods(run: str) -> list[str]:
    try:
        return failed_pods.steps(run)
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        logger.info("notify: Kubernetes does not say which pods failed (%s)", error)
        return []


def _address(run: str) -> str:
    """The run's page: at the user interface, or at the API's address if that is one for people too."""
    if link := pod.page(run):
        return link
    api = without_credentials(os.environ.get(pod.API, "")).rstrip("/")
    host = urlsplit(api).hostname or ""
    # Services of a cluster have such names or numbers. Their user interface has another address, which we do not know.
    inside = "." not in host or re.search(r"^ml-pipeline\b|\.svc(\.|$)|^[\d.:]+$", host)
    if inside:
        logger.info("notify: %s is not set, the message has no link", pod.UI)
    return "" if inside else f"{api}/#/runs/details/{quote(run, safe='')}"


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
        with answers.limited(seconds=_LONGEST), urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
            logger.info("notify: %s; sent to %s", told["text"], where)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        logger.warning("notify: %s; not sent to %s (%s)", told["text"], where, reason)
