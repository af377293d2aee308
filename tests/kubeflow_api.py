"""A server that speaks Kubeflow Pipelines' v2beta1 API, as far as a client's tests need it.

What it is asked and what it answers is checked against kfp-server-api's models, which are made from the API's OpenAPI
document: unknown fields, wrong types and unknown values of enumerations are refused. Names, errors, pages and nodes are
those of a real server 2.17.0, which tests/pipelines/test_recorded.py compares with this one, answer by answer.

    python tests/kubeflow_api.py run-refused     serves a recorded run, to be looked at with `mura pipeline watch`
"""

import base64
import gzip
import json
import re
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import kfp_server_api
import yaml

Mura = Callable[..., tuple[int, str, str]]
RECORDED = Path(__file__).parent / "recorded"
STARTED = datetime(2026, 11, 2, 9, 0, 0, tzinfo=UTC)
# What Go's zero time looks like: the end of a task that has not ended.
NEVER = "0001-01-01T00:00:00Z"
# The end of a run that has not ended.
NOT_FINISHED = "1970-01-01T00:00:00Z"
GRPC = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}


# A pipeline of three steps; the third comes last whatever happens.
PIPELINE = {
    "pipelineInfo": {"name": "mura"},
    "root": {
        "dag": {
            "tasks": {
                "exit-handler-1": {"componentRef": {"name": "comp-group"}},
                "notify": {
                    "componentRef": {"name": "comp-step"},
                    "dependentTasks": ["exit-handler-1"],
                    "taskInfo": {"name": "Notify"},
                },
            }
        }
    },
    "components": {
        "comp-step": {"executorLabel": "exec-step"},
        "comp-group": {
            "dag": {
                "tasks": {
                    "ingest": {"componentRef": {"name": "comp-step"}, "taskInfo": {"name": "Ingest"}},
                    "train-vgg16": {
                        "componentRef": {"name": "comp-step"},
                        "dependentTasks": ["ingest"],
                        "taskInfo": {"name": "Train (VGG-16)"},
                    },
                }
            }
        },
    },
}
CANDIDATES = {"custom-cnn": "custom CNN", "inception-v3": "Inception-v3", "vgg16": "VGG-16", "vgg19": "VGG-19"}


def whole_pipeline() -> dict[str, Any]:
    """The pipeline of the recorded runs, as far as a client reads it."""
    after: dict[str, tuple[str, list[str]]] = {
        "importer": ("Archive", []),
        "ingest": ("Ingest", ["importer"]),
        "validate": ("Validate", ["ingest"]),
        "shard": ("Shard", ["validate"]),
        **{f"train-{key}": (f"Train ({name})", ["shard"]) for key, name in CANDIDATES.items()},
        **{f"evaluate-{key}": (f"Evaluate ({name})", [f"train-{key}"]) for key, name in CANDIDATES.items()},
        "register": ("Register", [f"evaluate-{key}" for key in CANDIDATES]),
        "promote": ("Promote", ["register"]),
    }
    spec: dict[str, Any] = json.loads(json.dumps(PIPELINE))
    spec["components"]["comp-group"]["dag"]["tasks"] = {
        key: {"componentRef": {"name": f"comp-{key}"}, "dependentTasks": before, "taskInfo": {"name": name}}
        for key, (name, before) in after.items()
    }
    spec["components"] |= {f"comp-{key}": {"executorLabel": f"exec-{key}"} for key in after}
    spec["deploymentSpec"] = {
        "executors": {
            f"exec-{key}": {
                "container": {
                    "command": ["mura", key.partition("-")[0]],
                    "resources": {"resourceMemoryLimit": "4Gi" if key.startswith("train") else "3Gi"},
                }
            }
            for key in after
            if key != "importer"
        }
    }
    types = {"archive": "STRING", "archive_digest": "STRING", "seed": "NUMBER_INTEGER"}
    parameters = {name: {"parameterType": type_, "isOptional": True} for name, type_ in types.items()}
    spec["root"]["inputDefinitions"] = {"parameters": parameters}
    return spec


class ApiError(Exception):
    """An answer that is a refusal."""

    def __init__(self, status: int, message: str, detail: str = "", kind: str = "application/json") -> None:
        """Say no.

        Args:
            status: of HTTP.
            message: of the whole chain of the server's functions.
            detail: of the innermost; without it the answer has no details.
            kind: content type.
        """
        super().__init__(message)
        self.status, self.detail, self.kind = status, detail, kind


def missing(kind: str, name: str, doing: str) -> ApiError:
    """There is no such thing."""
    return ApiError(404, f"{doing}: ResourceNotFoundError: {kind} {name} not found", f"{kind} {name} not found")


def failed(message: str) -> ApiError:
    """The server's function failed, as it says."""
    return ApiError(500, message, "Internal Server Error")


def invalid(doing: str, why: str) -> ApiError:
    """What was sent is wrong."""
    return ApiError(400, f"{doing}{why}", why)


@dataclass
class Fault:
    """What is answered instead, and how often."""

    path: str
    status: int = 500
    body: bytes = b""
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    after: int = 0
    """So many requests are answered as they should be before."""
    times: int = 10**9
    method: str = "GET|POST|DELETE"


@dataclass
class KubeflowApi:
    """The server's state, and what tests ask of it."""

    multi_user: bool = False
    version: str = "2.17.0"
    token: str | None = None
    cookie: str | None = None
    namespaces: tuple[str, ...] = ("radiology",)
    page_size: int = 100
    story: list[tuple[str, dict[str, str]]] = field(default_factory=lambda: [("SUCCEEDED", {})])
    """State of a run and of its tasks at each time one asks for it; the last one stays."""
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    timelines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Answers for runs that were recorded, each with the seconds after the run's start."""
    logs: dict[str, str] = field(default_factory=dict)
    """Logs that the server finds by the id of a node."""
    objects: dict[str, str] = field(default_factory=dict)
    """Objects of buckets by their URIs, which the user interface reads."""
    lost: set[str] = field(default_factory=set)
    """Runs whose workflows were removed: they stay as they are."""
    cancelled: set[str] = field(default_factory=set)
    now: datetime | None = None
    """The server's clock; None for the true time."""
    url: str = ""

    def run(self, name: str = "mura-20261102-090000", *story: tuple[str, dict[str, str]], **fields: Any) -> str:
        """A run that somebody else started."""
        if story:
            self.story = list(story)
        self.now = self.now or STARTED + timedelta(seconds=600)
        self.versions.setdefault("v", {"pipeline_id": "p", "pipeline_version_id": "v", "pipeline_spec": PIPELINE})
        reference = {"pipeline_id": "p", "pipeline_version_id": "v"}
        made = {"display_name": name, "state": "PENDING", "experiment_id": "e", "pipeline_version_reference": reference}
        return str(keep(self.runs, "run_id", made | fields, "V2beta1Run")["run_id"])

    def replay(self, name: str, last: bool = False) -> str:
        """A run as it was recorded: each time one asks for it, the next answer; or only the last. Gives its id."""
        timeline = recorded(f"{name}.json.gz")[-1 if last else 0 :]
        run = timeline[0]["answer"]
        self.runs[run["run_id"]] = run
        self.timelines[run["run_id"]] = timeline
        reference = run["pipeline_version_reference"]
        self.versions[reference["pipeline_version_id"]] = reference | {"pipeline_spec": whole_pipeline()}
        return str(run["run_id"])

    def count(self, method: str, path: str) -> int:
        """How many requests there were of that method whose path matches."""
        return sum(1 for each, where in self.requests if each == method and re.search(path, where))

    # The services, by method and path.

    def health(self, **_: Any) -> Any:
        return {
            "commit_sha": "4a3592cb",
            "tag_name": self.version,
            "multi_user": self.multi_user,
            "pipeline_store": "database",
        }

    def list_experiments(self, query: dict[str, str], **_: Any) -> Any:
        self.allowed(query.get("namespace", ""))
        return self.page(self.experiments, "experiments", query, "V2beta1ListExperimentsResponse")

    def get_experiment(self, experiment_id: str, **_: Any) -> Any:
        if experiment_id not in self.experiments:
            raise missing("Experiment", experiment_id, "Failed to fetch experiment")
        return checked("V2beta1Experiment", self.experiments[experiment_id])

    def create_experiment(self, body: Any, **_: Any) -> Any:
        check("V2beta1Experiment", body)
        self.allowed(body.get("namespace", ""))
        if any(each["display_name"] == body["display_name"] for each in self.experiments.values()):
            message = f"Already exist error: Failed to create a new experiment. The name {body} already exist"
            raise ApiError(409, message, message)
        return keep(self.experiments, "experiment_id", body | {"storage_state": "AVAILABLE"}, "V2beta1Experiment")

    def list_pipelines(self, query: dict[str, str], **_: Any) -> Any:
        return self.page(self.pipelines, "pipelines", query, "V2beta1ListPipelinesResponse")

    def get_pipeline(self, pipeline_id: str, **_: Any) -> Any:
        if pipeline_id not in self.pipelines:
            doing = f"Failed to get a pipeline {pipeline_id}. Check error stack: Failed to get a pipeline with id"
            raise missing("Pipeline", pipeline_id, f"{doing} {pipeline_id}")
        return checked("V2beta1Pipeline", self.pipelines[pipeline_id])

    def get_pipeline_by_name(self, name: str, query: dict[str, str], **_: Any) -> Any:
        self.allowed(query.get("namespace", ""))
        for each in self.pipelines.values():
            if each["name"] == name:
                return checked("V2beta1Pipeline", each)
        doing = (
            f"Failed to get a pipeline with name {name} and namespace . Check error stack.: Failed to get a pipeline "
            f"named {name} in namespace "
        )
        raise missing("Namespace/Pipeline", f"/{name}", doing)

    def create_pipeline(self, body: Any, **_: Any) -> Any:
        check("V2beta1Pipeline", body)
        self.allowed(body.get("namespace", ""))
        name = body.get("name") or body["display_name"]
        if any(each["name"] == name for each in self.pipelines.values()):
            message = f"Already exist error: Failed to create a new pipeline. The name {name} already exist"
            raise ApiError(409, message, message)
        return keep(self.pipelines, "pipeline_id", body | {"name": name}, "V2beta1Pipeline")

    def list_versions(self, pipeline_id: str, query: dict[str, str], **_: Any) -> Any:
        mine = {key: each for key, each in self.versions.items() if each["pipeline_id"] == pipeline_id}
        return self.page(mine, "pipeline_versions", query, "V2beta1ListPipelineVersionsResponse")

    def get_version(self, version_id: str, **_: Any) -> Any:
        if version_id not in self.versions:
            doing = f"Failed to get a pipeline version {version_id}: Failed to get a pipeline version with id"
            raise missing("PipelineVersion", version_id, f"{doing} {version_id}")
        return checked("V2beta1PipelineVersion", self.versions[version_id])

    def upload(self, query: dict[str, str], body: bytes, **_: Any) -> Any:
        assert set(query) <= {"name", "display_name", "namespace", "description", "tags"}
        spec = compiled(body)
        if any(each["name"] == query["name"] for each in self.pipelines.values()):
            raise ApiError(409, "Failed to create a pipeline and a pipeline version")
        names = {"name": query["name"], "display_name": query["name"]}
        made = keep(self.pipelines, "pipeline_id", names, "V2beta1Pipeline")
        version = names | {"pipeline_id": made["pipeline_id"], "pipeline_spec": spec}
        keep(self.versions, "pipeline_version_id", version, "V2beta1PipelineVersion")
        return made

    def upload_version(self, query: dict[str, str], body: bytes, **_: Any) -> Any:
        assert set(query) <= {"name", "display_name", "pipelineid", "description", "tags", "code_source_url"}
        pipeline = query["pipelineid"]
        spec = compiled(body)
        if any(e["pipeline_id"] == pipeline and e["name"] == query["name"] for e in self.versions.values()):
            raise ApiError(409, "Failed to create a pipeline version")
        made = {
            "pipeline_id": pipeline,
            "name": query["name"],
            "display_name": query["name"],
            "description": query.get("description", ""),
            "pipeline_spec": spec,
        }
        return keep(self.versions, "pipeline_version_id", made, "V2beta1PipelineVersion")

    def create_run(self, body: Any, **_: Any) -> Any:
        check("V2beta1Run", body)
        if not body.get("display_name"):
            raise failed(
                "CreateJob(job.ToV2())Failed to create a run due to conversion error: InternalServerError: Failed to "
                "convert a API run detail to its internal representation: Invalid input error: Run name cannot be empty"
            )
        self.referred(body)
        made = body | {"state": "PENDING", "storage_state": "AVAILABLE", "finished_at": NOT_FINISHED}
        return keep(self.runs, "run_id", made, "V2beta1Run")

    def list_runs(self, query: dict[str, str], **_: Any) -> Any:
        # An experiment says which namespace is meant.
        wanted = query.get("experiment_id", "")
        if wanted and wanted not in self.experiments:
            doing = (
                f"Failed to list runs: Failed to list runs due to error fetching namespace for experiment {wanted}. "
                f"Try filtering based on namespace: Failed to fetch namespace from experiment {wanted}"
            )
            raise missing("Experiment", wanted, doing)
        experiment = self.experiments.get(wanted, {})
        self.allowed(experiment.get("namespace") or query.get("namespace", ""))
        return self.page(self.runs, "runs", query, "V2beta1ListRunsResponse")

    def get_run(self, run_id: str, **_: Any) -> Any:
        run = self.known(run_id, f"Failed to get a run: Failed to fetch run {run_id}")
        turn = self.asked[run_id] = self.asked.get(run_id, 0) + 1
        if run_id in self.timelines:
            at = self.timelines[run_id][min(turn, len(self.timelines[run_id])) - 1]
            run = self.runs[run_id] = at["answer"]
            self.now = datetime.fromisoformat(run["created_at"]) + timedelta(seconds=at["seconds"])
        elif run_id in self.cancelled:
            run |= {"state": "CANCELING"} if run["state"] != "CANCELING" else {"state": "FAILED"}
        elif run_id not in self.lost:
            state, tasks = self.story[min(turn, len(self.story)) - 1]
            run |= {"state": state, "run_details": {"task_details": details(run_id, tasks, state)}}
        if run_id not in self.timelines:
            run["state_history"] = [
                *run.get("state_history", ()),
                {"update_time": stamp(STARTED), "state": run["state"]},
            ]
            ended = run["state"] in ("SUCCEEDED", "FAILED", "CANCELED")
            run["finished_at"] = stamp(STARTED + timedelta(seconds=600)) if ended else NOT_FINISHED
        return checked("V2beta1Run", run)

    def terminate_run(self, run_id: str, **_: Any) -> Any:
        doing = f"Failed to terminate a run: Failed to terminate run {run_id}"
        run = self.known(run_id, f"{doing} due to error fetching the run: Failed to fetch run {run_id}")
        if run["state"] in ("SUCCEEDED", "FAILED"):
            raise invalid(f"{doing}: Invalid input error: ", f"Failed to terminate a run {run_id}. Row not found")
        self.cancelled.add(run_id)
        return {}

    def delete_run(self, run_id: str, **_: Any) -> Any:
        doing = (
            f"Failed to delete a run: Failed to delete run {run_id} as it does not exist: Failed to fetch run {run_id}"
        )
        self.known(run_id, doing)
        del self.runs[run_id]
        return {}

    def read_artifact(self, run_id: str, node_id: str, artifact: str, **_: Any) -> Any:
        self.known(run_id, "Failed to read artifact")
        if artifact != "main-logs" or node_id not in self.logs:
            raise ApiError(404, f"Failed to read artifact: ResourceNotFoundError: artifact {node_id} not found")
        return {"data": base64.b64encode(self.logs[node_id].encode()).decode()}

    def list_recurring(self, query: dict[str, str], **_: Any) -> Any:
        self.allowed(query.get("namespace", ""))
        return self.page(self.recurring, "recurringRuns", query, "V2beta1ListRecurringRunsResponse")

    def get_recurring(self, recurring_id: str, **_: Any) -> Any:
        if recurring_id not in self.recurring:
            raise missing("Job", recurring_id, "Failed to fetch a recurring run")
        return checked("V2beta1RecurringRun", self.recurring[recurring_id])

    def create_recurring(self, body: Any, **_: Any) -> Any:
        check("V2beta1RecurringRun", body)
        doing = "Failed to create a recurring run due to conversion error: Invalid input error: "
        if not 1 <= (most := int(body.get("max_concurrency", 0))) <= 10:
            why = f"Max concurrency of a recurring run must be at least 1 and at most 10. Received {most}"
            raise invalid(doing, why)
        cron = body["trigger"]["cron_schedule"]["cron"]
        if not 5 <= (count := len(cron.split())) <= 6:
            about = "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). Error: Expected"
            raise invalid(doing, f"{about} 5 to 6 fields, found {count}: {cron}")
        self.referred(body)
        made = {"service_account": "pipeline-runner", "namespace": "kubeflow"} | body
        made["status"] = "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED"
        made["updated_at"] = stamp(STARTED)
        return keep(self.recurring, "recurring_run_id", made, "V2beta1RecurringRun")

    def disable_recurring(self, recurring_id: str, **_: Any) -> Any:
        self.get_recurring(recurring_id)
        self.recurring[recurring_id] |= {"mode": "DISABLE", "status": "DISABLED"}
        return {}

    def delete_recurring(self, recurring_id: str, query: dict[str, str], **_: Any) -> Any:
        if self.recurring.pop(recurring_id, None) is None:
            doing = f"Failed to delete a recurring run: Failed to delete recurring run {recurring_id}. Check if exists"
            raise missing("Job", recurring_id, doing)
        if query.get("propagation_policy") != "ORPHAN":
            # Kubernetes removes the workflows that belong to it; their runs' rows stay as they are.
            self.lost |= {key for key, run in self.runs.items() if run.get("recurring_run_id") == recurring_id}
        return {}

    ROUTES = (
        ("GET", r"/healthz", health),
        ("GET", r"/experiments", list_experiments),
        ("GET", r"/experiments/(?P<experiment_id>[^/]+)", get_experiment),
        ("POST", r"/experiments", create_experiment),
        ("GET", r"/pipelines", list_pipelines),
        ("GET", r"/pipelines/(?P<pipeline_id>[^/]+)", get_pipeline),
        ("POST", r"/pipelines/upload", upload),
        ("GET", r"/pipelines/names/(?P<name>[^/]+)", get_pipeline_by_name),
        ("POST", r"/pipelines", create_pipeline),
        ("POST", r"/pipelines/upload_version", upload_version),
        ("GET", r"/pipelines/(?P<pipeline_id>[^/]+)/versions", list_versions),
        ("GET", r"/pipelines/(?P<pipeline_id>[^/]+)/versions/(?P<version_id>[^/]+)", get_version),
        ("POST", r"/runs", create_run),
        ("GET", r"/runs", list_runs),
        ("GET", r"/runs/(?P<run_id>[^/:]+)", get_run),
        ("POST", r"/runs/(?P<run_id>[^/:]+):terminate", terminate_run),
        ("DELETE", r"/runs/(?P<run_id>[^/:]+)", delete_run),
        ("GET", r"/runs/(?P<run_id>[^/]+)/nodes/(?P<node_id>[^/]+)/artifacts/(?P<artifact>[^/:]+):read", read_artifact),
        ("GET", r"/recurringruns", list_recurring),
        ("POST", r"/recurringruns", create_recurring),
        ("GET", r"/recurringruns/(?P<recurring_id>[^/:]+)", get_recurring),
        ("POST", r"/recurringruns/(?P<recurring_id>[^/:]+):disable", disable_recurring),
        ("DELETE", r"/recurringruns/(?P<recurring_id>[^/:]+)", delete_recurring),
    )

    # What they have in common.

    def allowed(self, namespace: str) -> None:
        if self.multi_user and not namespace:
            raise invalid("Invalid input error: ", "A namespace is required in multi-user mode")
        if self.multi_user and namespace not in self.namespaces:
            message = f"PermissionDenied: User 'ada' is not authorized: {{Namespace:{namespace}}}"
            raise ApiError(403, message, message)

    def known(self, run_id: str, doing: str) -> dict[str, Any]:
        if run_id not in self.runs:
            raise missing("Run", run_id, doing)
        return self.runs[run_id]

    def referred(self, body: dict[str, Any]) -> None:
        """Check what a run or a schedule refers to, and its parameters."""
        doing = "Failed to create a new run: "
        experiment = body.get("experiment_id")
        if experiment not in self.experiments:
            why = "Failed to create a run due to invalid experimentId and namespace combination: Failed to fetch"
            whose = f"namespace for experiment {experiment}: Failed to fetch namespace from experiment {experiment}"
            raise missing("Experiment", str(experiment), f"{doing}{why} {whose}")
        fetching = f"{doing}InternalServerError: Failed to create a run due to error fetching manifest: "
        version = body.get("pipeline_version_reference", {}).get("pipeline_version_id")
        if version is None:
            empty = "Invalid input error: Failed to fetch a template with an empty pipeline spec manifest"
            raise failed(fetching + empty)
        if version not in self.versions:
            raise failed(
                f"{fetching}Failed to fetch a template due to error retrieving pipeline version: Failed to fetch a "
                f"pipeline version and its manifest from pipeline version {version}: Failed to get a pipeline version "
                f"with id {version}: ResourceNotFoundError: PipelineVersion {version} not found"
            )
        spec = self.versions[version]["pipeline_spec"]
        spec = spec.get("pipeline_spec", spec)
        parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        making = f"{doing}Failed to generate the ExecutionSpec: invalid pipeline job inputs: Invalid input error: "
        given = body.get("runtime_config", {}).get("parameters", {})
        if unknown := sorted(set(given) - set(parameters)):
            raise invalid(making, f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}")
        for name, value in given.items():
            words, kind, types = PARAMETERS[parameters[name]["parameterType"]]
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                wrong = f"requires type {words}, but the parameter value is not of {kind} value type"
                raise invalid(making, f"input parameter {name} {wrong}")

    def page(self, things: dict[str, Any], key: str, query: dict[str, str], model: str) -> Any:
        assert set(query) <= {"page_token", "page_size", "sort_by", "filter", "namespace", "experiment_id"}
        start = 0
        if token := query.get("page_token"):
            # A token knows the filter and the order.
            try:
                before = json.loads(base64.b64decode(token))
            except ValueError:
                why = "Invalid page token"
                said = (
                    f"Failed to create list options: InvalidInputError: {why}: invalid character '\\u009e' looking for"
                )
                raise ApiError(400, f"{said} beginning of value", why) from None
            start, query = before["start"], query | before["query"]
        found = [each for each in things.values() if matches(each, query.get("filter", ""))]
        found.sort(key=lambda each: str(each.get("created_at", "")))
        if query.get("sort_by") == "created_at desc":
            found.reverse()
        if wanted := query.get("experiment_id"):
            found = [each for each in found if each["experiment_id"] == wanted]
        size = min(int(query.get("page_size") or 20), self.page_size)
        answer: dict[str, Any] = {key: found[start : start + size], "total_size": len(found)}
        if start + size < len(found):
            kept = {name: query[name] for name in ("filter", "sort_by") if name in query}
            next_token = json.dumps({"start": start + size, "query": kept})
            answer["next_page_token"] = base64.b64encode(next_token.encode()).decode()
        return checked(model, answer)

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> tuple[int, Any]:
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            raise ApiError(401, "Unauthenticated: Request header error: there is no user identity header.")
        if self.cookie and headers.get("cookie") != self.cookie:
            raise ApiError(401, "Unauthenticated: Request header error: there is no user identity header.")
        for verb, pattern, service in self.ROUTES:
            if verb == method and (found := re.fullmatch("/apis/v2beta1" + pattern, path)):
                try:
                    sent: Any = form(headers, body) if "/upload" in path else json.loads(body or b"null")
                except ValueError:
                    raise ApiError(400, "invalid character 'n' looking for beginning of object key string") from None
                return 200, lean(service(self, query=query, body=sent, **found.groupdict()))
        raise ApiError(404, "Not Found")


# By the types of a pipeline's parameters: the words of the server, and what JSON may hold.
PARAMETERS: dict[str, tuple[str, str, tuple[type, ...]]] = {
    "STRING": ("string", "string", (str,)),
    "NUMBER_INTEGER": ("double or integer", "number", (int, float)),
    "NUMBER_DOUBLE": ("double or integer", "number", (int, float)),
    "BOOLEAN": ("bool", "bool", (bool,)),
    "LIST": ("list", "list", (list,)),
    "STRUCT": ("struct", "struct", (dict,)),
}


def recorded(name: str) -> Any:
    """A recording."""
    return json.loads(gzip.decompress((RECORDED / name).read_bytes()))


def compiled(body: bytes) -> dict[str, Any]:
    """A pipeline that is uploaded."""
    if not body:
        raise ApiError(400, "Failed to read pipeline from file", kind="text/plain; charset=utf-8")
    try:
        documents = list(yaml.safe_load_all(body))
    except (yaml.YAMLError, UnicodeError):
        documents = []
    if not documents or not isinstance(documents[0], dict) or "pipelineInfo" not in documents[0]:
        raise ApiError(400, "unknown template format")
    return documents[0] if len(documents) == 1 else {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def lean(value: Any) -> Any:
    """As protojson writes it: empty lists and texts, 0, false and the first value of an enumeration are left out."""
    if isinstance(value, list):
        return [lean(each) for each in value]
    if not isinstance(value, dict):
        return value
    # A health check is written by hand, and what is in a pipeline or an argument is not protobuf's.
    kept = {"multi_user", "pipeline_spec", "parameters"}
    found = {key: each if key in kept else lean(each) for key, each in value.items()}
    return {
        key: each
        for key, each in found.items()
        if key in kept or (each not in ("", 0, False, None, []) and each != "RUNTIME_STATE_UNSPECIFIED")
    }


def checked(model: str, value: Any) -> Any:
    """An answer, if it is of its model. Runs are stored with a pipeline, and refer to it in answers."""
    check(model, value)
    return value


def check(model: str, value: Any, where: str = "") -> None:
    """Refuse what the API's document does not know.

    Raises:
        ApiError: 400, with the words of protojson.
    """
    kind = getattr(kfp_server_api.models, model)
    if not kind.openapi_types:
        if value not in kind.allowable_values:
            raise ApiError(400, f'proto: invalid value for enum field {where}: "{value}"')
        return
    if not isinstance(value, dict):
        raise ApiError(400, f"proto: unexpected token {value!r} for {where}")
    fields = {kind.attribute_map[name]: type_ for name, type_ in kind.openapi_types.items()}
    for name, each in value.items():
        if name not in fields:
            raise ApiError(400, f'proto: unknown field "{name}" in {model}')
        _check_type(fields[name], each, f"{where}.{name}")


def _check_type(type_: str, value: Any, where: str) -> None:
    if found := re.fullmatch(r"list\[(.*)\]", type_):
        for each in value:
            _check_type(found[1], each, where)
    elif found := re.fullmatch(r"dict\(str, (.*)\)", type_):
        for each in value.values():
            _check_type(found[1], each, where)
    elif type_ == "datetime":
        datetime.fromisoformat(value)
    elif type_ in ("str", "int", "bool"):
        if type(value) is not {"str": str, "int": int, "bool": bool}[type_]:
            raise ApiError(400, f"proto: invalid value for {type_} field {where}: {value!r}")
    elif type_ != "object":
        check(type_, value, where)


def keep(things: dict[str, dict[str, Any]], key: str, made: dict[str, Any], model: str) -> Any:
    """Give it an identity and a time, and answer with it."""
    name = str(uuid.uuid4())
    things[name] = made | {key: name, "created_at": stamp(STARTED + timedelta(seconds=len(things)))}
    return checked(model, things[name])


def matches(thing: dict[str, Any], filter_: str) -> bool:
    """Whether it passes a filter, the predicates of which are JSON of the filter's message."""
    # The API server decodes it, though HTTP has done so already.
    text = unquote_plus(filter_)
    try:
        predicates = json.loads(text)["predicates"] if text else ()
    except ValueError:
        why = f'failed to parse valid filter from "{text}": proto:\u00a0syntax error (line 1:1): invalid value {text}'
        raise invalid("Failed to create list options: Invalid input error: ", why) from None
    for each in predicates:
        assert set(each) == {"operation", "key", "string_value"}, each
        check("V2beta1PredicateOperation", each["operation"])
        # Fields that the API server can filter by; it refuses others.
        if each["key"] not in ("name", "display_name", "id", "run_id", "description"):
            raise invalid("Invalid input error: ", f"no support for filtering on unrecognized field {each['key']}")
        # The name of a run is its display name; MySQL ignores case.
        value = str(thing.get(each["key"], thing.get("display_name", ""))).lower()
        wanted = each["string_value"].lower()
        right = wanted in value if each["operation"] == "IS_SUBSTRING" else wanted == value
        if not right:
            return False
    return True


WORKFLOW = "mura-abcde"


def node_id(name: str) -> str:
    """Argo's id of a node: FNV-1a of its whole name."""
    code = 0x811C9DC5
    for byte in name.encode():
        code = ((code ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"{WORKFLOW}-{code}"


def executor(key: str, attempt: int = 0) -> str:
    """The whole name of the node of a step's pod."""
    group = "exit-handler-1.onExit" if key == "notify" else "exit-handler-1"
    return f"{WORKFLOW}(0).root(0).{group}(0).{key}(0).executor({attempt})"


def details(run_id: str, tasks: dict[str, str], run: str) -> list[dict[str, Any]]:
    """Task details as the API server makes them from Argo's nodes: in no order, with drivers and executors beside.

    A state may be CACHED: from the cache; WAITING: its pod is pending.
    """
    found = []

    def add(name: str, state: str, *children: str, start: datetime = STARTED, seconds: float | None = None) -> None:
        label = name.rpartition(").")[2]
        found.append(
            {
                "run_id": run_id,
                "task_id": str(uuid.uuid4()),
                "display_name": label,
                "create_time": stamp(STARTED),
                "start_time": stamp(start),
                "end_time": NEVER if seconds is None else stamp(start + timedelta(seconds=seconds)),
                "state": state,
                "state_history": [{"update_time": stamp(start), "state": state}],
                "child_tasks": [{"pod_name": node_id(child)} for child in children],
            }
        )

    above = f"{WORKFLOW}(0).root(0)"
    groups: dict[str, list[str]] = {}
    for turn, (key, told) in enumerate(tasks.items()):
        state = {"CACHED": "SUCCEEDED", "WAITING": "RUNNING"}.get(told, told)
        start = STARTED + timedelta(seconds=60 * turn)
        ended = state in ("SUCCEEDED", "FAILED", "CANCELED")
        seconds = (0.0 if told == "CACHED" else 45.0 + turn) if ended else None
        pod = executor(key)
        step = pod.removesuffix("(0).executor(0)")
        groups.setdefault(step.rpartition(".")[0], []).append(f"{step}-driver")
        add(f"{step}-driver", "SUCCEEDED", f"{step}-driver(0)", start=start, seconds=1)
        add(f"{step}-driver(0)", "SUCCEEDED", step, start=start, seconds=1)
        add(step, state, f"{step}(0)", start=start, seconds=seconds)
        add(f"{step}(0)", state, f"{step}(0).executor", start=start, seconds=seconds)
        if told == "CACHED":
            add(f"{step}(0).executor", "SKIPPED", start=start, seconds=0)
            continue
        add(f"{step}(0).executor", state, pod, start=start, seconds=seconds)
        add(pod, "PENDING" if told == "WAITING" else state, start=start, seconds=seconds)
    # Groups end with the run.
    state, seconds = (run, 600.0) if run in ("SUCCEEDED", "FAILED") else ("RUNNING", None)
    for group, children in groups.items():
        add(group, state, *children, seconds=seconds)
        add(group.removesuffix("(0)"), state, group, seconds=seconds)
    add(above, state, *(group.removesuffix("(0)") for group in groups), seconds=seconds)
    add(above.removesuffix("(0)"), state, above, seconds=seconds)
    add(f"{WORKFLOW}(0)", state, above.removesuffix("(0)"), seconds=seconds)
    add(WORKFLOW, state, f"{WORKFLOW}(0)", seconds=seconds)
    return sorted(found, key=lambda each: str(each["task_id"]))


def stamp(moment: datetime) -> str:
    """As protojson writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def form(headers: Any, body: bytes) -> bytes:
    """The uploaded file."""
    message = BytesParser().parsebytes(b"content-type: " + headers["content-type"].encode() + b"\r\n\r\n" + body)
    (part,) = message.get_payload()
    assert part.get_param("name", header="content-disposition") == "uploadfile"
    return part.get_payload(decode=True)


@contextmanager
def serve(api: KubeflowApi, certificate: tuple[Path, Path] | None = None, port: int = 0) -> Iterator[KubeflowApi]:
    """Answer at a port of 127.0.0.1, with TLS if there are a certificate and a key."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            api.requests.append((self.command, self.path))
            for fault in api.faults:
                if re.search(fault.path, self.path) and re.fullmatch(fault.method, self.command):
                    fault.after -= 1
                    if fault.after >= 0 or fault.after < -fault.times:
                        continue
                    time.sleep(fault.seconds)
                    if fault.status:
                        self.send(fault.status, fault.body, fault.kind, fault.headers)
                        return
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if url.path == "/artifacts/get":
                log = api.objects.get(f"{query['source']}://{query['bucket']}/{query['key']}")
                self.send(404 if log is None else 200, (log or "no such key").encode(), "application/octet-stream", {})
                return
            kind = "application/json"
            try:
                status, answer = api.answer(self.command, url.path, query, self.headers, body)
            except ApiError as error:
                status, answer, kind = error.status, refusal(error, url.path), error.kind
            self.send(status, json.dumps(answer).encode(), kind, {})

        do_GET = do_POST = do_DELETE = handle_one  # noqa: N815 - http.server's names

        def send(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in ({"content-type": kind, "content-length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client did not wait

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(timestamp or (api.now.timestamp() if api.now else None))

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # handshakes that tests let fail
    api.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(error: ApiError, path: str) -> Any:
    """The body of an error: of the gateway, or of what is written by hand."""
    if "/upload" in path or path.endswith(":read"):
        return {"error_message": str(error), "error_details": str(error)}
    code = GRPC[error.status]
    body: dict[str, Any] = {"code": code, "message": str(error)}
    if error.detail:
        inner = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": error.detail}
        body["details"] = [inner]
    return body


if __name__ == "__main__":
    by_hand = KubeflowApi()
    for name in sys.argv[1:]:
        by_hand.replay(name)
    with serve(by_hand, port=8899):
        print(f"export KF_PIPELINES_ENDPOINT={by_hand.url}")
        while True:
            time.sleep(1)
