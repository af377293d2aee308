"""Requests to Kubeflow Pipelines through kfp's client."""

import json
import logging
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

import urllib3

from components.base import answers, documents
from components.base.errors import MuraError, ServiceUnreachable, UsageError
from components.kubeflow import pod
from pipelines.client.access import NAMESPACE, Access
from pipelines.client.refusal import CONNECT_SECONDS, LOG_IN, WRONG_PLACE, Unavailable, clean, refused, unreachable
from pipelines.kfp_extra import needs_kfp

if TYPE_CHECKING:
    import kfp

# The pipeline's settings for Kubernetes have fields that came with 2.17: how long a run may take, and its pods stay. An
# older server ignores all of these settings: steps would run without secrets, limits and user.
OLDEST_SERVER = (2, 17)

_PAGE = 100
_MOST_PAGES = 1000
# With its default namespace, kfp.Client asks five times for the server's health when it is made, and prints a traceback
# for each failure. With any other it does not. Our requests name the namespace themselves.
_ANY_NAMESPACE = "mura"


class Server(NamedTuple):
    """The server's version and kind."""

    version: str
    """Such as 2.17.0; `unknown` if the build has none."""
    multi_user: bool

    @property
    def numbers(self) -> tuple[int, int] | None:
        """Major and minor; None if the version is unknown."""
        found = re.match(r"v?(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def too_old(self) -> bool:
        """Whether the version is known and older than OLDEST_SERVER."""
        return self.numbers is not None and self.numbers < OLDEST_SERVER


class Kubeflow:
    """Kubeflow Pipelines. Every request has a time limit; every error is one line."""

    def __init__(self, access: Access) -> None:
        """Make the client. No request is sent yet.

        Raises:
            UsageError: kfp is not installed.
        """
        self.access = access
        self.client = _client(access)
        self._server: Server | None = None
        self._date: datetime | None = None

    @property
    def server(self) -> Server:
        """The server's version and kind. The first request: it shows whether the server answers at all."""
        if self._server is None:
            function = self.client.healthzs.healthz_service_get_healthz
            self.call("asking for its version", function)
            # kfp's model of the answer lacks the version and the fields that the user interface adds.
            said = documents.json_of(_api(function).last_response.data)
            said = said if isinstance(said, dict) else {}
            if said.get("apiServerReady") is False:
                raise Unavailable(
                    f"{self.access.host} is Kubeflow's user interface, but the API behind it does not answer. "
                    "Try again later, or look at the API: kubectl -n kubeflow get pods -l app=ml-pipeline."
                )
            multi_user = said.get("multi_user", said.get("apiServerMultiUser"))
            if not isinstance(multi_user, bool):
                raise ServiceUnreachable(
                    f"{self.access.host} answers, but is not the API of Kubeflow Pipelines: expected `multi_user` in "
                    f"{self.access.host}/apis/v2beta1/healthz. {WRONG_PLACE}"
                )
            version = said.get("tag_name") or said.get("apiServerTagName") or "unknown"
            self._server = Server(str(version), multi_user)
        return self._server

    @property
    def namespace(self) -> str:
        """The namespace for requests; empty if the server has one namespace for all.

        Raises:
            UsageError: the server has a namespace for each user, and none is given.
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
        """Return self if the server understands all of a pipeline.

        Raises:
            UsageError: the server is older than OLDEST_SERVER.
        """
        if self.server.too_old:
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise UsageError(
                f"Kubeflow Pipelines at {self.access.host} is version {self.server.version}: {oldest} or newer is "
                "needed. It would run the steps without their secrets, limits and user."
            )
        return self

    def call(self, doing: str, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Send a request.

        Args:
            doing: completes "while ..." in an error.
            function: a method of one of the services of kfp's client.
            arguments: the arguments of the function.
            more: its keyword arguments.

        Raises:
            Missing: the server has no such thing.
            Exists: the server has such a thing already.
            UsageError: the server refused the request.
            Unavailable: the server did not answer, or failed.
            ServiceUnreachable: the server does not answer us, or it is not Kubeflow Pipelines.
        """
        with self._refusals(doing):
            answer = function(*arguments, _request_timeout=(CONNECT_SECONDS, self.access.seconds), **more)
            response = _api(function).last_response
            kind = response.getheader("content-type", "")
            self._date = _date(response.getheader("date", ""))
            if "json" not in kind:
                page = "a login page" if "html" in kind else f"content of type {kind or 'unknown'}"
                raise ServiceUnreachable(
                    f"{self.access.host} answered with {page} instead of JSON while {doing}. "
                    + (f"{LOG_IN} {WRONG_PLACE}" if "html" in kind else WRONG_PLACE)
                )
        return answer

    def get(
        self, doing: str, path: str, places: dict[str, str] | None = None, query: dict[str, str] | None = None
    ) -> Any:
        """Send a request that kfp's client has no method for; JSON, or text.

        Args:
            doing: completes "while ..." in an error.
            path: such as /apis/v2beta1/runs/{run}.
            places: the values in the path.
            query: the parameters.

        Raises:
            MuraError: as `call` does.
        """
        with self._refusals(doing):
            return self.client.runs.api_client.call_api(
                path,
                "GET",
                places or {},
                list((query or {}).items()),
                response_type="object",
                auth_settings=["Bearer"],
                _return_http_data_only=True,
                _request_timeout=(CONNECT_SECONDS, self.access.seconds),
            )

    def clock(self) -> datetime:
        """The server's time when it answered last. Its stamps are of the same clock, ours may be another."""
        return self._date or datetime.now(UTC)

    def pages(self, doing: str, function: Callable[..., Any], key: str, **more: Any) -> Iterator[Any]:
        """All items of a list, page by page.

        Raises:
            ServiceUnreachable: the list has no end.
        """
        token, seen = "", {""}
        for _ in range(_MOST_PAGES):
            answer = self.call(doing, function, page_token=token, page_size=_PAGE, **more)
            yield from getattr(answer, key) or ()
            token = answer.next_page_token or ""
            if not token:
                return
            if token in seen:
                break
            seen.add(token)
        raise ServiceUnreachable(
            f"{self.access.host} gives a list without end while {doing}: {len(seen):,} pages. {WRONG_PLACE}"
        )

    def run_link(self, run_id: str) -> str:
        """The page of a run in the user interface."""
        return pod.page(run_id) or f"{self.access.host}/#/runs/details/{run_id}"

    @contextmanager
    def _refusals(self, doing: str) -> Iterator[None]:
        from kfp_server_api.exceptions import ApiException, OpenApiException

        try:
            with answers.limited(answers.LARGE):
                yield
        except MuraError:
            raise
        except ApiException as error:
            told = refused(error, doing, self.access)
            # A traceback prints headers and body, which may contain a session's cookie.
            error.headers, error.body, error.reason = None, None, clean(str(error.reason), self.access)
            raise told from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(unreachable(error, doing, self.access)) from error
        except (OpenApiException, ValueError, AttributeError, TypeError, RecursionError) as error:
            # kfp's client raises any of these if the answer has another form.
            raise ServiceUnreachable(
                f"{self.access.host} gave an answer that kfp's client does not understand while {doing} "
                f"({clean(str(error), self.access)}). {WRONG_PLACE}"
            ) from error


def whose_name(operation: str, name: str) -> str:
    """A filter for lists, by name.

    It is quoted here, although HTTP quotes it too: the server decodes it twice.

    Args:
        operation: EQUALS or IS_SUBSTRING.
        name: the name, or the part of it.
    """
    predicate = {"operation": operation, "key": "display_name", "string_value": name}
    return quote(json.dumps({"predicates": [predicate]}))


def _api(function: Callable[..., Any]) -> Any:
    """The part of kfp's client that keeps the last answer unparsed."""
    return cast("Any", function).__self__.api_client


def _client(access: Access) -> "kfp.Client":
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    with needs_kfp():
        import kfp
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        by_file = access.authentication == "service-account"
        client = kfp.Client(
            host=access.host,
            namespace=_ANY_NAMESPACE,
            existing_token=access.secret if access.authentication == "token" else None,
            # Not None: kfp would read a cookie from ~/.config/kfp.
            cookies=access.secret if access.authentication == "cookie" else "",
            credentials=ServiceAccountTokenVolumeCredentials(str(access.token_path)) if by_file else None,
            ssl_ca_cert=str(access.ca) if access.ca else None,
            verify_ssl=access.verify,
            proxy=_proxy(access.host),
        )
    if not access.verify:
        # The user chose --insecure. A warning for each request says nothing new.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return client


def _date(header: str) -> datetime | None:
    """The time of an answer."""
    try:
        return parsedate_to_datetime(header)
    except ValueError:
        return None


def _proxy(host: str) -> str | None:
    """The proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, which kfp ignores; None for a port-forward."""
    url = urlsplit(host)
    name = url.hostname or ""
    if name in ("localhost", "127.0.0.1", "::1") or urllib.request.proxy_bypass(name):
        return None
    return urllib.request.getproxies().get(url.scheme)
