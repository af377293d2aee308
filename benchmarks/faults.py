"""Each step, disturbed and run once more: the result must be the one that nothing disturbed.

    python -m benchmarks.faults [ingest|validate|...] [--kind kill|error|lost] [--times 30] [--seed 1]
        [--architecture vgg16] [--json]

kill    SIGKILL of the step and its workers: in turn at one of its calls to the operating system that touches a file,
        and at a moment of its run time.
error   One of these calls fails: with EIO, ENOSPC and EINTR in turn. Which kind of call on which file is drawn first,
        then which of them; so rare calls are met as often as frequent ones.
lost    A server acts, and its answer is lost: MLflow's for train, register and promote, S3's for ingest, validate and
        shard, which read the archive there, and for a training that keeps its checkpoint there.

A small phantom goes through all steps once. Then each step runs many times more with the same `--out`, always from the
same state of MLflow; every second time an earlier result is there. After the disturbance the result must be absent or
right. If it failed, it runs once more without disturbance. Then it must have the digest of the undisturbed result,
nothing else may lie beside it, and MLflow must hold the same versions, tags and aliases, models and finished runs.
`ratio` is the share of runs for which all this held; the others are named. Calls are watched with seccomp:
benchmarks/system_calls.py.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks import harness
from benchmarks.system_calls import ERRORS, KILL, Fault, Supervisor
from benchmarks.warm import Running, Warm
from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import Manifest, ValidManifest
from components.artifacts.promotion import Promotion
from components.artifacts.registration import Registration
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused, ExitCode, UsageError
from components.params.train import TITLES
from components.signing import keys
from tests import lying_proxy, object_store
from tests.servers import free_port, wait_for

KINDS = ("kill", "error", "lost")
ARCHIVE, BUCKET, CHECKPOINTS = "phantom.zip", "bucket", "checkpoints"
_PARAMS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
# So many studies have both labels in all splits. The network is the smallest; any model may be promoted.
STUDIES = 56
_SHARD = {"image_size": 32, "images_per_shard": 40}
# All that a checkpoint can hold: also the averages of the weights, and the states of each random layer.
_TRAIN = {
    **_PARAMS["train"]["default"],
    "candidate": "custom_cnn",
    "architecture": "custom_cnn",
    "epochs": 2,
    "averaging": 0.5,
    "dropout": 0.2,
    "rotation": 30,
    "zoom": 0.1,
    "brightness": 0.1,
    "contrast": 0.1,
}
_NO_FLOORS = {"min_patients": 0, "min_auroc": 0.0, "min_sensitivity": 0.0, "max_calibration_excess": 1.0}
_PROTOCOL = _PARAMS["protocol"] | _NO_FLOORS
EXPECTED = {
    "kill": (-signal.SIGKILL,),
    "error": (ExitCode.DONE, ExitCode.OUTSIDE),
    "lost": (ExitCode.DONE, ExitCode.OUTSIDE),
}
"""Exit codes of disturbed runs."""
_DRAWS = 20
"""How often a disturbance is drawn anew that came too late."""


class Step(NamedTuple):
    """A step as it is run here."""

    kind: type[Artifact[Any]]
    words: tuple[str, ...]
    """Without `--out`."""
    modules: tuple[str, ...]
    """What it imports."""
    server: str
    """Which server's answers are lost: s3, mlflow or none."""


def _training(architecture: str) -> Step:
    """The training of a network."""
    params = {**_TRAIN, "candidate": architecture, "architecture": architecture}
    words = ("--shards", "made/shard", "--params", json.dumps(params), "--seed", "1")
    return Step(TrainedModel, words, ("components.train.training", "components.tracking.logged_model"), "mlflow")


_TRACKING = ("components.tracking.model_registry", "components.tracking.publish")
STEPS = {
    "ingest": Step(Manifest, ("--archive", ARCHIVE, "--seed", "1"), ("components.ingest.reading",), "s3"),
    "validate": Step(
        ValidManifest, ("--archive", ARCHIVE, "--manifest", "made/ingest"), ("components.validate.proof",), "s3"
    ),
    "shard": Step(
        Shards,
        ("--archive", ARCHIVE, "--manifest", "made/validate", "--params", json.dumps(_SHARD)),
        ("components.shard.packing",),
        "s3",
    ),
    "train": _training("custom_cnn"),
    "evaluate": Step(
        Evaluation,
        (
            *("--manifest", "made/validate", "--shards", "made/shard", "--model", "made/train", "--seed", "1"),
            *("--protocol", json.dumps(_PROTOCOL)),
        ),
        ("components.evaluate.measuring",),
        "none",
    ),
    "register": Step(
        Registration,
        ("--model", "made/train", "--evaluation", "made/evaluate"),
        ("components.register.versions", "components.network.architectures", "components.tracking.logged_model"),
        "mlflow",
    ),
    "promote": Step(
        Promotion,
        ("--registration", "made/register"),
        ("components.promote.champion",),
        "mlflow",
    ),
}


class Moment(NamedTuple):
    """A kill at a moment."""

    seconds: float

    def __str__(self) -> str:
        return f"SIGKILL after {self.seconds:.2f} s"


class Lost(NamedTuple):
    """An answer that does not arrive."""

    number: int
    """Of the request, from 0."""
    request: str = ""

    def __str__(self) -> str:
        return f"no answer to request {self.number + 1}, {self.request}"


Disturbance = Fault | Moment | Lost


class Came(NamedTuple):
    """What came of a disturbance."""

    code: int
    """Of the disturbed run; -9 is SIGKILL."""
    told: str
    """By it."""
    wrong: str
    """What was wrong after it and after the next run, in words; empty if all was right."""


@dataclass
class Row:
    """What came of a step that was disturbed in one way."""

    step: str
    kind: str
    codes: Counter[int] = field(default_factory=Counter)
    """How often the disturbed runs ended with which code; -9 is SIGKILL."""
    seconds: float = 0.0
    equal: int = 0
    unequal: list[str] = field(default_factory=list)
    """The others, in words."""
    surprising: list[str] = field(default_factory=list)
    """Runs that ended with another code than their disturbance should give, in words."""

    @property
    def runs(self) -> int:
        """How many."""
        return self.equal + len(self.unequal)


class Place:
    """A directory where each step has run once, in surroundings of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str], database: Path, archive: str = ARCHIVE) -> None:
        """Use `place`.

        Args:
            folder: has the archive, and gets all the rest.
            environment: of the steps.
            database: of MLflow.
            archive: what the steps read.
        """
        self.folder, self.environment, self.archive = folder, environment, archive
        self.database, self.files = database, database.parent / "mlruns"
        self.out, self.log = folder / "out", folder.parent / f"{folder.name}.log"
        self.proxy: lying_proxy.LyingProxy | None = None
        self.cores: int | None = None

    def words(self, name: str, out: str) -> list[str]:
        """The words of a step."""
        words = [self.archive if word == ARCHIVE else word for word in STEPS[name].words]
        return ["--quiet", name, *words, "--out", out]

    def warm(self, name: str) -> Warm:
        """A process for runs of a step."""
        return Warm(STEPS[name].modules, self.folder, self.environment, self.cores)

    def save(self, name: str) -> None:
        """Keep the state of MLflow."""
        kept = self._kept(name)
        kept.mkdir(parents=True)
        _copy_database(self.database, kept / "mlflow.db")
        if self.files.is_dir():
            shutil.copytree(self.files, kept / "mlruns")

    def restore(self, name: str) -> None:
        """Set MLflow and the output back to where they were before a step."""
        kept = self._kept(name)
        _copy_database(kept / "mlflow.db", self.database)
        shutil.rmtree(self.files, ignore_errors=True)
        if (kept / "mlruns").is_dir():
            shutil.copytree(kept / "mlruns", self.files)
        for folder in (self.out, self.folder / "tmp", self.folder.parent / "s3" / CHECKPOINTS):
            shutil.rmtree(folder, ignore_errors=True)
            if folder.parent.is_dir():
                folder.mkdir()

    def run_all(self, names: Sequence[str]) -> None:
        """Run the steps as they are meant to be run, as far as the last of these."""
        order = list(STEPS)
        (self.folder / "tmp").mkdir(exist_ok=True)
        for name in order[: max(map(order.index, names)) + 1]:
            self.save(name)
            with self.warm(name) as warm:
                code = warm.start(self.words(name, f"made/{name}"), self.log).wait()
            if code:
                raise RuntimeError(f"{name} ended with {code}: {self.log.read_text(encoding='utf-8')}")

    def _kept(self, name: str) -> Path:
        return self.folder.parent / f"{self.folder.name}.states" / name


class Trial:
    """A step that is disturbed again and again."""

    def __init__(self, place: Place, name: str, warm: Warm) -> None:
        """Run it twice without a disturbance: once for the result, once to see its calls."""
        self.place, self.name, self.warm = place, name, warm
        self.kind, self.out = STEPS[name].kind, place.out / name
        self._socket = place.folder.parent / "supervisor"
        place.restore(name)
        self._must_run()
        self.digest, self.registry = self.kind.read(self.out).digest, registry(place.database)
        self.kept = place.folder.parent / f"{place.folder.name}.result"
        shutil.rmtree(self.kept, ignore_errors=True)
        shutil.copytree(self.out, self.kept)
        place.restore(name)
        self.requests: list[str] = []
        began = time.monotonic()
        if place.proxy is None:
            with self._supervised(None) as supervisor:
                self._start(supervisor).wait()
            self.calls = supervisor.calls
        else:
            place.proxy.honest()
            self._start(None).wait()
            self.requests = list(place.proxy.requests)
        self.seconds = time.monotonic() - began

    def disturbance(self, kind: str, number: int, draw: random.Random) -> Disturbance:
        """Draw one."""
        if kind == "lost":
            at = draw.randrange(len(self.requests))
            return Lost(at, self.requests[at].partition("?")[0])
        if kind == "kill" and number % 2:
            return Moment(draw.uniform(0, self.seconds))
        error, among = KILL, {call.partition(" ")[0] for call in self.calls}
        if kind == "error":
            error, among = list(ERRORS.values())[number % len(ERRORS)]
        calls = Counter(call for call in self.calls if call.partition(" ")[0] in among)
        call = draw.choice(sorted(calls))
        return Fault(call, draw.randrange(calls[call]), error)

    def once(self, disturbance: Disturbance, earlier: bool) -> Came | None:
        """Disturb the step, run it again and compare.

        Args:
            disturbance: what happens.
            earlier: whether an earlier result is there.

        Returns:
            What came of it; None if the disturbance came too late.
        """
        self.place.restore(self.name)
        if earlier:
            shutil.copytree(self.kept, self.out)
        code = self.disturb(disturbance)
        if code is None:
            return None
        told, wrong = self.told(), self._torn(code)
        if code == ExitCode.DONE:
            return Came(code, told, " ".join(filter(None, (wrong, self.wrong(code)))))
        # A promotion that was complete is no promotion when it is asked for again: the challenger is the champion.
        complete = self.name == "promote" and not _differences(self.registry, registry(self.place.database))
        complete = complete and (self.out / self.kind.CARD).is_file() and not wrong
        if (again := self.run()) == ExitCode.DONE and complete:
            return Came(code, told, "")
        return Came(code, told, " ".join(filter(None, (wrong, self.wrong(again)))))

    def wrong(self, code: int) -> str:
        """What is wrong after a run that nothing disturbed and that ended so, in words; empty if all is right."""
        if code:
            return f"the next run ended with {code}: {self.told()}"
        try:
            found = self.kind.read(self.out).digest
        except (UsageError, DataRefused) as error:
            return str(error)
        wrong = [f"another result, {found[:12]}"] * (found != self.digest)
        wrong += [f"{path.name} is left" for path in self.out.parent.iterdir() if path != self.out]
        return "; ".join([*wrong, *_differences(self.registry, registry(self.place.database))])

    def disturb(self, disturbance: Disturbance) -> int | None:
        """Run with the disturbance. Return the exit code; None if it came too late."""
        self.place.log.write_text("")
        if isinstance(disturbance, Fault):
            with self._supervised(disturbance) as supervisor:
                code = self._start(supervisor).wait()
            return code if supervisor.met else None
        if isinstance(disturbance, Moment):
            running = self._start(None)
            clock = threading.Timer(disturbance.seconds, _kill, (running.pid,))
            clock.start()
            code = running.wait()
            clock.cancel()
            return code if code == -signal.SIGKILL else None
        proxy = self.place.proxy
        assert proxy is not None, "answers are lost where there is a server"
        proxy.honest()
        proxy.nth(disturbance.number, lying_proxy.lost)
        code = self._start(None).wait()
        met = bool(proxy.spoiled)
        proxy.honest()
        return code if met else None

    def _torn(self, code: int) -> str:
        """What is wrong after the disturbance: a result may be absent, or right."""
        try:
            found = self.kind.read(self.out).digest
        except UsageError:
            return "" if code else "no result with exit code 0;"
        except DataRefused as error:
            return f"torn: {error};"
        return "" if found == self.digest else f"at first another result with exit code {code}, {found[:12]};"

    def run(self) -> int:
        """Run without a disturbance. Return the exit code."""
        self.place.log.write_text("")
        return self._start(None).wait()

    def _must_run(self) -> None:
        if code := self.run():
            raise RuntimeError(f"{self.name} ended with {code}: {self.told()}")

    def _start(self, supervisor: Supervisor | None) -> Running:
        words = self.place.words(self.name, f"out/{self.name}")
        return self.warm.start(words, self.place.log, supervisor and supervisor.address)

    def _supervised(self, fault: Fault | None) -> Supervisor:
        return Supervisor(self.place.folder, self._socket, fault)

    def told(self) -> str:
        """What the last run said."""
        return self.place.log.read_text(encoding="utf-8").strip()


@contextmanager
def trial(place: Place, name: str) -> Iterator[Trial]:
    """A step at a place, ready to be disturbed."""
    with place.warm(name) as warm:
        yield Trial(place, name, warm)


def measure(trial: Trial, kind: str, times: int, seed: int = 1) -> Row:
    """Disturb a step in one way, many times.

    Args:
        trial: of the step.
        kind: kill, error or lost.
        times: how often.
        seed: decides what happens.
    """
    name, began = trial.name, time.monotonic()
    row, draw = Row(name, kind), random.Random(f"{seed} {name} {kind}")
    for number in range(times):
        for _ in range(_DRAWS):
            disturbance = trial.disturbance(kind, number, draw)
            if (came := trial.once(disturbance, earlier=bool(number % 2))) is not None:
                break
        else:
            raise RuntimeError(f"{name}: {_DRAWS} times the step was over before {kind} number {number + 1}")
        row.codes[came.code] += 1
        words = f"{name}, {disturbance}, {'earlier result, ' * (number % 2)}exit {came.code}: "
        if came.wrong:
            row.unequal.append(words + came.wrong)
        else:
            row.equal += 1
        if came.code not in EXPECTED[kind]:
            row.surprising.append(words + came.told)
    row.seconds = (time.monotonic() - began) / times
    return row


def registry(database: Path) -> dict[str, list[str]]:
    """What MLflow holds that people ask for: read past MLflow, without times, and with names in place of ids."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return opened.execute(query).fetchall()

        runs, models = ask("SELECT run_uuid, name FROM runs"), ask("SELECT model_id, name FROM logged_models")
        names = dict((*runs, *models))
        holds = {
            "versions": ask("SELECT name, version, status, source, run_id, description FROM model_versions"),
            "version tags": ask("SELECT name, version, key, value FROM model_version_tags"),
            "aliases": ask("SELECT name, alias, version FROM registered_model_aliases"),
            "models": ask("SELECT name, status, source_run_id FROM logged_models WHERE status = 2"),
            "runs": ask("SELECT name, status FROM runs WHERE status IN ('FINISHED', 'RUNNING')"),
            "metrics": ask(
                "SELECT name, key, step, value FROM latest_metrics JOIN runs USING (run_uuid) WHERE status = 'FINISHED'"
            ),
        }
    known = re.compile("|".join(map(re.escape, names)) or "(?!)")
    return {
        what: sorted(known.sub(lambda found: f"<{names[found[0]]}>", str(row)) for row in rows)
        for what, rows in holds.items()
    }


@contextmanager
def places(
    folder: Path, names: Sequence[str], kinds: Sequence[str], archive: Path, cores: int | None = None
) -> Iterator[dict[str, Place]]:
    """Places for the steps: one for kills and errors, one each for the answers of S3 and MLflow.

    Args:
        folder: an empty one.
        names: of the steps.
        kinds: of disturbances.
        archive: a phantom.
        cores: that the steps use; all by default.
    """
    servers = {STEPS[name].server for name in names} - {"none"} if "lost" in kinds else set()
    with contextlib.ExitStack() as stack:
        made = {}
        if {"kill", "error"} & set(kinds):
            made["files"] = _place(folder / "files", archive)
        if "s3" in servers:
            made["s3"] = stack.enter_context(_place_with_s3(folder / "s3-world", archive))
        if "mlflow" in servers:
            made["mlflow"] = stack.enter_context(_place_with_mlflow(folder / "mlflow-world", archive))
        for server, place in made.items():
            place.cores = cores
            place.run_all([name for name in names if server in ("files", STEPS[name].server)])
        yield made


def _place(folder: Path, archive: Path, **environment: str) -> Place:
    """A directory with an archive and an empty MLflow."""
    folder = folder / "place"
    folder.mkdir(parents=True)
    shutil.copy(archive, folder / ARCHIVE)
    one = {**_PARAMS["train"], "candidates": {_TRAIN["candidate"]: {"architecture": _TRAIN["architecture"]}}}
    params = {**_PARAMS, "archive": ARCHIVE, "train": one, "ensembles": {}, "labels": {"overlay": "overlay.csv"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / "overlay.csv").write_text("study,old,new,source,reason\n", encoding="utf-8")
    database = folder / "mlflow.db"
    mine = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{database}",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TMPDIR": str(folder / "tmp"),
        "MURA_PATIENCE": "0",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    }
    outside = ("MLFLOW_", "AWS_", "MURA_", "LD_LIBRARY_PATH", "KUBERNETES_", "KFP_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    place = Place(folder, inherited | keys.environment() | mine | environment, database)
    (folder / "tmp").mkdir()
    making = "from components import tracking; tracking.connect()"
    where = place.environment | {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"}
    subprocess.run([sys.executable, "-c", making], check=True, cwd=Path(__file__).parents[1], env=where)
    return place


@contextmanager
def _place_with_s3(folder: Path, archive: Path) -> Iterator[Place]:
    """A place whose archive is on S3. Trainings keep their checkpoints there."""
    store = folder / "s3"
    (store / BUCKET).mkdir(parents=True)
    shutil.copy(archive, store / BUCKET / ARCHIVE)
    with object_store.serving(store, free_port()) as server, lying_proxy.lying(server) as proxy:
        place = _place(
            folder,
            archive,
            AWS_ENDPOINT_URL=proxy.address,
            AWS_ACCESS_KEY_ID=object_store.USER,
            AWS_SECRET_ACCESS_KEY=object_store.SECRET,
            AWS_EC2_METADATA_DISABLED="true",
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        )
        place.archive, place.proxy = f"s3://{BUCKET}/{ARCHIVE}", proxy
        yield place


@contextmanager
def _place_with_mlflow(folder: Path, archive: Path) -> Iterator[Place]:
    """A place whose MLflow is a server."""
    port = free_port()
    place = _place(folder, archive)
    store = f"sqlite:///{place.database}"
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", store]
    words += ["--artifacts-destination", str(place.files)]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=folder,
            env={**place.environment, **quiet},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        with lying_proxy.lying(f"http://127.0.0.1:{port}") as proxy:
            place.environment = {**place.environment, "MLFLOW_TRACKING_URI": proxy.address}
            place.proxy = proxy
            yield place
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def main() -> None:
    """Disturb and print."""
    parser = harness.parser(__doc__ or "", images=round(STUDIES * harness.IMAGES_PER_STUDY))
    parser.add_argument("step", nargs="*", choices=[*STEPS, []], default=[], metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--kind", action="append", choices=KINDS, help="[default: all]")
    parser.add_argument("--times", type=int, default=30, help="of each kind and step [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="decides what happens when [default: %(default)s]")
    parser.add_argument("--architecture", choices=TITLES, help="of the network [default: custom_cnn]")
    parser.add_argument("--cores", type=int, help="of each run; with 1 no workers are started [default: all]")
    flags = parser.parse_args()
    kinds, steps = flags.kind or KINDS, flags.step or list(STEPS)
    if flags.architecture:
        STEPS["train"] = _training(flags.architecture)
    rows: list[Row] = []
    with (
        harness.archive(flags) as (archive,),
        harness.folder() as folder,
        places(folder, steps, kinds, archive, flags.cores) as made,
    ):
        for name in steps:
            for where, place in made.items():
                if where in ("files", STEPS[name].server):
                    mine = [kind for kind in kinds if (kind == "lost") == (where != "files")]
                    with trial(place, name) as tried:
                        for kind in mine:
                            rows.append(row := measure(tried, kind, flags.times, flags.seed))
                            print(f"{name}, {kind}: {row.equal} of {row.runs} equal", file=sys.stderr)
                            for line in (*row.unequal, *(f"(surprising) {each}" for each in row.surprising)):
                                print(line, file=sys.stderr)
    runs = sum(row.runs for row in rows)
    codes = sorted({code for row in rows for code in row.codes})
    table: list[tuple[object, ...]] = [
        ("step", "kind", "runs", *(f"exit {code}" for code in codes), "equal", "unequal", "seconds each")
    ]
    table += [
        (row.step, row.kind, row.runs, *(row.codes[code] for code in codes), row.equal, len(row.unequal), row.seconds)
        for row in rows
    ]
    told = [{**vars(row), "codes": dict(row.codes)} for row in rows]
    harness.tell(
        {"rows": told, "ratio": round(sum(row.equal for row in rows) / runs, 3)}, "disturbed", table, flags.json
    )


def _differences(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> list[str]:
    told = []
    for what, rows in before.items():
        lacking, more = Counter(rows) - Counter(after[what]), Counter(after[what]) - Counter(rows)
        told += [f"MLflow's {what} lack {row:.160}" for row in lacking]
        told += [f"MLflow's {what} have also {row:.160}" for row in more]
    return told


def _copy_database(source: Path, target: Path) -> None:
    """Make a database equal to another, also while a server has it open."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(group, signal.SIGKILL)  # it has no group of its own yet


if __name__ == "__main__":
    main()
