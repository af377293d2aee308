"""The address of Kubeflow Pipelines and our login, from flags and the environment. Nothing is stored."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from components.base.errors import UsageError
from components.base.urls import without_credentials
from components.kubeflow import pod

# kfp's own names where it has them.
HOST = pod.API
UI = pod.UI
TOKEN_PATH = pod.TOKEN_PATH
NAMESPACE = "KF_PIPELINES_NAMESPACE"
TOKEN = "KF_PIPELINES_TOKEN"  # noqa: S105 - a name of a variable
COOKIE = "KF_PIPELINES_COOKIE"

AUTHENTICATIONS = ("none", "token", "service-account", "cookie")
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Access:
    """The address of Kubeflow Pipelines and our login."""

    host: str
    namespace: str | None = None
    authentication: str = "none"
    secret: str = field(default="", repr=False)
    """The token or the cookie."""
    token_path: Path | None = None
    ca: Path | None = None
    verify: bool = True
    seconds: float = 20.0

    @classmethod
    def of(
        cls,
        host: str | None,
        namespace: str | None,
        authentication: str | None,
        *,
        ca: Path | None = None,
        verify: bool = True,
        seconds: float = 20.0,
    ) -> "Access":
        """Complete what flags say by the environment.

        Raises:
            UsageError: no host is given, or it is not a URL; the token, the cookie or the certificate is missing.
        """
        host = (host or os.environ.get(HOST, "")).strip().rstrip("/")
        if not host:
            raise UsageError(
                f"Where is Kubeflow Pipelines? Name it with --host or {HOST}, such as http://localhost:8080 after "
                "`kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80`."
            )
        url = urlsplit(host)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UsageError(f"--host {without_credentials(host)}: expected http://... or https://...")
        if url.username or url.password or without_credentials(host) != host:
            raise UsageError(
                f"--host {without_credentials(host)}: a user name or password in the address is not sent. "
                f"Use {TOKEN} or {COOKIE}."
            )
        if ca is not None and not ca.is_file():
            raise UsageError(f"--ca {ca}: no such file; expected certificates in PEM.")
        kind = authentication or _authentication()
        token_path = pod.token_path()
        variable = {"token": TOKEN, "cookie": COOKIE}.get(kind)
        secret = os.environ.get(variable, "").strip() if variable else ""
        if variable and not secret:
            raise UsageError(f"--auth {kind}: {variable} is not set. Secrets are read from the environment only.")
        if kind == "service-account" and not token_path.is_file():
            raise UsageError(
                f"--auth service-account: no token at {token_path}. Mount a projected token with the audience "
                f"pipelines.kubeflow.org there, or name the file with {TOKEN_PATH}."
            )
        if not secret.isascii() or "\n" in secret:
            raise UsageError(f"{variable}: expected one line of ASCII.")
        inside = _POD_NAMESPACE.read_text(encoding="utf-8").strip() if _POD_NAMESPACE.is_file() else None
        namespace = namespace or os.environ.get(NAMESPACE) or inside
        return cls(host, namespace, kind, secret, token_path, ca, verify, seconds)


def _authentication() -> str:
    """The login that the environment has."""
    found = [kind for kind, variable in (("token", TOKEN), ("cookie", COOKIE)) if os.environ.get(variable)]
    if len(found) > 1:
        raise UsageError(f"Both {TOKEN} and {COOKIE} are set: choose one with --auth.")
    if found:
        return found[0]
    return "service-account" if os.environ.get(TOKEN_PATH) or pod.POD_TOKEN.is_file() else "none"
