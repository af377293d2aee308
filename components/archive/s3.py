"""Objects on S3 or a compatible server, read by ranges.

Every answer is checked: its range, its length and the version of the object. A cut answer is requested again; a
replaced object is an error. No answer is read beyond what was requested, and no list without end.
"""

import contextlib
import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from components.archive.s3_requests import THREADS, Changed, Empty, Missing, WrongAnswer, client, with_retries
from components.archive.s3_requests import endpoint as endpoint
from components.base.errors import DataChanged, ServiceUnreachable, UsageError, printable
from components.base.urls import S3_SCHEME
from components.params.ingest import MAX_MEMBERS

K = TypeVar("K")

# Bytes of one request. At least: waiting for an answer costs more than so many bytes do. At most: a failed request is
# sent again as a whole.
LEAST, MOST = 1 << 16, 1 << 22
# Bytes that are fetched before they are read.
AHEAD = 1 << 25
# Bytes of a page of a list: 1,000 keys of 1,024 bytes, three characters each, and what stands around them.
PAGE = 1 << 22
# A list has at least so many keys on a page, except for some pages: removed objects leave empty ones.
KEYS, EXCEPTIONS = 10, 100
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Place(NamedTuple):
    """A bucket, and a key or the prefix of keys."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.bucket}/{self.key}"


def place(uri: str) -> Place:
    """The bucket and key of `s3://bucket/key`.

    Raises:
        UsageError: the URI is not of this form, or contains credentials.
    """
    bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
    if "@" in bucket:
        raise UsageError(
            "An s3:// address must not contain credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if not uri.startswith(S3_SCHEME) or not bucket:
        raise UsageError(f"{uri}: expected s3://bucket/key.")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{uri}: {bucket} cannot be a bucket. A bucket's name has 3 to 63 of a-z, 0-9, - and ., with a letter or "
            "digit at both ends."
        )
    return Place(bucket, key)


class _Ahead(Generic[K]):
    """Prefetch keys in order, at most AHEAD bytes."""

    def __init__(self, fetch: Callable[[K], bytes | None], size: Callable[[K], int]) -> None:
        self._fetch = fetch
        self._size = size
        self._waiting: deque[K] = deque()
        self._fetching: deque[tuple[K, Future[bytes | None]]] = deque()
        self._threads: ThreadPoolExecutor | None = None

    def expect(self, keys: Iterable[K]) -> None:
        """Prefetch these keys instead of the ones before."""
        self.forget()
        self._waiting = deque(keys)
        self._fetch_more()

    def take(self, wanted: Callable[[K], bool]) -> tuple[K, bytes | None] | None:
        """The first prefetched key that is wanted, with its content. Keys before it are dropped."""
        for number, (key, future) in enumerate(self._fetching):
            if wanted(key):
                for _ in range(number + 1):
                    self._fetching.popleft()
                self._fetch_more()
                return key, future.result()
        return None

    def forget(self) -> None:
        """Drop all keys."""
        self._waiting.clear()
        while self._fetching:
            self._fetching.pop()[1].cancel()

    def close(self) -> None:
        """Drop all keys and end the threads."""
        self.forget()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _fetch_more(self) -> None:
        size = sum(self._size(key) for key, _ in self._fetching)
        while self._waiting and (not self._fetching or size < AHEAD):
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, "s3")
            key = self._waiting.popleft()
            size += self._size(key)
            self._fetching.append((key, self._threads.submit(self._fetch, key)))


class Object(io.RawIOBase):
    """An object as a file to seek and read. Only the bytes that are read are fetched.

    Consecutive reads fetch ranges that double in size. A caller that knows what it will read next calls `expect`;
    threads then prefetch it.
    """

    def __init__(self, at: Place, version: str, size: int) -> None:
        """Refer to an object. `find` gives its version and size."""
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
        """The object of that key as it is now. None if there is none.

        Raises:
            UsageError: no such bucket, no credentials, or access is denied.
            ServiceUnreachable: the server does not answer.
        """

        def request() -> "Object":
            # Not HEAD: its answers have no body and do not say whether the key or the bucket is missing.
            answer = client().get_object(Bucket=at.bucket, Key=at.key, Range="bytes=0-0")
            with contextlib.closing(answer["Body"]) as body:
                start, stop, size = _range_of(answer)
                if (start, stop) != (0, 1):
                    raise WrongAnswer(f"requested the first byte, got {answer['ContentRange']}")
                _whole(body, 1)
            return cls(at, _version_of(answer), size)

        try:
            return with_retries(at, request)
        except Missing:
            return None
        except Empty:
            return cls(at, "", 0)

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to but not including `stop`, at least one, in one request.

        Raises:
            DataChanged: the object was replaced or removed since it was found.
            ServiceUnreachable: the server does not answer, or not with these bytes.
        """

        def request() -> bytes:
            # Some servers ignore IfMatch, so the version of the answer is checked too.
            span = {"Range": f"bytes={start}-{stop - 1}"} | ({"IfMatch": self.version} if '"' in self.version else {})
            answer = client().get_object(Bucket=self.place.bucket, Key=self.place.key, **span)
            with contextlib.closing(answer["Body"]) as body:
                # First: an answer without headers says nothing of the version.
                found = _range_of(answer)
                if _version_of(answer) != self.version:
                    raise Changed
                if found != (start, stop, self.size):
                    raise WrongAnswer(f"requested {span['Range']}, got {answer['ContentRange']}")
                return _whole(body, stop - start)

        try:
            return with_retries(self.place, request, stop - start)
        except (Changed, Missing, Empty):
            raise DataChanged(f"{self.place}: replaced or removed while it was read. Run the step again.") from None

    def expect(self, spans: Iterable[tuple[int, int]]) -> None:
        """Prefetch what will be read next.

        Args:
            spans: first byte and last byte + 1, in the order of reading. Adjacent spans become one request.
        """
        self._next.expect(_joined(spans))

    def pieces(self) -> Iterator[bytes]:
        """The whole content, in pieces of at most MOST bytes."""
        self.seek(0)
        self.expect((start, min(start + MOST, self.size)) for start in range(0, self.size, MOST))
        while piece := self.read(MOST):
            yield piece

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position. Nothing is fetched."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, up to the end of the object."""
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
        """Drop what was fetched."""
        self._next.close()
        self._window = (0, b"")
        super().close()

    def _some(self, position: int, length: int) -> memoryview:
        """At most `length` bytes from `position` on."""
        start, known = self._window
        if not start <= position < start + len(known):
            start, known = self._window = self._prefetched(position) or self._read_ahead(position, length)
        return memoryview(known)[position - start : position - start + length]

    def _prefetched(self, position: int) -> tuple[int, bytes] | None:
        found = self._next.take(lambda span: span[0] <= position < span[1])
        return (found[0][0], found[1]) if found is not None and found[1] else None

    def _read_ahead(self, position: int, length: int) -> tuple[int, bytes]:
        start, known = self._window
        self._length = min(2 * self._length, MOST) if known and position == start + len(known) else LEAST
        # zipfile reads the end of a zip first, backwards in small steps.
        start = max(0, min(position, self.size - LEAST))
        return start, self.fetch(start, min(position + max(length, self._length), self.size))


class Tree:
    """The objects whose keys have one prefix, as a directory of files."""

    def __init__(self, at: Place) -> None:
        """Refer to a directory. `exists` says whether there is one."""
        self.place = at if not at.key or at.key.endswith("/") else Place(at.bucket, at.key + "/")
        self._next: _Ahead[tuple[str, int]] = _Ahead(lambda each: self._fetch(*each), lambda _: AHEAD // THREADS // 2)

    def exists(self) -> bool:
        """Whether there is at least one object.

        Raises:
            UsageError: no such bucket, no credentials, or access is denied.
            ServiceUnreachable: the server does not answer.
        """
        return any(True for _ in self._listed())

    def files(self, most: int = MAX_MEMBERS) -> list[tuple[str, int]]:
        """Names below the directory, ascending, and sizes.

        Args:
            most: names that the caller takes. One more is listed, and no others, where there are more.

        Raises:
            UsageError: no such bucket, no credentials, or access is denied.
            ServiceUnreachable: the server does not answer, or its list repeats itself.
        """
        found = sorted(islice(self._listed(), most + 1))
        for (name, _), (other, _) in pairwise(found):
            if name == other:
                raise self._endless(f"it has {printable(name)[:200]} twice")
        return found

    def _listed(self) -> Iterator[tuple[str, int]]:
        token: str | None = ""
        pages = keys = 0
        seen: set[str] = set()
        while token is not None:
            page, token = self._page(token)
            pages, keys = pages + 1, keys + len(page)
            marks = {f"key {name}" for name, _ in page[:1]} | ({f"token {token}"} if token else set())
            if not seen.isdisjoint(marks):
                raise self._endless("a page comes twice")
            if pages > EXCEPTIONS + keys // KEYS:
                raise self._endless(f"{pages:,} pages have {keys:,} keys")
            seen |= marks
            yield from ((name, size) for name, size in page if name and not name.endswith("/"))

    def _endless(self, what: str) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"{self.place}: the list of S3 at {endpoint()} repeats itself or has no end: {what}. "
            "Is AWS_ENDPOINT_URL right? Run the same command again."
        )

    def expect(self, names: Iterable[str], most: int) -> None:
        """Prefetch files in this order, except those of more than `most` bytes."""
        self._next.expect((name, most) for name in names)

    def read(self, name: str, most: int) -> bytes | None:
        """The content of a file. None if it has more than `most` bytes.

        Raises:
            KeyError: there is none.
            ServiceUnreachable: the server does not answer.
        """
        if found := self._next.take(lambda each: each == (name, most)):
            return found[1]
        return self._fetch(name, most)

    def close(self) -> None:
        """Drop what was fetched."""
        self._next.close()

    def _page(self, token: str) -> tuple[list[tuple[str, int]], str | None]:
        """Names and sizes of the page of a token, and the token of the next page; None if it is the last."""
        more = {"ContinuationToken": token} if token else {}

        # Not boto's paginator: when a page fails, it starts again with the first.
        def request() -> tuple[list[tuple[str, int]], str | None]:
            page = client().list_objects_v2(Bucket=self.place.bucket, Prefix=self.place.key, **more)
            found = [(entry["Key"], entry["Size"]) for entry in page.get("Contents", [])]
            if any(not key.startswith(self.place.key) or size < 0 for key, size in found):
                raise WrongAnswer(f"a list of other objects than those below {self.place.key or '/'}")
            following = page.get("NextContinuationToken") if page.get("IsTruncated") else None
            if page.get("IsTruncated") and not following:
                raise WrongAnswer("a list that goes on, and no token for the rest")
            return [(key.removeprefix(self.place.key), size) for key, size in found], following

        return with_retries(self.place, request, PAGE)

    def _fetch(self, name: str, most: int) -> bytes | None:
        at = Place(self.place.bucket, self.place.key + name)

        def request() -> bytes | None:
            # The answer to a range says how many bytes the whole object has.
            answer = client().get_object(Bucket=at.bucket, Key=at.key, Range=f"bytes=0-{most - 1}")
            with contextlib.closing(answer["Body"]) as body:
                start, stop, size = _range_of(answer)
                if size > most:
                    return None
                if (start, stop) != (0, size):
                    raise WrongAnswer(f"requested all of {size:,} bytes, got {answer['ContentRange']}")
                return _whole(body, size)

        try:
            return with_retries(at, request, most)
        except Empty:
            return b""
        except Missing:
            raise KeyError(name) from None


def put(at: Place, content: bytes) -> None:
    """Store an object, completely or not at all.

    Raises:
        UsageError: no such bucket, no credentials, or access is denied.
        ServiceUnreachable: the server does not answer.
    """
    try:
        with_retries(at, lambda: client().put_object(Bucket=at.bucket, Key=at.key, Body=content))
    except Missing:
        raise UsageError(f"{at}: S3 at {endpoint()} does not store the object (404). Is the bucket right?") from None


def remove(at: Place) -> None:
    """Remove an object, if there is one.

    Raises:
        UsageError: no such bucket, no credentials, or access is denied.
        ServiceUnreachable: the server does not answer.
    """
    with contextlib.suppress(Missing):
        with_retries(at, lambda: client().delete_object(Bucket=at.bucket, Key=at.key))


def _whole(body: Any, size: int) -> bytes:
    # One byte more would come if the answer were longer than it says.
    content: bytes = body.read(size + 1)
    if len(content) != size:
        raise WrongAnswer(f"requested {size:,} bytes, got {len(content):,}")
    return content


def _range_of(answer: dict[str, Any]) -> tuple[int, int, int]:
    """First byte, last byte + 1, and size of the object, by an answer's header."""
    found = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", answer.get("ContentRange", ""))
    if found is None:
        raise WrongAnswer("the server ignores ranges")
    return int(found[1]), int(found[2]) + 1, int(found[3])


def _version_of(answer: dict[str, Any]) -> str:
    """The version of the object: its ETag, with the quotes. Its time of change if the server has no ETags."""
    etag: str = answer.get("ETag", "")
    return etag if etag.strip('"') else str(answer.get("LastModified", ""))


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join adjacent spans, up to MOST bytes."""
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
