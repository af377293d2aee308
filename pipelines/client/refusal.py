"""What an error of Kubeflow Pipelines means: one line, and what to do."""

import re
from typing import Any
from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from components.base import answers, documents
from components.base.errors import MuraError, ServiceUnreachable, UsageError
from pipelines.client.access import COOKIE, NAMESPACE, TOKEN, Access

CONNECT_SECONDS = 5.0
# Shorter values of a cookie are words such as "true", not secrets.
_SECRET = 8
# Messages that come with status 500 or 400 although another one fits.
_UNKNOWN_USER = r"unauthenticated|authentication fail|no user identity|log ?in required"
_NOT_ALLOWED = r"permission ?denied|unauthorized access|not authorized|upload denied"
# The account that runs the pods. In the name of a user, "serviceaccount" follows "system:".
_ACCOUNT = r"(?<!system:)\bservice ?accounts?\b(?!:)"

LOG_IN = (
    f"Log in again and set a new secret: {TOKEN}=$(kubectl create token ...) or {COOKIE}='name=value' from the "
    "browser; docs/kubeflow.md says how."
)
WRONG_PLACE = (
    "Is this the address of the API? http://localhost:8080 behind a port-forward to svc/ml-pipeline-ui, or "
    "https://<kubeflow>/pipeline."
)


class Unavailable(ServiceUnreachable):
    """The server did not answer, or failed. The same request may succeed later."""


class Missing(UsageError):
    """Kubeflow Pipelines has no such thing."""


class Exists(UsageError):
    """Kubeflow Pipelines has such a thing already."""


def refused(error: Any, doing: str, access: Access) -> MuraError:
    """The error to raise for an answer with an error's status."""
    where, said = f"Kubeflow Pipelines at {access.host}", clean(_said(error), access)
    status = error.status
    if status == 401 or re.search(_UNKNOWN_USER, said, re.I):
        return ServiceUnreachable(f"{where} does not accept our login while {doing} (401). {LOG_IN}")
    if status in (400, 403) and re.search(_ACCOUNT, said, re.I):
        return ServiceUnreachable(
            f"{where} does not allow {doing} with this service account ({status}){_because(said)}. Its administrator "
            "has to list the account and let you use it; docs/kubeflow.md says how."
        )
    if status == 403 or re.search(_NOT_ALLOWED, said, re.I):
        whose = f"the namespace {access.namespace}" if access.namespace else "it"
        return ServiceUnreachable(
            f"{where} does not allow {doing} (403){_because(said)}. Ask its administrator for the "
            f"role kubeflow-edit in {whose}; a namespace that does not exist is refused in the same way."
        )
    if found := re.search(r'namespaces? \\?"([^"\\]+)\\?" not found', said):
        return Missing(f"{where} has no namespace {found[1]}: --namespace or {NAMESPACE} names another.")
    if status == 404:
        if not _is_api_error(error):
            return ServiceUnreachable(f"{access.host} has nothing at /apis/v2beta1 (404). {WRONG_PLACE}")
        return Missing(f"{where} found nothing while {doing} (404){_because(said)}.")
    if status == 409 or re.search(r"already exist", said, re.I):
        return Exists(f"{where} refused {doing}: it exists already (409){_because(said)}.")
    if status == 400 and "HTTP request to an HTTPS server" in said:
        return ServiceUnreachable(f"{access.host} speaks TLS: write https:// instead of http://.")
    if status and 400 <= status < 500 and status not in (408, 429):
        return UsageError(f"{where} refused {doing} ({status}){_because(said)}.")
    if status in (408, 429, 502, 503, 504):
        return Unavailable(f"{where} is not ready while {doing} ({status}){_because(said)}. Try again later.")
    if status == 500:
        return Unavailable(
            f"{where} failed while {doing} (500){_because(said)}. Its log: "
            "kubectl -n kubeflow logs deployment/ml-pipeline."
        )
    return ServiceUnreachable(f"{where} answered {status or 'nothing'} while {doing}{_because(said)}. {WRONG_PLACE}")


def unreachable(error: Exception, doing: str, access: Access) -> str:
    """The message for a request without an answer."""
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    url, text = urlsplit(access.host), clean(str(reason), access)
    if isinstance(reason, SSLError):
        return f"{access.host}: {_tls(text)}"
    if wrong := answers.fault(error):
        return f"Kubeflow Pipelines at {access.host} gave {wrong} while {doing}. {WRONG_PLACE}"
    lost = f"Kubeflow Pipelines at {access.host} cannot be reached while {doing}"
    if isinstance(reason, NameResolutionError):
        return f"{lost}: the name {url.hostname} is not known. Check the spelling and the VPN."
    # Before ConnectTimeoutError, which is its base class in urllib3.
    if isinstance(reason, NewConnectionError):
        words = "connection refused" if "refused" in text else text.rpartition(": ")[2]
        return (
            f"{lost}: {words}. Check the port. Does `kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80` "
            "still run?"
        )
    if isinstance(reason, ConnectTimeoutError):
        return f"{lost}: no connection in {CONNECT_SECONDS:g} s. Check the firewall and the VPN."
    if isinstance(reason, ReadTimeoutError):
        times = ", asked four times" if isinstance(error, MaxRetryError) else ""
        return f"{lost}: no answer in {access.seconds:g} s{times}. Try again, or wait longer with --timeout."
    return f"Kubeflow Pipelines at {access.host} closed the connection while {doing} ({text}). Try again later."


def clean(text: str, access: Access) -> str:
    """The text in one line, without secrets."""
    secrets = [access.secret]
    if access.authentication == "cookie":
        values = [pair.partition("=")[2].strip() for pair in access.secret.split(";")]
        secrets += [value for value in values if len(value) >= _SECRET]
    if access.token_path is not None and access.token_path.is_file():
        secrets.append(access.token_path.read_text(encoding="utf-8").strip())
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    line = " ".join(text.split())
    return line if len(line) <= 240 else line[:239] + "…"


def _said(error: Any) -> str:
    """The server's message: the first line of the innermost one."""
    try:
        body = documents.json_of(error.body)
    except (TypeError, ValueError):
        text = re.sub(r"<[^>]*>", " ", error.body or "") if isinstance(error.body, str) else ""
        return text or str(error.reason or "")
    if not isinstance(body, dict):
        return str(error.reason or "")
    inner = [
        each.get("error_message") or each.get("message") for each in body.get("details") or () if isinstance(each, dict)
    ]
    whole = str(body.get("message") or body.get("error_message") or body.get("error") or error.reason or "")
    # "Internal Server Error" says less than the whole chain of messages.
    said = next((each for each in inner if each and each != "Internal Server Error"), whole)
    return str(said).splitlines()[0] if str(said).strip() else str(error.reason or "")


def _is_api_error(error: Any) -> bool:
    try:
        body = documents.json_of(error.body)
    except (TypeError, ValueError):
        return False
    # The gateway answers "Not Found" for an address that it does not know.
    return isinstance(body, dict) and body.get("message") != "Not Found"


def _because(said: str) -> str:
    return f": {said.strip().rstrip('.')}" if said.strip() else ""


def _tls(text: str) -> str:
    """The message for a failed handshake."""
    if "WRONG_VERSION_NUMBER" in text or "wrong version number" in text or "record layer failure" in text:
        return "speaks plain HTTP: write http:// instead of https://."
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        found = re.search(r"verify failed: ([^(]+)", text)
        why = found[1].strip().rstrip(".") if found else "unknown"
        return (
            f"its certificate is not trusted ({why}). Name the authority that signed it with --ca FILE; "
            "--insecure does not check it: your token goes to whoever answers."
        )
    return f"the TLS handshake failed ({text})."
