"""What errors of MLflow, and of the stores behind it, mean."""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import mlflow
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from google.protobuf.json_format import ParseError
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from sqlalchemy.exc import SQLAlchemyError

from components.base import answers, patience
from components.base.errors import MuraError, ServiceRefused, ServiceUnreachable, UsageError, first_line
from components.tracking import address, local_database

P = ParamSpec("P")
T = TypeVar("T")

SERVICE_ERRORS = (
    MlflowException, OSError, SQLAlchemyError, sqlite3.Error, Boto3Error, BotoCoreError, ClientError, ImportError,
    json.JSONDecodeError, ParseError, RecursionError,
)  # fmt: skip
"""What MLflow and the stores behind it raise: API, network, files, SQL, S3, a missing driver, answers of another form.
"""
MULTIPART_DOWNLOAD = "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"
MULTIPART_UPLOAD = "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"
MOST_ARRIVING = 1 << 32
"""Bytes of the files of a model that are fetched, at most."""
OLDEST = 3
"""The first version of MLflow whose servers keep models as things of their own."""
_PATIENCE = 60.0  # with files, outside a pod, seconds
_SHORTEST = 10.0  # with files, if our patience is 0: a busy server needs some seconds for the first byte
_DENIED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
# What MLflow's basic-auth app answers to a user who may not do something.
_NOT_ALLOWED = "Permission denied"
# Files are sent by plain HTTP, whose errors have a number alone.
_BY_STATUS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
_DENIED_BY_DATABASE = ("authentication failed", "Access denied for user", "pg_hba.conf")
_NO_MLFLOW = ("ENDPOINT_NOT_FOUND", "not in a valid JSON format")
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
# A server calls it a bad request that its own database fails.
_OF_ITS_DATABASE = re.compile(r"\([\w.]+\.(errors\.\w+|\w*(Error|Exception))\)")
_WRONG = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", *_MISSING)


_DATABASE_FAULTS: dict[str, tuple[type[MuraError], str]] = {
    "readonly database": (
        UsageError,
        f"cannot be written to: the file or its directory is read-only for this user. Set {address.URI} to "
        "another, or change the permissions.",
    ),
    "file is not a database": (UsageError, "is another kind of file, or damaged. Name another file."),
    "disk image is malformed": (UsageError, "is damaged. Restore a copy, or move the file away."),
    "unable to open database file": (
        UsageError,
        "cannot be opened. Does its directory exist, and may this user write there?",
    ),
    "database is locked": (
        ServiceUnreachable,
        f"is locked by another process for more than {local_database.LOCK_SECONDS} s. End that process, then run the "
        "same command again.",
    ),
}
"""By the words of SQLite: whose fault it is, and what to say."""


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
        with answers.limited(answers.LARGE):
            yield
    except MuraError:
        raise
    except SERVICE_ERRORS as error:
        raise _told(error, doing) from error


def insist(doing: str, ask: Callable[[], T], seconds: float) -> T:
    """Ask MLflow, and again for so many seconds while it does not answer.

    Args:
        doing: what is attempted, as in "while <doing>".
        ask: may be called several times.
        seconds: 0 for once.

    Raises:
        UsageError: MLflow refuses the request; trying again does not help.
        ServiceUnreachable: MLflow did not answer, failed, or denied access.
    """

    def attempt() -> T:
        with refusals(doing):
            return ask()

    return patience.insist(attempt, seconds)


def patient(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function that may be called again wait for a server that does not answer: MURA_PATIENCE, or a pod's."""

    @wraps(function)
    def insisting(*args: P.args, **kwargs: P.kwargs) -> T:
        return patience.insist(lambda: function(*args, **kwargs), patience.seconds(elsewhere=0.0))

    return insisting


def transfer(doing: str, work: Callable[[], T], limit: float | None = None, arriving: Path | None = None) -> T:
    """Send or fetch files, and wait for them no longer than our patience.

    The libraries of the stores behind MLflow have limits of their own, or none.

    Args:
        doing: what is attempted, as in "while <doing>".
        work: sends or fetches.
        limit: seconds; by default our patience.
        arriving: the directory that fetched files arrive in. While they grow, the time begins anew.

    Raises:
        ServiceUnreachable: the time is over.
        TooMuch: more arrives than MOST_ARRIVING.
    """
    limit = file_seconds() if limit is None else limit
    try:
        return patience.within(limit, work, arriving, MOST_ARRIVING)
    except patience.Overdue as error:
        advice = (
            f" {MULTIPART_DOWNLOAD}=false and {MULTIPART_UPLOAD}=false send all files by the server, in place of "
            "addresses of the store that it offers: can this machine reach them?"
            if address.is_web() and "true" in _multipart()
            else " Does the server reach its artifact store?"
        )
        raise ServiceUnreachable(
            f"MLflow at {address.shown()} hangs while {doing}: nothing moved for {limit:.0f} s.{advice}"
        ) from error


def file_seconds() -> float:
    """How long to wait for files of which nothing comes."""
    return patience.seconds(_PATIENCE) or _SHORTEST


def _multipart() -> list[str]:
    return [os.environ.get(name, "").lower().replace("1", "true") for name in (MULTIPART_DOWNLOAD, MULTIPART_UPLOAD)]


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed when it is sent again."""
    told = _told(error, "asking")
    return isinstance(told, ServiceUnreachable) and not isinstance(told, ServiceRefused)


def is_of_its_database(error: Exception) -> bool:
    """Whether an error of MLflow says that the server's own database failed."""
    return bool(_OF_ITS_DATABASE.search(str(error)))


def is_missing(error: Exception) -> bool:
    """Whether an error of MLflow says that something does not exist."""
    return getattr(error, "error_code", "") in _MISSING


def is_hidden(error: Exception) -> bool:
    """Whether an error of MLflow says that something does not exist, or is not shown to this user.

    Of a run or a logged model, a server with users says the same in both cases: otherwise its answers would tell which
    ids exist. For reading alone: what may not be written is refused, not missing.
    """
    return is_missing(error) or (_code(error) == "PERMISSION_DENIED" and _NOT_ALLOWED in str(error))


def _code(error: Exception) -> str:
    status: int = getattr(getattr(error, "response", None), "status_code", 0)
    return getattr(error, "error_code", None) or _BY_STATUS.get(status, "")


def _told(error: Exception, doing: str) -> MuraError:
    code, line = _code(error), one_line(error)
    if isinstance(error, ImportError):
        return UsageError(
            f"{address.shown()} needs a package that is not installed ({line}). Install it, or set {address.URI}."
        )
    if wrong := answers.fault(error):
        return ServiceUnreachable(
            f"MLflow at {address.shown()} gave {wrong} while {doing}. Is {address.URI} right? If so, run the same "
            "command again."
        )
    if code == "PERMISSION_DENIED" and _NOT_ALLOWED in str(error):
        return ServiceRefused(
            f"MLflow at {address.shown()} does not let {_user()} do this: {doing}. Ask whoever administers the server "
            "for the permission EDIT, or set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user "
            "who has it (docs/security.md)."
        )
    if code in _DENIED:
        return ServiceRefused(
            f"MLflow at {address.shown()} denied access while {doing}: {line} Check MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN, and the server's --allowed-hosts."
        )
    if any(sign in str(error) for sign in _DENIED_BY_DATABASE):
        return ServiceRefused(f"MLflow's database {address.shown()} denied access while {doing}: {line}")
    if version := re.search(r"out-of-date database schema \(found version (\w+)", str(error)):
        return _other_schema(version[1])
    for sign, (kind, reason) in _DATABASE_FAULTS.items():
        if sign in str(error):
            return kind(f"MLflow's database {address.shown()} {reason}")
    if code in _NO_MLFLOW or any(sign in line for sign in _NO_MLFLOW):
        return ServiceRefused(
            f"What answers at {address.shown()} does not know how to do this: {doing}. It is an MLflow older than "
            f"{OLDEST}.0, or another program. Upgrade the server, or set {address.URI} to the address of another."
        )
    if code in _WRONG and not is_of_its_database(error):
        return UsageError(f"MLflow at {address.shown()} refused {doing}: {line}")
    return ServiceUnreachable(
        f"MLflow at {address.shown()} failed while {doing}: {line} When it works again, run the same command again."
    )


def _user() -> str:
    """The user that MLflow is asked as, for people."""
    name = get_default_host_creds(address.current()).username or urlsplit(address.current()).username
    return f"the user {name}" if name else "this user"


def _other_schema(found: str) -> MuraError:
    upgrade = f"back it up, then run: mlflow db upgrade {address.shown()}"
    known = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(known.glob(f"{found}_*.py")):
        return UsageError(f"{address.shown()} was made by an older version of MLflow. To go on with it, {upgrade}")
    return UsageError(
        f"{address.shown()} was made by a version of MLflow that {mlflow.__version__}, installed here, does not know. "
        f"If it is newer, install it, or set {address.URI} to another database. If it is older, {upgrade}"
    )


def one_line(error: Exception) -> str:
    """The line of an error that says what happened, without credentials."""
    text = str(error)
    # SQLAlchemy and MLflow put advice before the database's own words: `(sqlite3.OperationalError) disk is full`.
    words = re.search(r"\((?:sqlite3|psycopg2?|pymysql|MySQLdb|pyodbc)\S*\) ([^\n]+)", text)
    line = (words[1] if words else first_line(error)).replace(address.current(), address.shown())
    return line if len(line) <= 240 else line[:239] + "…"
