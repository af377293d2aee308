"""Whether an address of MLflow is one that can be used; if not, what was probably meant."""

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from components.base.errors import UsageError
from components.base.urls import without_credentials
from components.base.variables import TRACKING_URI

URI = TRACKING_URI
REGISTRY_URI = "MLFLOW_REGISTRY_URI"
OFF = "off"
"""In place of an address: there is no MLflow."""
WEB = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql")
SQLITE = "sqlite:///"
KINDS = "http://HOST:PORT, https://HOST, sqlite:///FILE and the databases postgresql, mysql and mssql"

_OFF_AS_WELL = ("no", "none", "false", "0", "disabled")
_HOST_AND_PORT = re.compile(r"(//)?(localhost|[\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:]+\]):\d+(/.*)?")
_SQLITE_FILE = re.compile(r"[^:]+\.(db|sqlite3?)")
# Pages and interfaces of a server below its address.
_BELOW = re.compile(r"(/(api|ajax-api)(/.*)?|/health|/version|[?#].*)$")


def current() -> str:
    """The tracking URI in use, after `server.locate`."""
    return os.environ[URI]


def shown() -> str:
    """The tracking URI, without credentials."""
    return without_credentials(current())


def is_off() -> bool:
    """Whether the environment says that there is no MLflow."""
    return os.environ.get(URI, "").strip().lower() == OFF


def is_web() -> bool:
    """Whether MLflow is a server, not a database."""
    return urlsplit(current()).scheme in WEB


def check(variable: str, text: str) -> None:
    """Refuse an address that MLflow would misunderstand, or understand too late.

    Args:
        variable: the environment variable that has it.
        text: the address.

    Raises:
        UsageError: says what was probably meant.
    """
    fault = _fault(text)
    if fault is None:
        return
    why, meant = fault
    advice = f"Set it to {without_credentials(meant)}" if meant else f"Expected one of {KINDS}"
    raise UsageError(f"{variable} is {without_credentials(text)!r}: {why}. {advice}.")


def _fault(text: str) -> tuple[str, str] | None:
    """What is wrong, and what was meant (empty if nobody can know); None if all is well."""
    bare = text.strip().strip("'\"`“”").strip()
    if bare != text:
        return "there are spaces or quotes around it", bare if _fault(bare) is None else ""
    if re.search(r"[\s\x00-\x1f]", text) and not text.startswith(SQLITE):
        return "there is a space in it", ""
    if _HOST_AND_PORT.fullmatch(text):
        return "it has no scheme", f"http://{text.lstrip('/')}"
    if slashes := re.fullmatch(r"(https?)/+(.+)", text):
        return "the colon after the scheme is missing", f"{slashes[1]}://{slashes[2]}"
    if ":" not in text:
        return _without_scheme(text)
    scheme, _, rest = text.partition(":")
    kind = scheme.lower().partition("+")[0]
    if kind in WEB:
        return _web(text, kind, rest)
    if kind == "sqlite":
        return _sqlite(text, rest)
    if kind == "postgres":
        return "SQLAlchemy calls that database postgresql", f"postgresql:{rest}"
    if kind == "file":
        return "a directory, and MLflow no longer keeps runs in directories", ""
    if kind not in DATABASES:
        return f"this pipeline knows no MLflow of the kind {scheme}", ""
    return _port_fault(text)


def _without_scheme(text: str) -> tuple[str, str]:
    if text.lower() in _OFF_AS_WELL:
        return "not an address", OFF
    if _SQLITE_FILE.fullmatch(text):
        return "it has no scheme", SQLITE + text
    if text.lower().startswith(("databricks", "uc")):
        return f"this pipeline knows no MLflow of the kind {text}", ""
    return "a directory, and MLflow no longer keeps runs in directories", ""


def _web(text: str, kind: str, rest: str) -> tuple[str, str] | None:
    host = rest.lstrip("/")
    if not rest.startswith("//") or rest.startswith("///"):
        return "a scheme is followed by two slashes", f"{kind}://{host}" if host else ""
    if below := _BELOW.search(host):
        return (
            "the address of a page or of an interface, not of the server",
            f"{kind}://{host[: below.start()]}".rstrip("/"),
        )
    fault = _port_fault(text)
    if fault is None and not urlsplit(text).hostname:
        return "it names no host", ""
    return fault


def _port_fault(text: str) -> tuple[str, str] | None:
    try:
        parts: SplitResult = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        return str(error), ""
    return None


def _sqlite(text: str, rest: str) -> tuple[str, str] | None:
    name = rest.lstrip("/").partition("?")[0]
    if name in ("", ":memory:"):
        return "a database in memory is lost when the command ends", f"{SQLITE}mlflow.db"
    if not text.startswith("sqlite:"):
        return "the scheme is sqlite, in small letters and without a driver", f"sqlite:{rest}"
    if not text.startswith(SQLITE):
        # Two slashes would be followed by a host; SQLite has none. One slash is followed by an absolute path.
        absolute = "/" if re.match(r"/[^/]", rest) and not text.lower().startswith("sqlite://") else ""
        return "three slashes stand before the file, four before an absolute path", f"{SQLITE}{absolute}{name}"
    if name.startswith("~"):
        return "SQLite does not know ~", f"{SQLITE}{Path(name).expanduser()}"
    if (path := Path(text.removeprefix(SQLITE).partition("?")[0])).is_dir():
        return "a directory, not a database", f"{SQLITE}{path / 'mlflow.db'}"
    return None
