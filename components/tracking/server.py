"""Where MLflow is, whether it answers, and what it means when it says no."""

import fcntl
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from components.base.errors import MuraError, ServiceUnreachable, UsageError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

URI = "MLFLOW_TRACKING_URI"
LOCAL_DATABASE = "mlflow.db"
LOCAL_ARTIFACTS = "mlruns"
EXPERIMENT = "mura"
# Without it MLflow's pages take the experiment for one about language models, and open on an empty list of traces.
TRAINING_KIND = {"mlflow.experimentKind": "custom_model_development"}

# What MLflow is told unless its user has told it otherwise.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Else saving a model asks a package index whether the versions exist that are installed.
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    # Its own 7 retries of 120 s take more than three minutes to say that a connection was refused.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_PROBE_SECONDS = 4
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_DENIED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
_WRONG = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", *_MISSING)


def connect() -> "MlflowClient":
    """A client of the server that MLFLOW_TRACKING_URI names; of `mlflow.db` in this directory if it names none.

    Raises:
        ServiceUnreachable: it does not answer; told within about 15 s.
        UsageError: the URI is of a kind that cannot hold a registry.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # From here on also where MLflow itself looks, which some of its calls do whatever client they come from.
    if not os.environ.get(URI):
        os.environ[URI] = f"sqlite:///{Path(LOCAL_DATABASE).absolute()}"
    if urlsplit(_uri()).scheme in ("", "file"):
        raise UsageError(
            f"{URI} is {_uri()}, a directory, and MLflow no longer keeps runs in directories. "
            f"Unset it to use sqlite:///{LOCAL_DATABASE}, or name a server (http://...)."
        )
    if reason := silence():
        raise ServiceUnreachable(
            f"MLflow at {shown_uri()} does not answer ({reason}). Start it, or set {URI} to where it is; "
            f"unset, {LOCAL_DATABASE} in this directory is used."
        )
    with refusals("opening it"), _alone_at(_local_database()), warnings.catch_warnings():
        # MLflow's tables use a loader that SQLAlchemy 2.1 is about to drop.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)
        from mlflow import MlflowClient

        # Both tell over several lines what is told again in the exception.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        client = MlflowClient(tracking_uri=_uri())
        client.search_registered_models(max_results=1)  # the registry opens its store at the first question
        return client


def silence() -> str | None:
    """Why the server does not answer; None if it does, or if there is no server to ask."""
    url = urlsplit(_uri())
    if url.scheme in ("http", "https"):
        return _http_silence()
    port = url.port or _PORTS.get(url.scheme.split("+")[0])
    if not (url.hostname and port) or url.scheme.startswith("databricks"):
        return None
    try:
        socket.create_connection((url.hostname, port), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        return _one_line(error)
    return None


def experiment_id(client: "MlflowClient") -> str:
    """The experiment that MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME names, else `mura`; made if need be.

    Raises:
        UsageError: it has been deleted.
        ServiceUnreachable: MLflow does not answer.
    """
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    with refusals(f"looking for the experiment {name}"):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            experiment = _create_experiment(client, name)
    if experiment.lifecycle_stage != "active":
        raise UsageError(
            f"The MLflow experiment {name} has been deleted. Restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}) or set MLFLOW_EXPERIMENT_NAME to another."
        )
    return str(experiment.experiment_id)


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Tell in one line what goes wrong between us and MLflow, or the store behind it.

    Args:
        doing: what was attempted, as in "while <doing>".

    Raises:
        UsageError: MLflow will not do this, however often it is asked.
        ServiceUnreachable: it did not answer, or not as a working server does.
    """
    try:
        yield
    except MuraError:
        raise
    except service_errors() as error:
        raise _told(error, doing) from error


def service_errors() -> tuple[type[Exception], ...]:
    """What MLflow and the stores behind it raise: API, network, files, SQL, S3."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, OSError, SQLAlchemyError, Boto3Error, BotoCoreError, ClientError


def is_missing(error: Exception) -> bool:
    """Whether MLflow said that there is no such thing."""
    return getattr(error, "error_code", "") in _MISSING


def shown_uri() -> str:
    """The tracking URI without what it may hold of credentials."""
    url = urlsplit(_uri())
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl() if "@" in url.netloc else _uri()


def _uri() -> str:
    return os.environ[URI]


def _http_silence() -> str | None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        # A second try, for the packet that got lost. Only what stands before the server answers 5xx here.
        answer = http_request(
            get_default_host_creds(_uri().rstrip("/")),
            "/health",
            "GET",
            max_retries=1,
            backoff_factor=1,
            timeout=_PROBE_SECONDS,
            raise_on_status=False,
            respect_retry_after_header=False,
        )
    except service_errors() as error:
        return _reason(error)
    return f"HTTP {answer.status_code}" if answer.status_code >= 500 else None


def _reason(error: Exception) -> str:
    text = str(error)
    for sign, reason in (
        ("Connection refused", "connection refused"),
        ("timeout", "no answer in time"),
        ("timed out", "no answer in time"),
        ("resolve", "unknown host"),
    ):
        if sign in text:
            return reason
    return _one_line(error)


def _told(error: Exception, doing: str) -> MuraError:
    code, line = getattr(error, "error_code", ""), _one_line(error)
    if code in _DENIED:
        return ServiceUnreachable(
            f"MLflow at {shown_uri()} denied access while {doing}: {line} Check MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN, and the server's --allowed-hosts."
        )
    if "out-of-date database schema" in line:
        return UsageError(
            f"{shown_uri()} was made by another version of MLflow. "
            f"Back it up, then run: mlflow db upgrade {shown_uri()}"
        )
    if code in _WRONG:
        return UsageError(f"MLflow at {shown_uri()} refused {doing}: {line}")
    return ServiceUnreachable(
        f"MLflow at {shown_uri()} failed while {doing}: {line} Once it answers again, run the same command again."
    )


def _one_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = line.replace(_uri(), shown_uri())
    return line if len(line) <= 240 else line[:239] + "…"


def _create_experiment(client: "MlflowClient", name: str) -> "Experiment":
    from mlflow.exceptions import MlflowException

    # A server decides itself where files go; a local database would put them where each process happens to stand.
    database = _local_database()
    folder = database and (database.parent / LOCAL_ARTIFACTS / quote(name, safe="")).as_uri()
    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=folder, tags=TRAINING_KIND))
    except MlflowException as error:
        # Another training was faster.
        found = client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if found is None:
            raise
        return found


def _local_database() -> Path | None:
    name = _uri().removeprefix("sqlite:///")
    return None if name in (_uri(), "", ":memory:") else Path(name).absolute()


@contextmanager
def _alone_at(database: Path | None) -> Iterator[None]:
    """Let one process at a time make a database: two that start together would spoil each other's tables."""
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(database.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
