"""Where MLflow is, and whether it answers."""

import logging
import os
import re
import socket
import time
import warnings
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine

from components.base import answers
from components.base import patience as waiting
from components.base.errors import ServiceRefused, ServiceUnreachable, UsageError, first_line
from components.kubeflow import pod
from components.tracking import address, failures, local_database, mlflow_settings

logger = logging.getLogger(__name__)

PATIENCE = waiting.PATIENCE
patience = waiting.seconds
EXPERIMENT = "mura"
# Without this tag MLflow shows an experiment as one about language models, with an empty list of traces.
TRAINING_KIND = {"mlflow.experimentKind": "custom_model_development"}
DVC_STAGE = "DVC_STAGE"
"""Set by DVC for what it runs: there, artifacts and database lie in one workspace."""
PLACES = "mura-places"
"""The config map of the runs' namespace, as docs and manifests call it."""
_PROBE_SECONDS = 4
_LONGEST_PROBE = 30.0  # until the last byte of its answer, seconds
_PAUSE = 2.0  # seconds between two probes
_opened: list[tuple[str | None, ...]] = []  # the server that was opened last, and the login: once is enough
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def connect() -> MlflowClient:
    """A client of the server that MLFLOW_TRACKING_URI names; of `mlflow.db` in this directory if it names none.

    A pod waits for it, and so does who sets MURA_PATIENCE.

    Raises:
        ServiceUnreachable: it does not answer, or is too old.
        UsageError: the URI is of a kind that cannot hold a registry, or says that there is none, or another setting is
            wrong.
    """
    require()
    patient = patience(elsewhere=0.0)
    if reason := wait(patient):
        raise ServiceUnreachable(
            f"MLflow at {address.shown()} does not answer ({reason}). Start it, or set {address.URI} to its "
            f"address. Without {address.URI}, {local_database.DEFAULT} in this directory is used."
        )
    return waiting.insist(_open, patient)


def _open() -> MlflowClient:
    login = get_default_host_creds(address.current())
    place = (address.current(), os.environ.get(address.REGISTRY_URI), login.username, login.password, login.token)
    if _opened == [place]:
        return MlflowClient(tracking_uri=place[0], registry_uri=place[1] or place[0])
    database = local_database.path_of(address.current())
    with failures.refusals("opening it"), local_database.alone_at(database), warnings.catch_warnings():
        # MLflow's tables use a loader that SQLAlchemy 2.1 drops.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)
        if database is not None:
            local_database.prepare(database)
        elif address.is_web():
            _check_version()
        else:
            # MLflow repeats a refused login for minutes.
            create_engine(address.current()).connect().close()
        client = MlflowClient(
            tracking_uri=address.current(), registry_uri=os.environ.get(address.REGISTRY_URI) or address.current()
        )
        # The registry opens its store at the first request. This one finds nothing; a model would be read with all its
        # versions.
        client.search_registered_models("name = ''", max_results=1)
        if address.is_web():
            _opened[:] = [place]
        return client


def require(what: str = "this") -> None:
    """Find out where MLflow is, as `locate` does, and check that there is one.

    Args:
        what: needs it, for the message.

    Raises:
        UsageError: MLFLOW_TRACKING_URI is `off`, or an address or another setting cannot be used.
    """
    locate()
    if address.is_off():
        raise UsageError(
            f"{address.URI} is {address.OFF}, and {what} needs MLflow's registry; only train and evaluate do "
            "without. Set it to the server's address."
        )


def locate() -> None:
    """Find out where MLflow is, check the settings, and set up its libraries. No request is sent.

    Raises:
        UsageError: an address or another setting cannot be used, or this is a pod and nobody said where MLflow is.
    """
    mlflow_settings.apply()
    _quieten()
    _check_values()
    if address.is_off():
        return
    for variable in (address.URI, address.REGISTRY_URI):
        if value := os.environ.get(variable):
            address.check(variable, value)
    if not os.environ.get(address.URI) and pod.inside() and not os.environ.get(DVC_STAGE):
        raise UsageError(
            f"{address.URI} is not set, and this is a pod: runs and models would be lost with its disk. Set it to the "
            f"address of a server, as a rule in the config map {PLACES}; to {address.OFF} to train without MLflow; or "
            f"to {address.SQLITE}/DIRECTORY/{local_database.DEFAULT} on a volume that stays."
        )
    # Some calls of MLflow read the environment, whatever client they come from.
    uri = os.environ.get(address.URI) or f"{address.SQLITE}{local_database.DEFAULT}"
    os.environ[address.URI] = local_database.with_whole_path(uri)
    if not event.contains(Engine, "before_cursor_execute", _wait_longer):
        event.listen(Engine, "before_cursor_execute", _wait_longer, retval=True)


def wait(seconds: float) -> str | None:
    """Wait for the server to answer. Return why it does not, or None."""
    deadline, told = time.monotonic() + seconds, False
    while (reason := silence()) and (left := deadline - time.monotonic()) > 0:
        if not told:
            logger.info("MLflow at %s does not answer (%s): waiting up to %.0f s", address.shown(), reason, seconds)
            told = True
        time.sleep(min(_PAUSE, left))
    return reason


def silence() -> str | None:
    """Why the server does not answer. None if it answers, or if there is no server."""
    url = urlsplit(address.current())
    if url.scheme in ("http", "https"):
        return _http_silence()
    port = url.port or _PORTS.get(url.scheme.split("+")[0])
    if not (url.hostname and port):
        return None
    try:
        socket.create_connection((url.hostname, port), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        return failures.one_line(error)
    return None


def experiment_id(client: MlflowClient) -> str:
    """The experiment of MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME, else `mura`. It is created if missing.

    Raises:
        UsageError: it has been deleted.
        ServiceUnreachable: MLflow does not answer.
    """
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    with failures.refusals(f"looking for the experiment {given or name}"):
        experiment = _experiment_of(client, given) if given else client.get_experiment_by_name(name)
        if experiment is None:
            experiment = _create_experiment(client, name)
    if experiment.lifecycle_stage != "active":
        raise UsageError(
            f"The MLflow experiment {experiment.name} has been deleted. Restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}) or set MLFLOW_EXPERIMENT_"
            f"{'ID' if given else 'NAME'} to another."
        )
    return str(experiment.experiment_id)


def request(path: str, **options: Any) -> Any:
    """Send a GET to the server, with its credentials. The answer says little."""
    with answers.limited(seconds=_LONGEST_PROBE):
        return http_request(get_default_host_creds(address.current().rstrip("/")), path, "GET", **options)


def _quieten() -> None:
    """Mute loggers that say in several lines, or once for each attempt, what the exception says again."""
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    for name in ("mlflow.store.db.utils", "mlflow.store.artifact.http_artifact_repo", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _check_values() -> None:
    """Check that MLflow can read its settings: it would do so at the first use, with the error of a program."""
    patience(elsewhere=0.0)
    for setting in vars(mlflow.environment_variables).values():
        name = getattr(setting, "name", None)
        if isinstance(name, str) and name.startswith("MLFLOW_") and name in os.environ:
            try:
                setting.get()
            except ValueError as error:
                raise UsageError(f"{name} is {os.environ[name]!r}: {first_line(error)}.") from error
    if not 0 <= (retries := MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) < 10:
        raise UsageError(f"{MLFLOW_HTTP_REQUEST_MAX_RETRIES.name} is {retries}: MLflow takes 0 to 9.")
    if (seconds := MLFLOW_HTTP_REQUEST_TIMEOUT.get()) <= 0:
        raise UsageError(f"{MLFLOW_HTTP_REQUEST_TIMEOUT.name} is {seconds}: expected seconds, more than 0.")


def _wait_longer(*arguments: Any) -> tuple[str, Any]:
    """Let SQLite wait for another process that writes; MLflow sets 20 s at the beginning of each session."""
    _, _, statement, parameters, *_ = arguments
    if statement.startswith("PRAGMA busy_timeout"):
        statement = f"PRAGMA busy_timeout = {local_database.LOCK_SECONDS * 1000}"
    return statement, parameters


def _check_version() -> None:
    """Refuse a server without logged models. A proxy may hide the version; then the requests tell."""
    answer = request("/version", raise_on_status=False, max_retries=1, timeout=_PROBE_SECONDS)
    found = re.fullmatch(r"(\d+)\.\d+\S*", answer.text.strip()) if answer.status_code == 200 else None
    if found and int(found[1]) < failures.OLDEST:
        raise ServiceRefused(
            f"MLflow at {address.shown()} is version {found[0]}, which does not keep models as this pipeline "
            f"needs them. Upgrade the server to {failures.OLDEST}.0 or later, or set {address.URI} to another."
        )


def _experiment_of(client: MlflowClient, given: str) -> Experiment:
    try:
        return client.get_experiment(given)
    except MlflowException as error:
        # Databases take numbers only.
        if not (failures.is_missing(error) or error.error_code == "INVALID_PARAMETER_VALUE"):
            raise
        raise UsageError(
            f"MLFLOW_EXPERIMENT_ID is {given}, and MLflow at {address.shown()} has no such experiment. Unset it, "
            f"or set {address.URI} to the server of that experiment."
        ) from error


def _http_silence() -> str | None:
    try:
        # One retry, for a lost packet. A proxy before the server may answer 5xx.
        answer = request(
            "/health",
            max_retries=1,
            backoff_factor=1,
            timeout=_PROBE_SECONDS,
            raise_on_status=False,
            respect_retry_after_header=False,
        )
    except failures.SERVICE_ERRORS as error:
        return _reason(error)
    return f"HTTP {answer.status_code}" if answer.status_code >= 500 else None


def _reason(error: Exception) -> str:
    if wrong := answers.fault(error):
        return wrong
    text = str(error)
    for sign, reason in (
        ("Connection refused", "connection refused"),
        ("timeout", "no answer in time"),
        ("timed out", "no answer in time"),
        ("resolve", "unknown host"),
    ):
        if sign in text:
            return reason
    return failures.one_line(error)


def _create_experiment(client: MlflowClient, name: str) -> Experiment:
    # A server knows where its files go.
    database = local_database.path_of(address.current())
    folder = database and local_database.folder(database, name)
    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=folder, tags=TRAINING_KIND))
    except MlflowException as error:
        # Another training has created it meanwhile.
        found = client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if found is None:
            raise
        return found
