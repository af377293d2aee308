"""`mura serve` beside `mlflow models serve`: the same version, the same pictures, in one run.

    mura fetch --out version
    python -m benchmarks.serving --version version

Each server is started on a free port and asked for single views, drawn radiographs as PNG: one after another for the
latency, then by some clients at once for the throughput. Start is the time until it says that it is ready, memory the
proportional set size of all its processes, the most that was seen. Both must give the same probabilities to 1e-4.

The ratio is that of the median latencies, MLflow's to ours. Exit code 1 if probabilities differ, if `mura serve` takes
more than --most-seconds to start, or more than --most-megabytes of memory.
"""

import argparse
import base64
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks import harness

CLIENTS = 4
"""At once, for the throughput."""
PATIENCE = 300.0
"""Seconds until a server is ready."""
WARM = 5
"""Requests that are not counted."""
SAME = 1e-4
ROOT = Path(__file__).parents[1]

Ask = Callable[[httpx.Client, bytes], float]


class Server(NamedTuple):
    """How a server is started and asked."""

    name: str
    command: list[str]
    ready: str
    """A path that answers 200 when it is ready."""
    ask: Ask
    """A client and a picture in, the probability out."""


class Found(NamedTuple):
    """What was measured."""

    start: float
    megabytes: float
    p50: float
    """Milliseconds."""
    p99: float
    rate: float
    """Views a second, by CLIENTS at once."""
    probabilities: list[float]


def main() -> int:
    """Measure, and print."""
    parser = harness.parser(__doc__, 40)
    parser.add_argument("--version", type=Path, required=True, help="a directory that `mura fetch` wrote")
    parser.add_argument("--requests", type=int, default=200, help="for the latency [default: %(default)s]")
    parser.add_argument("--most-seconds", type=float, default=2.0, help="to start [default: %(default)s]")
    parser.add_argument("--most-megabytes", type=float, default=300.0, help="of memory [default: %(default)s]")
    flags = parser.parse_args()
    with harness.archive(flags) as (archive,), tempfile.TemporaryDirectory() as folder:
        views = pictures(archive)
        found = {
            server.name: measured(server, port, views, flags.requests, Path(folder))
            for server, port in servers(flags.version.absolute())
        }
    return tell(found, flags)


def servers(version: Path) -> Iterator[tuple[Server, int]]:
    """Ours and MLflow's, each with its port."""
    port = free_port()
    command = [*harness.mura(), "serve", "--model", str(version), "--port", str(port)]
    yield Server("mura serve", command, "/v2/health/ready", ask_mura), port
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(version), "--env-manager", "local"]
    yield Server("mlflow models serve", [*command, "--port", str(port)], "/ping", ask_mlflow), port


def ask_mura(client: httpx.Client, view: bytes) -> float:
    """By the form."""
    answer = client.post("/predict", files={"view": ("view", view)}, data={"part": "wrist"}).raise_for_status()
    return float(answer.json()["probability"])


def ask_mlflow(client: httpx.Client, view: bytes) -> float:
    """By a row of a table."""
    row = {"study": "1", "part": "wrist", "images": [base64.b64encode(view).decode()]}
    answer = client.post("/invocations", json={"dataframe_records": [row]}).raise_for_status()
    return float(answer.json()["predictions"][0]["probability"])


def measured(server: Server, port: int, views: Sequence[bytes], requests: int, folder: Path) -> Found:
    """Start a server, ask it, and end it."""
    with running(server, port, folder) as (process, start), httpx.Client(base_url=at(port), timeout=60) as client:
        peak, over = [0], threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, peak, over), daemon=True)
        watch.start()
        probabilities = [server.ask(client, view) for view in views]
        for number in range(WARM):
            server.ask(client, views[number % len(views)])
        seconds = [timed(server.ask, client, views[number % len(views)]) for number in range(requests)]
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda number: server.ask(client, views[number % len(views)]), range(requests)))
        rate = requests / (time.perf_counter() - began)
        over.set()
        watch.join()
    cuts = statistics.quantiles(seconds, n=100)
    return Found(start, peak[0] / 1e6, 1000 * cuts[49], 1000 * cuts[98], rate, probabilities)


@contextmanager
def running(server: Server, port: int, folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    """A server that is ready, and how many seconds it took."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            server.command, stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True
        )
        try:
            while not _ready(at(port) + server.ready):
                if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                    raise SystemExit(f"{server.name} did not start:\n{(folder / 'log').read_text()[-2000:]}")
                time.sleep(0.02)
            yield process, time.perf_counter() - began
        finally:
            os.killpg(process.pid, 15)
            process.wait(60)


def timed(ask: Ask, client: httpx.Client, view: bytes) -> float:
    """Seconds of one request."""
    began = time.perf_counter()
    ask(client, view)
    return time.perf_counter() - began


def pictures(archive: Path) -> list[bytes]:
    """Views of an archive, as files."""
    with zipfile.ZipFile(archive) as opened:
        return [opened.read(name) for name in harness.images_in(archive)]


def tell(found: dict[str, Found], flags: argparse.Namespace) -> int:
    """Print, and say whether all holds."""
    ours, theirs = found["mura serve"], found["mlflow models serve"]
    apart = max(abs(a - b) for a, b in zip(ours.probabilities, theirs.probabilities, strict=True))
    rows: list[Sequence[object]] = [("", "start, s", "memory, MB", "p50, ms", "p99, ms", "views/s")]
    rows += [(name, *each[:-1]) for name, each in found.items()]
    result: dict[str, Any] = {name: each._asdict() | {"probabilities": None} for name, each in found.items()}
    result |= {"ratio": round(theirs.p50 / ours.p50, 2), "apart": apart}
    harness.tell(result, f"single views, probabilities at most {apart:.1e} apart", rows, flags.json)
    holds = apart <= SAME and ours.start <= flags.most_seconds and ours.megabytes <= flags.most_megabytes
    return 0 if holds else 1


def at(port: int) -> str:
    """The address of a server."""
    return f"http://127.0.0.1:{port}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _watch(pid: int, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.2):
        peak[0] = max(peak[0], harness.memory_of(pid))


if __name__ == "__main__":
    sys.exit(main())
