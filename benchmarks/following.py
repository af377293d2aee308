"""Seconds from an alias moving to the first answer of the version that it names now, of `mura serve`.

    python -m benchmarks.following --model mura --versions 1 2

The versions are of the registry that MLFLOW_TRACKING_URI names, for instance after `make demo`. The alias is one of its
own, which is deleted at the end. It moves to and fro, after waits of different lengths; meanwhile some clients ask
without a pause. The libraries of the server are imported before. "Slowest answer" is the longest time of a request
meanwhile. The ratio is that of the median move to the time between two looks.

Exit code 1 if one move took more than --most-seconds, or if a request failed.
"""

import argparse
import itertools
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks import harness, serving
from benchmarks.serving import Server, ask_mura, at, free_port, pictures, running

ALIAS = "benchmark-of-following"
CLIENTS = 2
"""At once, all the time."""
PATIENCE = 300.0
"""For one move, seconds."""
USUAL = 3.0
"""How long the usual answers are measured, seconds."""

Move = Callable[[int], None]


class Clients:
    """Ask without a pause, and note how long each answer took."""

    def __init__(self, port: int, views: Sequence[bytes]) -> None:
        """Begin."""
        self._port, self._views, self._over = port, views, threading.Event()
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=at(self._port), timeout=60) as client:
            for view in itertools.cycle(self._views):
                if self._over.is_set():
                    return
                try:
                    self.seconds.append(serving.timed(ask_mura, client, view))
                except httpx.HTTPError as error:
                    self.failed.append(str(error))


def main() -> int:
    """Measure, and print."""
    parser = harness.parser(__doc__, 8)
    parser.add_argument("--model", default="mura", help="a registered model [default: %(default)s]")
    parser.add_argument("--versions", type=int, nargs=2, required=True, help="two of its versions")
    parser.add_argument("--moves", type=int, default=8, help="of the alias [default: %(default)s]")
    parser.add_argument("--follow", type=float, default=5.0, help="as `mura serve` [default: %(default)s]")
    parser.add_argument("--most-seconds", type=float, default=10.0, help="for a move [default: %(default)s]")
    flags = parser.parse_args()
    with harness.archive(flags) as (archive,), tempfile.TemporaryDirectory() as folder, alias(flags) as move:
        views, port = pictures(archive), free_port()
        command = [*harness.mura(), "serve", "--model", f"models:/{flags.model}@{ALIAS}", "--port", str(port)]
        command += ["--follow", str(flags.follow), "--log", str(Path(folder) / "predictions.jsonl")]
        server = Server("mura serve", command, "/v2/health/ready", ask_mura)
        with running(server, port, Path(folder)) as (_, start):
            usual, (seconds, clients) = quiet(port, views), moves(move, port, views, flags)
    return tell(seconds, clients, usual, start, flags)


@contextmanager
def alias(flags: argparse.Namespace) -> Iterator[Move]:
    """An alias of its own, at the first version."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from components import tracking

    client = tracking.connect()

    def move(version: int) -> None:
        client.set_registered_model_alias(flags.model, ALIAS, str(version))

    move(flags.versions[0])
    try:
        yield move
    finally:
        client.delete_registered_model_alias(flags.model, ALIAS)


def quiet(port: int, views: Sequence[bytes]) -> list[float]:
    """Seconds of answers while no version is loaded."""
    clients = Clients(port, views)
    time.sleep(USUAL)
    clients.end()
    return clients.seconds


def moves(move: Move, port: int, views: Sequence[bytes], flags: argparse.Namespace) -> tuple[list[float], Clients]:
    """Seconds of each move, and those who asked meanwhile."""
    waits, found = random.Random(1), []
    clients = Clients(port, views)
    with httpx.Client(base_url=at(port), timeout=60) as client:
        for number in range(1, flags.moves + 1):
            time.sleep(waits.uniform(0, flags.follow))
            version = flags.versions[number % 2]
            move(version)
            began = time.perf_counter()
            while time.perf_counter() - began < PATIENCE:
                answer = client.post("/predict", files={"view": ("view", views[0])})
                if answer.status_code == 200 and answer.json()["version"] == str(version):
                    break
            found.append(time.perf_counter() - began)
    clients.end()
    return found, clients


def tell(
    seconds: Sequence[float], clients: Clients, usual: Sequence[float], start: float, flags: argparse.Namespace
) -> int:
    """Print, and say whether all holds."""
    rows: list[Sequence[object]] = [
        ("", "measured"),
        ("moves", len(seconds)),
        ("median, s", statistics.median(seconds)),
        ("longest, s", max(seconds)),
        ("requests meanwhile", len(clients.seconds)),
        ("of them failed", len(clients.failed)),
        ("median answer, ms", 1000 * statistics.median(clients.seconds)),
        ("slowest answer, ms", 1000 * max(clients.seconds)),
        ("slowest answer of usual ones, ms", 1000 * max(usual)),
        ("start with MLflow, s", start),
    ]
    result = {str(name): value for name, value in rows[1:]} | {"follow": flags.follow}
    result["ratio"] = round(statistics.median(seconds) / flags.follow, 2)
    harness.tell(
        result, f"from the alias moving to the first answer, a look every {flags.follow:g} s", rows, flags.json
    )
    for why in dict.fromkeys(clients.failed):
        sys.stderr.write(f"{why}\n")
    return 0 if max(seconds) <= flags.most_seconds and not clients.failed else 1


if __name__ == "__main__":
    sys.exit(main())
