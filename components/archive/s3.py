"""Objects on S3, or on a server that speaks its language: read by ranges, never torn, never two versions mixed.

Where the server is and who we are, every AWS tool takes from the same places: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS and so on, and `~/.aws`.
"""

import io
import logging
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from components.base.errors import DataChanged, MuraError, ServiceUnreachable, UsageError

K = TypeVar("K")
T = TypeVar("T")

logger = logging.getLogger(__name__)

SCHEME = "s3://"

# How often a request is tried, unless AWS_MAX_ATTEMPTS says otherwise: where three in ten go wrong, one of 170,000
# goes wrong ten times in a row.
ATTEMPTS = 10
# Before it is tried again, seconds: a random share of 0.1, 0.2, 0.4, ... up to this.
LONGEST_PAUSE = 5.0
# After so many seconds it is not tried again.
PATIENCE = 60.0
CONNECT_SECONDS, READ_SECONDS = 5, 20

# Bytes that one request asks for: at least, since waiting for an answer costs more than they do, and at most.
LEAST, MOST = 1 << 16, 1 << 22
# What is fetched before it is asked for: so many requests at once, so many bytes lying about.
THREADS, AHEAD = 16, 1 << 25


class Place(NamedTuple):
    """A bucket and a key, or what keys begin with."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def place(uri: str) -> Place:
    """The bucket and key of `s3://bucket/key`.

    Raises:
        UsageError: it is no such URI, or holds credentials.
    """
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if "@" in bucket:
        raise UsageError("An s3:// address must not hold credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    if not uri.startswith(SCHEME) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket):
        raise UsageError(f"{uri}: expected s3://bucket/key.")
    return Place(bucket, key)


class _Ahead(Generic[K]):
    """Fetches what is expected, in order, before it is asked for; a bounded amount lies about."""

    def __init__(self, fetch: Callable[[K], bytes | None], size: Callable[[K], int]) -> None:
        self._fetch = fetch
        self._size = size
        self._expected: deque[K] = deque()
        self._coming: deque[tuple[K, Future[bytes | None]]] = deque()
        self._threads: ThreadPoolExecutor | None = None

    def expect(self, keys: Iterable[K]) -> None:
        """Fetch these from now on, and nothing else."""
        self.forget()
        self._expected = deque(keys)
        self._hurry()

    def take(self, wanted: Callable[[K], bool]) -> tuple[K, bytes | None] | None:
        """The first of those on their way that is wanted; what was to come before it is dropped."""
        for number, (key, future) in enumerate(self._coming):
            if wanted(key):
                for _ in range(number + 1):
                    self._coming.popleft()
                self._hurry()
                return key, future.result()
        return None

    def forget(self) -> None:
        """Expect nothing."""
        self._expected.clear()
        while self._coming:
            self._coming.pop()[1].cancel()

    def close(self) -> None:
        """Expect nothing any more."""
        self.forget()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _hurry(self) -> None:
        size = sum(self._size(key) for key, _ in self._coming)
        while self._expected and (not self._coming or size < AHEAD):
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, "s3")
            key = self._expected.popleft()
            size += self._size(key)
            self._coming.append((key, self._threads.submit(self._fetch, key)))


class Object(io.RawIOBase):
    """An object, as a file to seek and read in: what is needed of it is fetched, no more.

    Reads that follow each other are answered from ranges that double in size. Who knows what will be read next
    says so (`expect`), and threads fetch it. Of every answer the range, the length and the version are checked.
    """

    def __init__(self, at: Place, version: str, size: int) -> None:
        """Name an object by its version and size, as `find` found them."""
        super().__init__()
        self.place = at
        self.version = version
        self.size = size
        self._position = 0
        self._window = (0, b"")
        self._length = LEAST
        self._next: _Ahead[tuple[int, int]] = _Ahead(lambda span: self.fetch(*span), lambda span: span[1] - span[0])

    @classmethod
    def find(cls, at: Place) -> "Object | None":
        """The object of that key as it is now; None if there is none.

        Raises:
            UsageError: no such bucket, no credentials, or they are not allowed to.
            ServiceUnreachable: the server does not answer.
        """

        def ask() -> "Object":
            # Not HEAD, whose answers have no body: they do not say whether the key is missing or the bucket.
            answer = _client().get_object(Bucket=at.bucket, Key=at.key, Range="bytes=0-0")
            with closing(answer["Body"]) as body:
                size = _range_of(answer)[2]
                body.read()
            return cls(at, _version_of(answer), size)

        try:
            return _persistently(at, ask)
        except _Missing:
            return None
        except _Empty:
            return cls(at, "", 0)

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`, at least one, in one request.

        Raises:
            DataChanged: the object was replaced or removed since it was found.
            ServiceUnreachable: the server does not answer, or not with what it was asked for.
        """

        def ask() -> bytes:
            # Not every server heeds IfMatch, so the answer's version is looked at as well.
            span = {"Range": f"bytes={start}-{stop - 1}"} | ({"IfMatch": self.version} if '"' in self.version else {})
            answer = _client().get_object(Bucket=self.place.bucket, Key=self.place.key, **span)
            with closing(answer["Body"]) as body:
                if _version_of(answer) != self.version:
                    raise _Changed
                if _range_of(answer) != (start, stop, self.size):
                    raise _Torn(f"asked for {span['Range']}, got {answer['ContentRange']}")
                return _whole(body, stop - start)

        try:
            return _persistently(self.place, ask)
        except (_Changed, _Missing, _Empty):
            raise DataChanged(f"{self.place}: replaced or removed while it was read. Run the step again.") from None

    def expect(self, spans: Iterable[tuple[int, int]]) -> None:
        """Fetch ahead what will be read next.

        Args:
            spans: the first byte and the one after the last, in the order of reading; neighbours make one request.
        """
        self._next.expect(_joined(spans))

    def pieces(self) -> Iterator[bytes]:
        """The whole content, piece by piece."""
        self.seek(0)
        self.expect((start, min(start + MOST, self.size)) for start in range(0, self.size, MOST))
        while piece := self.read(MOST):
            yield piece

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is fetched."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, as far as the object goes."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self.size - self._position))
        filled = 0
        while filled < wanted:
            part = self._some(self._position, wanted - filled)
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._position += len(part)
        return filled

    def close(self) -> None:
        """Forget what was fetched."""
        self._next.close()
        self._window = (0, b"")
        super().close()

    def _some(self, position: int, length: int) -> memoryview:
        """Bytes from `position` on, `length` at the most."""
        start, known = self._window
        if not start <= position < start + len(known):
            start, known = self._window = self._expected(position) or self._read_ahead(position, length)
        return memoryview(known)[position - start : position - start + length]

    def _expected(self, position: int) -> tuple[int, bytes] | None:
        found = self._next.take(lambda span: span[0] <= position < span[1])
        return (found[0][0], found[1]) if found is not None and found[1] else None

    def _read_ahead(self, position: int, length: int) -> tuple[int, bytes]:
        start, known = self._window
        self._length = min(2 * self._length, MOST) if known and position == start + len(known) else LEAST
        # A zip is read from its end, in small steps backwards.
        start = max(0, min(position, self.size - LEAST))
        return start, self.fetch(start, min(position + max(length, self._length), self.size))


class Tree:
    """The objects whose keys begin alike, as a directory of files."""

    def __init__(self, at: Place) -> None:
        """Name the directory; `exists` tells whether it is one."""
        self.place = at if not at.key or at.key.endswith("/") else Place(at.bucket, at.key + "/")
        self._next: _Ahead[tuple[str, int]] = _Ahead(lambda each: self._fetch(*each), lambda _: AHEAD // THREADS // 2)

    def exists(self) -> bool:
        """Whether there is at least one object.

        Raises:
            UsageError: no such bucket, no credentials, or they are not allowed to.
            ServiceUnreachable: the server does not answer.
        """
        return any(True for _ in self.files())

    def files(self) -> Iterator[tuple[str, int]]:
        """Names below the directory and sizes, ascending by name.

        Raises:
            UsageError: no such bucket, no credentials, or they are not allowed to.
            ServiceUnreachable: the server does not answer.
        """
        more: dict[str, str] = {}
        while True:
            page = self._page(more)
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    yield entry["Key"].removeprefix(self.place.key), entry["Size"]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def expect(self, names: Iterable[str], most: int) -> None:
        """Fetch ahead what will be read next, in this order; of more than `most` bytes, nothing."""
        self._next.expect((name, most) for name in names)

    def read(self, name: str, most: int) -> bytes | None:
        """A file; None if it has more than `most` bytes.

        Raises:
            KeyError: there is none.
            ServiceUnreachable: the server does not answer.
        """
        if found := self._next.take(lambda each: each == (name, most)):
            return found[1]
        return self._fetch(name, most)

    def close(self) -> None:
        """Forget what was fetched."""
        self._next.close()

    def _page(self, more: dict[str, str]) -> dict[str, Any]:
        # Not boto's paginator, which would begin anew where a page fails.
        def ask() -> dict[str, Any]:
            page: dict[str, Any] = _client().list_objects_v2(Bucket=self.place.bucket, Prefix=self.place.key, **more)
            return page

        return _persistently(self.place, ask)

    def _fetch(self, name: str, most: int) -> bytes | None:
        at = Place(self.place.bucket, self.place.key + name)

        def ask() -> bytes | None:
            # As a range, although it is the whole: only then does the answer say how much that is.
            answer = _client().get_object(Bucket=at.bucket, Key=at.key, Range=f"bytes=0-{most - 1}")
            with closing(answer["Body"]) as body:
                start, stop, size = _range_of(answer)
                if size > most:
                    return None
                if (start, stop) != (0, size):
                    raise _Torn(f"asked for all of {size:,} bytes, got {answer['ContentRange']}")
                return _whole(body, size)

        try:
            return _persistently(at, ask)
        except _Empty:
            return b""
        except _Missing:
            raise KeyError(name) from None


def put(at: Place, content: bytes) -> None:
    """Store an object, whole or not at all.

    Raises:
        UsageError: no such bucket, no credentials, or they are not allowed to.
        ServiceUnreachable: the server does not answer.
    """
    _change(at, lambda: _client().put_object(Bucket=at.bucket, Key=at.key, Body=content))


def remove(at: Place) -> None:
    """Remove an object; there may be none.

    Raises:
        UsageError: no such bucket, no credentials, or they are not allowed to.
        ServiceUnreachable: the server does not answer.
    """
    _change(at, lambda: _client().delete_object(Bucket=at.bucket, Key=at.key))


def _change(at: Place, ask: Callable[[], Any]) -> None:
    try:
        _persistently(at, ask)
    except _Missing:
        # What is removed already is removed.
        logger.debug("%s: was not there", at)


def endpoint() -> str:
    """Where the server is, for messages; without what may stand before an @."""
    return re.sub(r"//[^/]*@", "//", _client().meta.endpoint_url)


class _Missing(Exception):
    """There is no object of that key."""


class _Empty(Exception):
    """The object has no bytes, so no range of it can be asked for."""


class _Changed(Exception):
    """The object is not the one it was."""


class _Torn(Exception):
    """The answer is not what was asked for; the next one may be."""


def _whole(body: Any, size: int) -> bytes:
    content: bytes = body.read()
    if len(content) != size:
        raise _Torn(f"asked for {size:,} bytes, got {len(content):,}")
    return content


def _range_of(answer: dict[str, Any]) -> tuple[int, int, int]:
    """First byte, the one after the last, and the size of the object that an answer tells of."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.get("ContentRange", ""))
    if found is None:
        raise _Torn("the server ignores ranges")
    return int(found[1]), int(found[2]) + 1, int(found[3])


def _version_of(answer: dict[str, Any]) -> str:
    """What tells the object from another of its key: the ETag, in its quotes; the time where a server has none."""
    etag: str = answer.get("ETag", "")
    return etag if etag.strip('"') else str(answer.get("LastModified", ""))


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans with their neighbours, up to what one request may ask for."""
    start = stop = 0
    for first, last in spans:
        if first == stop and last - start <= MOST:
            stop = last
            continue
        if start < stop:
            yield start, stop
        start, stop = first, last
    if start < stop:
        yield start, stop


def _persistently(at: Place, ask: Callable[[], T]) -> T:
    """An answer, asked for again while it can be hoped for.

    boto3's own repetition is off: it ends where the body of an answer begins, which is where resets happen.
    """
    began = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return ask()
        except (MuraError, _Missing, _Empty, _Changed):
            raise
        except Exception as error:
            verdict, why = _verdict(at, error)
            if verdict is error:
                raise
            if verdict is not None:
                raise verdict from error
            if attempt >= _attempts() or time.monotonic() - began > PATIENCE:
                raise ServiceUnreachable(
                    f"{at}: S3 at {endpoint()} did not answer as it should, asked {attempt} times in "
                    f"{time.monotonic() - began:.0f} s ({why}). Is AWS_ENDPOINT_URL right? Run the same command again."
                ) from error
            logger.debug("%s: %s, attempt %s", at, why, attempt)
        time.sleep(random.uniform(0.3, 1) * min(LONGEST_PAUSE, 0.1 * 2**attempt))


def _verdict(at: Place, error: Exception) -> tuple[Exception | None, str]:
    """What an error comes to, None if asking again may help; and the error in a few words."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    why = re.sub(r"\s+", " ", str(error))[:200] or type(error).__name__
    if isinstance(error, boto.ClientError):
        return _answer_verdict(at, error)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.ProfileNotFound):
        return UsageError(f"{at}: no credentials for S3 ({why}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."), why
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in why:
        return UsageError(f"{at}: the certificate of {endpoint()} is not trusted. AWS_CA_BUNDLE names your CA's."), why
    answers = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, ResponseParserError, HTTPError)
    if isinstance(error, (_Torn, OSError, *answers)):
        return None, why
    if isinstance(error, boto.BotoCoreError | ValueError):
        return UsageError(f"{at}: S3 cannot be asked ({why})."), why
    return error, why


def _answer_verdict(at: Place, error: Any) -> tuple[Exception | None, str]:
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    code = error.response["Error"].get("Code", str(status))
    if status >= 500 or status in (408, 429) or code in _PASSING:
        return None, code
    if code == "NoSuchBucket":
        return UsageError(f"{at}: there is no bucket {at.bucket} on S3 at {endpoint()}."), code
    if status == 404:
        return _Missing(), code
    if status == 412:
        return _Changed(), code
    if status == 416:
        return _Empty(), code
    if code in _UNKNOWN:
        what = f"S3 at {endpoint()} does not take the credentials ({code})"
        return UsageError(f"{at}: {what}. Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the clock."), code
    if status in (401, 403):
        return UsageError(f"{at}: S3 at {endpoint()} does not let these credentials near it ({code})."), code
    message = re.sub(r"\s+", " ", error.response["Error"].get("Message", ""))[:200]
    return UsageError(f"{at}: S3 at {endpoint()} refuses ({code} {message}). Is AWS_REGION right?"), code


# Answers that the next attempt may not get.
_PASSING = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "InternalError"}
# What servers say to a stranger.
_UNKNOWN = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}

_LOCK = threading.Lock()


def _client() -> Any:
    """One for each process and surroundings; making one takes half a second and is not for threads to do at once."""
    with _LOCK:
        return _made_client(_surroundings())


def _surroundings() -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))


@cache
def _made_client(_: frozenset[tuple[str, str]]) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.session.Session()
    return session.client(
        "s3",
        # Servers other than Amazon's need none, and signing wants one.
        region_name=session.region_name or "us-east-1",
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1},
            max_pool_connections=THREADS + 1,
            # Since 1.36 boto3 asks for checksums that other servers than Amazon's refuse, or do not know.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            tcp_keepalive=True,
        ),
    )


def _attempts() -> int:
    import botocore.session

    return max(1, botocore.session.get_session().get_config_variable("max_attempts") or ATTEMPTS)
