"""Requests to S3 or a compatible server: the client, retries, and errors in plain words.

Endpoint and credentials are those of every AWS tool: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_PROFILE, AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS and so on, or `~/.aws`.
"""

import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import boto3
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from components.base import answers, patience
from components.base.errors import MuraError, ServiceUnreachable, UsageError, printable
from components.base.urls import without_credentials

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Attempts for one request, unless AWS_MAX_ATTEMPTS says otherwise. If three requests in ten fail, one in 170,000 fails
# ten times in a row.
ATTEMPTS = 10
# Seconds before the next attempt: a random share of 0.1, 0.2, 0.4, ... up to this.
LONGEST_PAUSE = 5.0
# No new attempt after so many seconds, or after MURA_PATIENCE if that is longer.
PATIENCE = 60.0
# Tell that an answer is waited for after so many seconds.
_TOLD = 10.0
CONNECT_SECONDS, READ_SECONDS = 5, 20
# Requests that run at the same time.
THREADS = 16

# Error codes that may not come again.
_TEMPORARY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "InternalError"}
# Error codes of wrong credentials.
_WRONG_CREDENTIALS = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed",
}  # fmt: skip

# What botocore raises for answers that it does not understand.
_OF_AN_ANSWER = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
# Codes of redirections that say: this is another region's bucket.
_REGION = {"PermanentRedirect", "TemporaryRedirect", "301", "AuthorizationHeaderMalformed"}

_LOCK = threading.Lock()


class Missing(Exception):
    """There is no object of that key."""


class Empty(Exception):
    """The object has no bytes, so no range of it can be requested."""


class Changed(Exception):
    """The object was replaced."""


class WrongAnswer(Exception):
    """The answer is not what was requested. The next one may be."""


class _Failure(NamedTuple):
    """A failed request."""

    why: str
    """In a few words."""
    error: Exception | None
    """The exception to raise; None if the request may succeed when it is sent again."""


def client() -> Any:
    """boto3's client for the AWS_* variables of this process.

    Creating one takes half a second, and threads must not do it at the same time.
    """
    with _LOCK:
        return _made_client(frozenset((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


def endpoint() -> str:
    """The server's URL, for messages."""
    return without_credentials(client().meta.endpoint_url)


def with_retries(uri: object, request: Callable[[], T], most: int = answers.SMALL) -> T:
    """Send a request until it is answered, or until another attempt makes no sense.

    In a pod, and with MURA_PATIENCE, it is sent for at least so long.

    boto3's own retries are off: they do not cover the body of an answer, and most connections break there.

    Args:
        uri: what is requested, for messages.
        request: sends the request and reads the whole answer.
        most: bytes that the answer may have. See `answers` for how slowly they may come.

    Raises:
        UsageError: no such bucket, no credentials, or access is denied.
        ServiceUnreachable: the server does not answer, or not with what was requested.
        Missing, Empty, Changed: as the server says.
    """
    _check_client(uri)
    began = time.monotonic()
    attempt, told = 0, False
    while True:
        attempt += 1
        try:
            with answers.limited(max(most, answers.SMALL)):
                return request()
        except (MuraError, Missing, Empty, Changed):
            raise
        except Exception as error:
            failure = _failure(uri, error)
            if failure.error is error:
                raise
            if failure.error is not None:
                raise failure.error from error
            waited = time.monotonic() - began
            if _enough(attempt, waited):
                raise ServiceUnreachable(
                    f"{uri}: S3 at {endpoint()} did not answer correctly: {attempt} attempts in "
                    f"{waited:.0f} s ({failure.why}). Is AWS_ENDPOINT_URL right? Run the same command again."
                ) from error
            if waited > _TOLD and not told:
                logger.info("%s: S3 at %s does not answer (%s): asked again", uri, endpoint(), failure.why)
                told = True
            logger.debug("%s: %s, attempt %s", uri, failure.why, attempt)
        time.sleep(random.uniform(0.3, 1) * min(LONGEST_PAUSE, 0.1 * 2**attempt))


def _check_client(uri: object) -> None:
    """Check that there can be a client. Errors of this kind are of the settings; later ones are of an answer."""
    try:
        client()
    except ValueError as error:
        raise UsageError(f"{uri}: the request to S3 is not possible ({_words(error)}).") from error
    except Exception as error:
        failed = _failure(uri, error).error
        if failed is None or failed is error:
            raise
        raise failed from error


def _words(said: object) -> str:
    """In a few words, on one line."""
    text = printable(re.sub(r"\s+", " ", str(said)))[:200]
    return text or (type(said).__name__ if isinstance(said, Exception) else "")


def _failure(uri: object, error: Exception) -> _Failure:
    """Classify an error: the exception to raise, or None to retry."""
    why = answers.fault(error) or _words(error)
    if answers.fault(error):
        return _Failure(why, None)
    if isinstance(error, boto.ClientError):
        return _error_answer(uri, error)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.ProfileNotFound):
        what = f"no credentials for S3 ({why}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        return _Failure(why, UsageError(f"{uri}: {what}"))
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in why:
        what = f"the certificate of {endpoint()} is not trusted. Set AWS_CA_BUNDLE to your CA's file."
        return _Failure(why, UsageError(f"{uri}: {what}"))
    temporary = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, ResponseParserError, HTTPError)
    if isinstance(error, (WrongAnswer, OSError, *temporary)):
        return _Failure(why, None)
    if isinstance(error, _OF_AN_ANSWER) and not isinstance(error, boto.BotoCoreError):
        return _Failure(f"an answer that cannot be understood: {why}", None)
    if isinstance(error, boto.BotoCoreError):
        return _Failure(why, UsageError(f"{uri}: the request to S3 is not possible ({why})."))
    return _Failure(why, error)


def _error_answer(uri: object, error: boto.ClientError) -> _Failure:
    """Classify an answer of the server that reports an error."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    code = _words(error.response["Error"].get("Code", status))[:60]
    if status >= 500 or status in (408, 429) or code in _TEMPORARY:
        return _Failure(code, None)
    if 300 <= status < 400 and code not in _REGION:
        target = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("location", "nowhere")
        return _Failure(f"a redirection to {without_credentials(_words(target))}", None)
    if code != "NoSuchBucket" and (kind := {404: Missing, 412: Changed, 416: Empty}.get(status)):
        return _Failure(code, kind())
    server = f"S3 at {endpoint()}"
    if code == "NoSuchBucket":
        what = f"{server} has no such bucket."
    elif code in _WRONG_CREDENTIALS:
        what = f"{server} rejects the credentials ({code}). "
        what += "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the clock."
    elif status in (401, 403):
        what = f"{server} denies access for these credentials ({code})."
    else:
        message = _words(error.response["Error"].get("Message", ""))
        what = f"{server} rejects the request ({code} {message}). Is AWS_REGION right?"
    return _Failure(code, UsageError(f"{uri}: {what}"))


@cache
def _made_client(_: frozenset[tuple[str, str]]) -> Any:
    session = boto3.session.Session()
    return session.client(
        "s3",
        # Signing needs a region. Servers other than Amazon's accept any.
        region_name=session.region_name or "us-east-1",
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1},
            max_pool_connections=THREADS + 1,
            # Since 1.36 boto3 asks for checksums that other servers refuse or do not know.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            tcp_keepalive=True,
        ),
    )


def _enough(attempts: int, waited: float) -> bool:
    """Whether no further attempt is made after so many attempts in so many seconds."""
    patient = patience.seconds(elsewhere=0.0)
    if waited > max(PATIENCE, patient):
        return True
    if given := botocore.session.get_session().get_config_variable("max_attempts"):
        return attempts >= int(given)
    return attempts >= ATTEMPTS and waited >= patient
