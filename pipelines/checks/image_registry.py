"""Whether an image is in its registry: one HEAD request for its manifest."""

import base64
import os
import re
from pathlib import Path
from typing import NamedTuple

import requests

from components.base import answers, documents
from components.base.errors import UsageError

_KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_SECONDS = (5, 15)
# Until the last byte of an answer, seconds.
_LONGEST = 60
# The host of Docker's own registry, which names of images leave out.
_HUB = "registry-1.docker.io"


class Reference(NamedTuple):
    """An image's registry, name, and tag or digest."""

    registry: str
    name: str
    tag: str

    @classmethod
    def of(cls, image: str) -> "Reference":
        """Parse `registry:port/name:tag` or `registry/name@sha256:...` as container engines do."""
        rest, _, digest = image.partition("@")
        head, _, tail = rest.rpartition("/")
        name, _, tag = tail.partition(":")
        first, _, inner = head.partition("/")
        if head and ("." in first or ":" in first or first == "localhost"):
            return cls(first, f"{inner}/{name}".lstrip("/"), digest or tag or "latest")
        return cls(_HUB, f"{head or 'library'}/{name}", digest or tag or "latest")


class Image(NamedTuple):
    """The registry's answer for an image."""

    there: bool | None
    """None: not known."""
    said: str


def look(image: str) -> Image:
    """Ask an image's registry whether it has it.

    The request is sent from here, not from the cluster. A registry that only nodes reach, and an image that was loaded
    onto nodes, cannot be checked.
    """
    at = Reference.of(image)
    if at.registry == "localhost":
        return Image(None, f"{image} cannot be checked: `localhost` means an image loaded onto the nodes")
    scheme = "http" if re.match(r"(localhost|127\.0\.0\.1|\[::1\])(:|$)", at.registry) else "https"
    url = f"{scheme}://{at.registry}/v2/{at.name}/manifests/{at.tag}"
    headers = {"Accept": ", ".join(_KINDS)}
    with answers.limited(seconds=_LONGEST), requests.Session() as session:
        session.trust_env = True
        try:
            answer = session.head(url, headers=headers, timeout=_SECONDS, allow_redirects=True)
            if answer.status_code == 401:
                granted = _granted(session, answer.headers.get("www-authenticate", ""), at)
                if granted:
                    answer = session.head(
                        url, headers=headers | {"Authorization": granted}, timeout=_SECONDS, allow_redirects=True
                    )
        except (requests.RequestException, ValueError, RecursionError) as error:
            return Image(None, f"{image} cannot be checked: {at.registry} does not answer ({_reason(error)})")
    if answer.status_code == 200:
        return Image(True, f"{image} is there")
    if answer.status_code == 404:
        return Image(False, f"{image} is not in the registry")
    if answer.status_code in (401, 403):
        return Image(None, f"{image} cannot be checked: {at.registry} wants a login ({answer.status_code})")
    return Image(None, f"{image} cannot be checked: {at.registry} answered {answer.status_code}")


def demand(images: tuple[str, ...]) -> list[str]:
    """Check that each image exists. Returns a line for each.

    Raises:
        UsageError: a registry does not have its image.
    """
    found = [look(image) for image in images]
    for each in found:
        if each.there is False:
            raise UsageError(
                f"{each.said}. Build and push it: `make image`, then `podman push`; or see `kubeflow.image`."
            )
    return [each.said for each in found]


def _granted(session: requests.Session, challenge: str, at: Reference) -> str | None:
    """The Authorization header for a registry's challenge. A token is requested with our login, if there is one."""
    login = _login(at.registry)
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() == "basic":
        return f"Basic {login}" if login else None
    said = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    if scheme.lower() != "bearer" or "realm" not in said:
        return None
    answer = session.get(
        said["realm"],
        params={"service": said.get("service", ""), "scope": said.get("scope", f"repository:{at.name}:pull")},
        headers={"Authorization": f"Basic {login}"} if login else {},
        timeout=_SECONDS,
    )
    token = answer.json() if answer.ok else {}
    value = (token.get("token") or token.get("access_token")) if isinstance(token, dict) else None
    return f"Bearer {value}" if value else None


def _login(registry: str) -> str | None:
    """The login that `docker login` or `podman login` stored."""
    home = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    named = [
        os.environ.get("REGISTRY_AUTH_FILE"),
        f"{os.environ.get('XDG_RUNTIME_DIR', '')}/containers/auth.json",
        home,
    ]
    for path in (Path(each) for each in named if each):
        try:
            found = documents.json_of(path.read_text(encoding="utf-8"))["auths"][registry]["auth"]
            base64.b64decode(found, validate=True)
            return str(found)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _reason(error: Exception) -> str:
    if wrong := answers.fault(error):
        return wrong
    text = str(error)
    for sign, reason in (
        ("refused", "connection refused"),
        ("resolve", "unknown name"),
        ("timed out", "no answer in time"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
    ):
        if sign in text:
            return reason
    return type(error).__name__
