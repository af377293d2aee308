"""Members of a zip on S3: our reader beside pyarrow's file system, by time, requests and bytes.

    python -m benchmarks.s3 [--members 40] [--delay 20] [--repeats 3] [--archive phantom.zip] [--json]

rclone serves a drawn archive. A proxy before it waits before it asks, as S3 does, and counts requests and bytes; it
does not limit bytes per second. Each reading has a process of its own, which has imported its library and asked the
server once before the clock starts. Then it opens the zip and reads: some members in random order, the same in the
order of the archive, and all in that order. Each row is the reading with the median time. All readers give the same
bytes, else the benchmark ends. `ratio` is pyarrow's time by ours, in random order, the better of the two ways to read
ranges with pyarrow alone. Whether the whole zip as a stream wins depends on its size.

pyarrow has no reading ahead for other files than Parquet, so our own does it for pyarrow's `read_at` in one row. Beside
`ours, bare` this row compares boto3, whose answers are checked, with pyarrow, whose answers are not.
"""

import hashlib
import http.client
import io
import itertools
import multiprocessing
import os
import random
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import harness
from components.archive import s3
from components.archive.archive import Archive
from tests import object_store

Reader = Callable[[str, Sequence[str]], Iterator[bytes]]


class Cost(NamedTuple):
    """What reading took."""

    seconds: float
    cpu: float
    """Seconds of the reader's processor."""
    peak_bytes: int
    """Memory more than before; 0 where there is no /proc."""
    requests: int
    bytes: int
    """In the bodies of answers."""


class Proxy(ThreadingHTTPServer):
    """Passes reading requests on, late, and counts."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, server: str, delay: float) -> None:
        """Stand before `server`; answer `delay` seconds later than it."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = server.removeprefix("http://")
        self.delay = delay
        self.lock = threading.Lock()
        self.requests = self.bytes = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else the second packet of an answer waits 40 ms for the acknowledgement of the first.
    disable_nagle_algorithm = True
    server: Proxy

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def do_GET(self) -> None:
        time.sleep(self.server.delay)
        self.upstream.request(self.command, self.path, headers=dict(self.headers))
        answer = self.upstream.getresponse()
        body = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in object_store.SET_BY_PROXY:
                self.send_header(name, value)
        length = answer.headers["Content-Length"] if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        with self.server.lock:
            self.server.requests += 1
            self.server.bytes += len(body)

    do_HEAD = do_GET  # noqa: N815, the name is http.server's

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def ours(uri: str, members: Sequence[str]) -> Iterator[bytes]:
    """As a step reads: it says beforehand what it will ask for."""
    with Archive.read(uri) as archive:
        archive.expect(members)
        yield from map(archive.bytes_of, members)


def ours_unprepared(uri: str, members: Sequence[str]) -> Iterator[bytes]:
    """As ours, but nobody says what comes next."""
    with Archive.read(uri) as archive:
        yield from map(archive.bytes_of, members)


def ours_bare(uri: str, members: Sequence[str]) -> Iterator[bytes]:
    """Our reader without the archive around it, which reads the end of the zip once more to check it."""
    found = s3.Object.find(s3.place(uri))
    assert found is not None, "the zip is there"
    yield from _expected(found, members)


def arrow_file(uri: str, members: Sequence[str]) -> Iterator[bytes]:
    """The zip module over a file to seek in."""
    with _arrow().open_input_file(uri.removeprefix(s3.SCHEME)) as file, zipfile.ZipFile(file) as opened:
        yield from map(opened.read, members)


def arrow_buffered(uri: str, members: Sequence[str]) -> Iterator[bytes]:
    """The same behind a buffer as large as our least request."""
    with (
        _arrow().open_input_file(uri.removeprefix(s3.SCHEME)) as file,
        zipfile.ZipFile(io.BufferedReader(file, s3.LEAST)) as opened,
    ):
        yield from map(opened.read, members)


def arrow_below(uri: str, members: Sequence[str]) -> Iterator[bytes]:
    """Our reader with pyarrow below it: the same threads fetch the same spans by `read_at`, unchecked."""
    with _arrow().open_input_file(uri.removeprefix(s3.SCHEME)) as file:
        yield from _expected(_Unchecked(file, s3.place(uri)), members)


def arrow_stream(uri: str, members: Sequence[str]) -> Iterator[bytes]:
    """The whole zip as one stream, kept in memory."""
    with _arrow().open_input_stream(uri.removeprefix(s3.SCHEME), buffer_size=s3.MOST) as stream:
        content = stream.read()
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        yield from map(opened.read, members)


READERS: dict[str, Reader] = {
    "ours": ours,
    "ours, bare": ours_bare,
    "ours, nothing said beforehand": ours_unprepared,
    "pyarrow, zipfile over the file": arrow_file,
    "pyarrow, with a buffer of 64 KiB": arrow_buffered,
    "pyarrow, below our reader": arrow_below,
    "pyarrow, the whole as a stream": arrow_stream,
}


class _Unchecked(s3.Object):
    """An object whose bytes pyarrow fetches; nothing compares range, length and version."""

    def __init__(self, file: Any, at: s3.Place) -> None:
        super().__init__(at, "", file.size())
        self._file = file

    def fetch(self, start: int, stop: int) -> bytes:
        content: bytes = self._file.read_at(stop - start, start)
        return content


def _expected(content: s3.Object, members: Sequence[str]) -> Iterator[bytes]:
    """Members that the object was told of, as `Archive.expect` tells it."""
    with content, zipfile.ZipFile(content) as opened:
        starts = [*sorted(entry.header_offset for entry in opened.infolist()), opened.start_dir]
        ends = dict(itertools.pairwise(starts))
        offsets = [opened.getinfo(member).header_offset for member in members]
        content.expect((offset, ends[offset]) for offset in offsets)
        yield from map(opened.read, members)


def main() -> None:
    """Serve, read and print."""
    parser = harness.parser(__doc__ or "", images=120)
    parser.add_argument("--members", type=int, default=40, help="read at random places [default: %(default)s]")
    parser.add_argument("--delay", type=float, default=20, help="before each answer, ms [default: %(default)s]")
    parser.add_argument("--repeats", type=int, default=3, help="of each reading [default: %(default)s]")
    flags = parser.parse_args()
    with harness.archive(flags) as (path,), _served(path, flags.delay / 1000) as (proxy, uri):
        every = _in_order(path)
        drawn = random.Random(1).sample(every, min(flags.members, len(every)))
        orders = {"random": drawn, "in order": [name for name in every if name in set(drawn)], "all": every}
        costs = {order: _costs(proxy, uri, members, flags.repeats) for order, members in orders.items()}
        size = path.stat().st_size
    medians = {order: {name: cost.seconds for name, cost in mine.items()} for order, mine in costs.items()}
    best = min(medians["random"][name] for name, reader in READERS.items() if reader in (arrow_file, arrow_buffered))
    result = {
        "archive_bytes": size,
        "members": len(drawn),
        "delay_ms": flags.delay,
        "costs": {order: {name: cost._asdict() for name, cost in mine.items()} for order, mine in costs.items()},
        "ratio": round(best / medians["random"]["ours"], 2),
    }
    rows: list[tuple[object, ...]] = [("reader", "order", "seconds", "by ours", "CPU s", "requests", "MB", "memory MB")]
    for order, mine in costs.items():
        for name, cost in mine.items():
            numbers = (cost.seconds, cost.seconds / mine["ours"].seconds, cost.cpu)
            rows.append((name, order, *numbers, cost.requests, cost.bytes / 1e6, cost.peak_bytes / 1e6))
    title = f"{len(drawn)} of {len(every)} members of {size / 1e6:.1f} MB, {flags.delay:g} ms before each answer"
    harness.tell(result, title, rows, flags.json)


@contextmanager
def _served(path: Path, delay: float) -> Iterator[tuple[Proxy, str]]:
    """The zip on an S3 server behind a proxy, and its address; the surroundings name the proxy."""
    with harness.folder() as here, socket.create_server(("127.0.0.1", 0)) as free:
        (here / "bucket").mkdir()
        shutil.copy(path, here / "bucket" / "phantom.zip")
        port = free.getsockname()[1]
        free.close()
        with object_store.serving(here, port, cached=True) as server, Proxy(server, delay) as proxy:
            threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]
            os.environ.update(
                AWS_ENDPOINT_URL=f"http://127.0.0.1:{proxy.server_port}",
                AWS_ACCESS_KEY_ID=object_store.USER,
                AWS_SECRET_ACCESS_KEY=object_store.SECRET,
                AWS_REGION="us-east-1",
                AWS_EC2_METADATA_DISABLED="true",
            )
            yield proxy, f"{s3.SCHEME}bucket/phantom.zip"
            proxy.shutdown()


def _in_order(path: Path) -> list[str]:
    """Images in the order of their bytes."""
    with zipfile.ZipFile(path) as opened:
        images = set(harness.images_in(path))
        entries = sorted(opened.infolist(), key=lambda entry: entry.header_offset)
        return [entry.filename for entry in entries if entry.filename in images]


def _costs(proxy: Proxy, uri: str, members: Sequence[str], repeats: int) -> dict[str, Cost]:
    """The median cost of every reader; the readers take turns."""
    found: dict[str, list[Cost]] = {name: [] for name in READERS}
    digests = set()
    for _ in range(repeats):
        for name in READERS:
            # A process for each reading: neither connections nor memory of one before.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
                child.submit(_warm, name, uri).result()
                proxy.requests = proxy.bytes = 0
                seconds, cpu, peak, digest = child.submit(_read, name, uri, members).result()
            found[name].append(Cost(seconds, cpu, peak, proxy.requests, proxy.bytes))
            digests.add(digest)
    assert len(digests) == 1, "all readers give the same bytes"
    return {name: sorted(mine, key=lambda cost: cost.seconds)[len(mine) // 2] for name, mine in found.items()}


def _warm(name: str, uri: str) -> None:
    if name.startswith("ours"):
        s3.Object.find(s3.place(uri))
    else:
        _arrow().get_file_info(uri.removeprefix(s3.SCHEME))


def _read(name: str, uri: str, members: Sequence[str]) -> tuple[float, float, int, str]:
    digest = hashlib.sha256()
    before = _memory("VmRSS")
    cpu = time.process_time()
    started = time.perf_counter()
    for content in READERS[name](uri, members):
        digest.update(content)
    return time.perf_counter() - started, time.process_time() - cpu, _memory("VmHWM") - before, digest.hexdigest()


def _memory(field: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


_FILE_SYSTEM: list[Any] = []


def _arrow() -> Any:
    from pyarrow import fs

    if not _FILE_SYSTEM:
        _FILE_SYSTEM.append(fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"]))
    return _FILE_SYSTEM[0]


if __name__ == "__main__":
    main()
