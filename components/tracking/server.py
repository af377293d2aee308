"""Where MLflow is, whether it answers, and what its errors mean."""

import fcntl
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from components.base.errors import MuraError, ServiceUnreachable, UsageError, first_line
from components.base.urls import without_credentials

URI = "MLFLOW_TRACKING_URI"
LOCAL_DATABASE = "mlflow.db"
LOCAL_ARTIFACTS = "mlruns"
EXPERIMENT = "mura"
# Without this tag MLflow shows an experiment as one about language models, with an empty list of traces.
TRAINING_KIND = {"mlflow.experimentKind": "custom_model_development"}

SERVICE_ERRORS = (MlflowException, OSError, SQLAlchemyError, Boto3Error, BotoCoreError, ClientError)
"""What MLflow and the stores behind it raise: API, network, files, SQL, S3."""
_SQLITE = "sqlite:///"
_COPIES = (".dvc", "tmp", "exps")
_PROBE_SECONDS = 4
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_DENIED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
_WRONG = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", *_MISSING)


def connect() -> MlflowClient:
    """A client of the server that MLFLOW_TRACKING_URI names; of `mlflow.db` in this directory if it names none.

    Raises:
        ServiceUnreachable: it does not answer within about 15 s.
        UsageError: the URI is of a kind that cannot hold a registry.
    """
    # Some calls of MLflow read the environment, whatever client they come from.
    os.environ[URI] = _place(os.environ.get(URI) or f"{_SQLITE}{LOCAL_DATABASE}")
    if urlsplit(_uri()).scheme in ("", "file"):
        raise UsageError(
            f"{URI} is {_uri()}, a directory, and MLflow no longer keeps runs in directories. "
            f"Unset it to use sqlite:///{LOCAL_DATABASE}, or name a server (http://...)."
        )
    if reason := silence():
        raise ServiceUnreachable(
            f"MLflow at {shown_uri()} does not answer ({reason}). Start it, or set {URI} to its address. "
            f"Without {URI}, {LOCAL_DATABASE} in this directory is used."
        )
    with refusals("opening it"), _alone_at(_local_database()), warnings.catch_warnings():
        # MLflow's tables use a loader that SQLAlchemy 2.1 drops.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)
        # Both log in several lines what the exception says again.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        client = MlflowClient(tracking_uri=_uri())
        client.search_registered_models(max_results=1)  # the registry opens its store at the first request
        return client


def _place(uri: str) -> str:
    """The URI, with the whole path of a local database."""
    name = uri.removeprefix(_SQLITE)
    if name in (uri, "", ":memory:") or Path(name).is_absolute():
        return uri
    return f"{_SQLITE}{_workspace(Path.cwd()) / name}"


def silence() -> str | None:
    """Why the server does not answer. None if it answers, or if there is no server."""
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


def experiment_id(client: MlflowClient) -> str:
    """The experiment of MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME, else `mura`. It is created if missing.

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
    """Turn errors of MLflow, or of the store behind it, into one line.

    Args:
        doing: what was attempted, as in "while <doing>".

    Raises:
        UsageError: MLflow refuses the request; trying again does not help.
        ServiceUnreachable: MLflow did not answer, failed, or denied access.
    """
    try:
        yield
    except MuraError:
        raise
    except SERVICE_ERRORS as error:
        raise _told(error, doing) from error


def is_missing(error: Exception) -> bool:
    """Whether an error of MLflow says that something does not exist."""
    return getattr(error, "error_code", "") in _MISSING


def shown_uri() -> str:
    """The tracking URI, without credentials."""
    return without_credentials(_uri())


def _uri() -> str:
    return os.environ[URI]


def _http_silence() -> str | None:
    try:
        # One retry, for a lost packet. A proxy before the server may answer 5xx.
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
    except SERVICE_ERRORS as error:
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
        f"MLflow at {shown_uri()} failed while {doing}: {line} When it works again, run the same command again."
    )


def _one_line(error: Exception) -> str:
    line = first_line(error).replace(_uri(), shown_uri())
    return line if len(line) <= 240 else line[:239] + "…"


def _create_experiment(client: MlflowClient, name: str) -> Experiment:
    # A server knows where its files go. With a local database, MLflow would use the directory of each process.
    database = _local_database()
    folder = database and (database.parent / LOCAL_ARTIFACTS / quote(name, safe="")).as_uri()
    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=folder, tags=TRAINING_KIND))
    except MlflowException as error:
        # Another training has created it meanwhile.
        found = client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if found is None:
            raise
        return found


def _workspace(folder: Path) -> Path:
    """The directory of the workspace for one in a copy of it that DVC runs an experiment in; else the same.

    Copies are below .dvc/tmp/exps. DVC deletes them, and a database in them, when the experiment ends.
    """
    for copy in (folder, *folder.parents):
        if (copy / ".dvc").is_dir():
            around = [above.parents[2] for above in copy.parents if above.parts[-3:] == _COPIES]
            return around[-1] / folder.relative_to(copy) if around else folder
    return folder


def _local_database() -> Path | None:
    name = _uri().removeprefix(_SQLITE)
    return None if name in (_uri(), "", ":memory:") else Path(name).absolute()


@contextmanager
def _alone_at(database: Path | None) -> Iterator[None]:
    """Let one process at a time create the database: two at the same time would damage each other's tables."""
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
