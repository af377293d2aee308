"""A server that speaks Kubeflow Pipelines' v2beta1 API, as far as a client's tests need it.

What it is asked and what it answers is checked against kfp-server-api's models, which are made from the API's OpenAPI
document: unknown fields, wrong types and unknown values of enumerations are refused. How the names, errors, pages and
task details look follows the API server 2.17 (backend/src/apiserver/server).
"""

import json
import re
import ssl
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
STARTED = datetime(2026, 11, 2, 9, 0, 0, tzinfo=UTC)
# What Go's zero time looks like: the end of a task that has not ended.
NEVER = "0001-01-01T00:00:00Z"
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


class ApiError(Exception):
    """An answer that is a refusal."""

    def __init__(self, status: int, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.status, self.detail = status, detail or message


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
    url: str = ""

    def run(self, name: str = "mura-20261102-090000", *story: tuple[str, dict[str, str]], **fields: Any) -> str:
        """A run that somebody else started."""
        if story:
            self.story = list(story)
        made = {"display_name": name, "state": "PENDING", "experiment_id": "e", "pipeline_spec": PIPELINE} | fields
        return str(keep(self.runs, "run_id", made, "V2beta1Run")["run_id"])

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

    def create_experiment(self, body: Any, **_: Any) -> Any:
        check("V2beta1Experiment", body)
        self.allowed(body.get("namespace", ""))
        if any(each["display_name"] == body["display_name"] for each in self.experiments.values()):
            raise ApiError(
                409, f"Already exist error: Failed to create a new experiment. The name {body} already exist"
            )
        return keep(self.experiments, "experiment_id", body | {"storage_state": "AVAILABLE"}, "V2beta1Experiment")

    def get_pipeline_by_name(self, name: str, query: dict[str, str], **_: Any) -> Any:
        self.allowed(query.get("namespace", ""))
        for each in self.pipelines.values():
            if each["name"] == name:
                return checked("V2beta1Pipeline", each)
        raise ApiError(404, f"Failed to get a pipeline: ResourceNotFoundError: Pipeline {name} not found.")

    def create_pipeline(self, body: Any, **_: Any) -> Any:
        check("V2beta1Pipeline", body)
        self.allowed(body.get("namespace", ""))
        name = body.get("name") or body["display_name"]
        if any(each["name"] == name for each in self.pipelines.values()):
            raise ApiError(409, f"Already exist error: Failed to create a new pipeline. The name {name} already exist")
        return keep(self.pipelines, "pipeline_id", body | {"name": name}, "V2beta1Pipeline")

    def list_versions(self, pipeline_id: str, query: dict[str, str], **_: Any) -> Any:
        mine = {key: each for key, each in self.versions.items() if each["pipeline_id"] == pipeline_id}
        return self.page(mine, "pipeline_versions", query, "V2beta1ListPipelineVersionsResponse")

    def get_version(self, pipeline_id: str, version_id: str, **_: Any) -> Any:
        if version_id not in self.versions:
            raise ApiError(404, f"ResourceNotFoundError: PipelineVersion {version_id} not found.")
        return checked("V2beta1PipelineVersion", self.versions[version_id])

    def upload_version(self, query: dict[str, str], body: bytes, **_: Any) -> Any:
        assert set(query) <= {"name", "display_name", "pipelineid", "description", "tags", "code_source_url"}
        pipeline = query["pipelineid"]
        if any(e["pipeline_id"] == pipeline and e["name"] == query["name"] for e in self.versions.values()):
            # The upload's errors are of another form than the API's.
            raise ApiError(409, "Failed to create a pipeline version", "upload")
        documents = list(yaml.safe_load_all(body))
        spec = documents[0] if len(documents) == 1 else {"pipeline_spec": documents[0], "platform_spec": documents[1]}
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
        self.referred(body)
        if not body.get("display_name"):
            raise ApiError(400, "The run name is empty. Please specify a valid name")
        made = body | {"state": "PENDING", "storage_state": "AVAILABLE"}
        return keep(self.runs, "run_id", made, "V2beta1Run")

    def list_runs(self, query: dict[str, str], **_: Any) -> Any:
        # An experiment says which namespace is meant.
        experiment = self.experiments.get(query.get("experiment_id", ""), {})
        self.allowed(experiment.get("namespace") or query.get("namespace", ""))
        return self.page(self.runs, "runs", query, "V2beta1ListRunsResponse")

    def get_run(self, run_id: str, **_: Any) -> Any:
        if run_id not in self.runs:
            raise ApiError(404, f"Failed to get a run: ResourceNotFoundError: Run {run_id} not found.")
        run = self.runs[run_id]
        turn = self.asked[run_id] = self.asked.get(run_id, 0) + 1
        if run["state"] != "CANCELED":
            state, tasks = self.story[min(turn, len(self.story)) - 1]
            run |= {"state": state, "run_details": {"task_details": details(run_id, tasks)}}
            if state in ("SUCCEEDED", "FAILED"):
                run["finished_at"] = stamp(STARTED + timedelta(seconds=600))
        return checked("V2beta1Run", run)

    def terminate_run(self, run_id: str, **_: Any) -> Any:
        if run_id not in self.runs:
            raise ApiError(404, f"Failed to terminate a run: ResourceNotFoundError: Run {run_id} not found.")
        if self.runs[run_id]["state"] in ("SUCCEEDED", "FAILED"):
            raise ApiError(
                500, "InternalServerError: Failed to terminate a run. Row not found", "Internal Server Error"
            )
        self.runs[run_id]["state"] = "CANCELED"
        return {}

    def list_recurring(self, query: dict[str, str], **_: Any) -> Any:
        self.allowed(query.get("namespace", ""))
        return self.page(self.recurring, "recurringRuns", query, "V2beta1ListRecurringRunsResponse")

    def create_recurring(self, body: Any, **_: Any) -> Any:
        check("V2beta1RecurringRun", body)
        self.referred(body)
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise ApiError(400, "Max concurrency of a recurring run must be at leas 1 and at most 10.")
        cron = body["trigger"]["cron_schedule"]["cron"]
        if len(cron.split()) != 6:
            raise ApiError(400, f"Schedule cron is not a supported format. Error: Expected 5 to 6 fields, found {cron}")
        made = body | {"status": "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED"}
        return keep(self.recurring, "recurring_run_id", made, "V2beta1RecurringRun")

    def delete_recurring(self, recurring_id: str, **_: Any) -> Any:
        if self.recurring.pop(recurring_id, None) is None:
            raise ApiError(404, f"ResourceNotFoundError: Job {recurring_id} not found.")
        return {}

    ROUTES = (
        ("GET", r"/healthz", health),
        ("GET", r"/experiments", list_experiments),
        ("POST", r"/experiments", create_experiment),
        ("GET", r"/pipelines/names/(?P<name>[^/]+)", get_pipeline_by_name),
        ("POST", r"/pipelines", create_pipeline),
        ("POST", r"/pipelines/upload_version", upload_version),
        ("GET", r"/pipelines/(?P<pipeline_id>[^/]+)/versions", list_versions),
        ("GET", r"/pipelines/(?P<pipeline_id>[^/]+)/versions/(?P<version_id>[^/]+)", get_version),
        ("POST", r"/runs", create_run),
        ("GET", r"/runs", list_runs),
        ("GET", r"/runs/(?P<run_id>[^/:]+)", get_run),
        ("POST", r"/runs/(?P<run_id>[^/:]+):terminate", terminate_run),
        ("GET", r"/recurringruns", list_recurring),
        ("POST", r"/recurringruns", create_recurring),
        ("DELETE", r"/recurringruns/(?P<recurring_id>[^/:]+)", delete_recurring),
    )

    # What they have in common.

    def allowed(self, namespace: str) -> None:
        if self.multi_user and not namespace:
            raise ApiError(400, "Invalid input error: A namespace is required in multi-user mode")
        if self.multi_user and namespace not in self.namespaces:
            raise ApiError(
                403,
                f"PermissionDenied: User 'ada' is not authorized: {{Namespace:{namespace}}}",
            )

    def referred(self, body: dict[str, Any]) -> None:
        if body.get("experiment_id") not in self.experiments:
            raise ApiError(404, f"ResourceNotFoundError: Experiment {body.get('experiment_id')} not found.")
        if body["pipeline_version_reference"]["pipeline_version_id"] not in self.versions:
            raise ApiError(404, "ResourceNotFoundError: PipelineVersion not found.")

    def page(self, things: dict[str, Any], key: str, query: dict[str, str], model: str) -> Any:
        assert set(query) <= {"page_token", "page_size", "sort_by", "filter", "namespace", "experiment_id"}
        found = [each for each in things.values() if matches(each, query.get("filter", ""))]
        if query.get("sort_by") == "created_at desc":
            found.reverse()
        if wanted := query.get("experiment_id"):
            found = [each for each in found if each["experiment_id"] == wanted]
        size, start = min(int(query.get("page_size") or 20), self.page_size), int(query.get("page_token") or 0)
        answer: dict[str, Any] = {key: found[start : start + size], "total_size": len(found)}
        if start + size < len(found):
            answer["next_page_token"] = str(start + size)
        return checked(model, answer)

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> tuple[int, Any]:
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            raise ApiError(401, "Unauthenticated: Request header error: there is no user identity header.")
        if self.cookie and headers.get("cookie") != self.cookie:
            raise ApiError(401, "Unauthenticated: Request header error: there is no user identity header.")
        for verb, pattern, service in self.ROUTES:
            if verb == method and (found := re.fullmatch("/apis/v2beta1" + pattern, path)):
                sent: Any = form(headers, body) if path.endswith("upload_version") else json.loads(body or b"null")
                return 200, service(self, query=query, body=sent, **found.groupdict())
        raise ApiError(404, "Not Found")


def checked(model: str, value: Any) -> Any:
    """An answer, if it is of its model."""
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
    for each in json.loads(unquote_plus(filter_))["predicates"] if filter_ else ():
        assert set(each) == {"operation", "key", "string_value"}, each
        check("V2beta1PredicateOperation", each["operation"])
        # Fields that the API server can filter by; it refuses others.
        if each["key"] not in ("name", "display_name", "id", "run_id", "description"):
            raise ApiError(400, f"no support for filtering on unrecognized field {each['key']}")
        value = str(thing.get(each["key"], ""))
        right = each["string_value"] in value if each["operation"] == "IS_SUBSTRING" else each["string_value"] == value
        if not right:
            return False
    return True


def details(run_id: str, tasks: dict[str, str]) -> list[dict[str, Any]]:
    """Task details as the API server makes them from Argo's nodes: in no order, with drivers and executors beside."""
    found = []
    for turn, (key, state) in enumerate(tasks.items()):
        reused, state = state == "CACHED", "SUCCEEDED" if state == "CACHED" else state
        start = STARTED + timedelta(seconds=60 * turn)
        ended = state in ("SUCCEEDED", "FAILED", "CANCELED")
        seconds = 0 if reused else 45 + turn
        for name, its in (
            (key, state),
            (f"{key}-driver", "SUCCEEDED"),
            ("executor", "SKIPPED" if reused else state),
        ):
            found.append(
                {
                    "run_id": run_id,
                    "task_id": str(uuid.uuid4()),
                    "display_name": name,
                    "create_time": stamp(STARTED),
                    "start_time": stamp(start),
                    "end_time": stamp(start + timedelta(seconds=seconds)) if ended else NEVER,
                    "state": its,
                    "state_history": [{"update_time": stamp(start), "state": its}],
                    "child_tasks": [{"pod_name": f"mura-abcde-{turn}"}],
                }
            )
    root = {"run_id": run_id, "task_id": str(uuid.uuid4()), "display_name": "root", "state": "RUNNING"}
    return sorted([*found, root], key=lambda each: str(each["task_id"]))


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
def serve(api: KubeflowApi, certificate: tuple[Path, Path] | None = None) -> Iterator[KubeflowApi]:
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
            try:
                status, answer = api.answer(self.command, url.path, query, self.headers, body)
            except ApiError as error:
                status, answer = error.status, refusal(error, url.path)
            self.send(status, json.dumps(answer).encode(), "application/json", {})

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

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
    """The body of an error: of the gateway, or of the upload."""
    if path.endswith("upload_version"):
        return {"error_message": str(error), "error_details": str(error)}
    code = GRPC[error.status]
    inner = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": error.detail}
    return {"error": str(error), "code": code, "message": str(error), "details": [inner]}
