"""Kubeflow Pipelines, asked through kfp's client."""

import json
import logging
import os
import re
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

from components.base.errors import MuraError, ServiceUnreachable, UsageError
from pipelines.access import NAMESPACE, UI, Access
from pipelines.door import needs_kfp
from pipelines.refusal import CONNECT_SECONDS, LOG_IN, WRONG_PLACE, Unavailable, clean, refused, unreachable

if TYPE_CHECKING:
    import kfp

# A server that does not know a field of what the pipeline says to Kubernetes (the last ones came with 2.17: how long a
# run may take, and its pods stay) ignores all that it says: steps would run without secrets, limits and user.
OLDEST_SERVER = (2, 17)

_PAGE = 100
# Any name but kfp's default keeps kfp.Client from asking for the server's health five times while it is made, with a
# traceback for each; our requests name the namespace themselves.
_NOT_ASKED = "mura"


class Server(NamedTuple):
    """What the server says of itself."""

    version: str
    """Such as 2.17.0; `unknown` where the build does not say."""
    multi_user: bool

    @property
    def numbers(self) -> tuple[int, int] | None:
        """Major and minor; None if the version does not say them."""
        found = re.match(r"v?(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def too_old(self) -> bool:
        """Whether it is known to be older than what we need."""
        return self.numbers is not None and self.numbers < OLDEST_SERVER


class Kubeflow:
    """Kubeflow Pipelines through kfp's client: every request has a time limit, every refusal one line."""

    def __init__(self, access: Access) -> None:
        """Make the client; nothing is asked yet.

        Raises:
            UsageError: kfp is not installed.
        """
        self.access = access
        self.client = _client(access)
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """The server's version and kind; the first question asked, which shows whether it is there at all."""
        if self._server is None:
            function = self.client.healthzs.healthz_service_get_healthz
            self.call("asking for its version", function)
            # kfp's model of the answer knows neither the version nor what the user interface adds.
            said = json.loads(_api(function).last_response.data)
            said = said if isinstance(said, dict) else {}
            if said.get("apiServerReady") is False:
                raise Unavailable(
                    f"{self.access.host} is Kubeflow's user interface, and the API behind it does not answer it. "
                    "Try again in a while, or look at it: kubectl -n kubeflow get pods -l app=ml-pipeline."
                )
            multi_user = said.get("multi_user", said.get("apiServerMultiUser"))
            if not isinstance(multi_user, bool):
                raise ServiceUnreachable(
                    f"{self.access.host} answers, but not as Kubeflow Pipelines' API does: expected `multi_user` in "
                    f"{self.access.host}/apis/v2beta1/healthz. {WRONG_PLACE}"
                )
            version = said.get("tag_name") or said.get("apiServerTagName") or "unknown"
            self._server = Server(str(version), multi_user)
        return self._server

    @property
    def namespace(self) -> str:
        """The namespace to name in requests; none where everything is in one.

        Raises:
            UsageError: the server has a namespace for each user, and none was named.
        """
        if not self.server.multi_user:
            return ""
        if not self.access.namespace:
            raise UsageError(
                f"Kubeflow Pipelines at {self.access.host} has a namespace for each user: name yours with "
                f"--namespace or {NAMESPACE}."
            )
        return self.access.namespace

    def new_enough(self) -> "Kubeflow":
        """The same, once the server is seen to understand all of a pipeline.

        Raises:
            UsageError: it is older than what we need.
        """
        if self.server.too_old:
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise UsageError(
                f"Kubeflow Pipelines at {self.access.host} is version {self.server.version}: {oldest} or newer is "
                "needed. It would run the steps without their secrets, limits and user."
            )
        return self

    def call(self, doing: str, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Ask kfp's client something.

        Args:
            doing: what is attempted, as in "while <doing>".
            function: of one of the client's services.
            arguments: what the function takes.
            more: the same, by name.

        Raises:
            Missing: the server has no such thing.
            Exists: the server has such a thing already.
            UsageError: the server refused the request as it is.
            Unavailable: the server did not answer, or is in trouble.
            ServiceUnreachable: it will not answer us, or it is not Kubeflow Pipelines.
        """
        with self._refusals(doing):
            answer = function(*arguments, _request_timeout=(CONNECT_SECONDS, self.access.seconds), **more)
            response = _api(function).last_response
            kind = response.getheader("content-type", "")
            if "json" not in kind:
                page = "a page to log in" if "html" in kind else f"content of type {kind or 'unknown'}"
                raise ServiceUnreachable(
                    f"{self.access.host} answered with {page} instead of JSON while {doing}. "
                    + (f"{LOG_IN} {WRONG_PLACE}" if "html" in kind else WRONG_PLACE)
                )
        return answer

    def pages(self, doing: str, function: Callable[..., Any], key: str, **more: Any) -> Iterator[Any]:
        """All things of a list, page by page."""
        token = ""
        while True:
            answer = self.call(doing, function, page_token=token, page_size=_PAGE, **more)
            yield from getattr(answer, key) or ()
            token = answer.next_page_token or ""
            if not token:
                return

    def run_link(self, run_id: str) -> str:
        """Where a browser shows a run."""
        return f"{os.environ.get(UI, self.access.host).rstrip('/')}/#/runs/details/{run_id}"

    @contextmanager
    def _refusals(self, doing: str) -> Iterator[None]:
        import urllib3
        from kfp_server_api.exceptions import ApiException, OpenApiException

        try:
            yield
        except MuraError:
            raise
        except ApiException as error:
            told = refused(error, doing, self.access)
            # A traceback prints headers and body, which may hold a session's cookie.
            error.headers, error.body, error.reason = None, None, clean(str(error.reason), self.access)
            raise told from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(unreachable(error, doing, self.access)) from error
        except (OpenApiException, ValueError, AttributeError, TypeError) as error:
            # kfp's client breaks in as many ways as an answer can be something else.
            raise ServiceUnreachable(
                f"{self.access.host} answered what kfp's client does not understand while {doing} "
                f"({clean(str(error), self.access)}). {WRONG_PLACE}"
            ) from error


def whose_name(operation: str, name: str) -> str:
    """A filter for lists: things whose name EQUALS another, or contains it, IS_SUBSTRING.

    The server decodes it once more after HTTP has: a plus sign or a percent sign in a name would not survive bare.
    """
    predicate = {"operation": operation, "key": "display_name", "string_value": name}
    return quote(json.dumps({"predicates": [predicate]}))


def _api(function: Callable[..., Any]) -> Any:
    """The part of kfp's client that remembers the last answer as it came."""
    return cast("Any", function).__self__.api_client


def _client(access: Access) -> "kfp.Client":
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    with needs_kfp(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kfp
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        by_file = access.authentication == "service-account"
        client = kfp.Client(
            host=access.host,
            namespace=_NOT_ASKED,
            existing_token=access.secret if access.authentication == "token" else None,
            # An empty one, for without any kfp looks into ~/.config/kfp.
            cookies=access.secret if access.authentication == "cookie" else "",
            credentials=ServiceAccountTokenVolumeCredentials(str(access.token_path)) if by_file else None,
            ssl_ca_cert=str(access.ca) if access.ca else None,
            verify_ssl=access.verify,
            proxy=_proxy(access.host),
        )
    if not access.verify:
        # Who says --insecure has been told.
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return client


def _proxy(host: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY say, which kfp does not look at; none for a port-forward."""
    url = urlsplit(host)
    name = url.hostname or ""
    if name in ("localhost", "127.0.0.1", "::1") or urllib.request.proxy_bypass(name):
        return None
    return urllib.request.getproxies().get(url.scheme)
