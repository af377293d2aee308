"""Kill a step at random moments: it must leave no incomplete artifact, and give the same bytes when it runs again.

    python -m benchmarks.kills [ingest|validate|shard] [--kills 50] [--images 300] [--archive phantom.zip] [--json]

The step runs once without a kill, which gives the artifact's digest and the run time. Then it is started many times
with the same `--out`, and its process group gets SIGKILL after a random part of that time. Every second time, `--out`
contains an earlier artifact. After each kill the artifact must be absent, or complete with that digest. At last the
command runs without a kill: it must give the same digest and leave no other files. `ratio` is the share of kills that
passed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from components.artifacts.artifact import Artifact
from components.artifacts.manifest import Manifest, ValidManifest
from components.artifacts.shards import Shards
from components.base.errors import DataRefused, UsageError

STEPS = ["ingest", "validate", "shard"]
SHARD_PARAMS = '{"image_size": 64, "images_per_shard": 32}'


@dataclass(frozen=True)
class Killed:
    """The result of killing a step."""

    kills: int
    """SIGKILLs before the end of the step."""
    seconds: float
    """Run time without a kill."""
    torn: tuple[str, ...]
    """Kills after which the artifact was incomplete or another one, in words."""
    same: bool
    """Whether the last run gave the same digest and left no other files."""


def kill(command: Sequence[object], kind: type[Artifact[Any]], out: Path, kills: int, seed: int = 1) -> Killed:
    """Kill a step at random moments.

    Args:
        command: the step without `--out`.
        kind: class of its artifact.
        out: the artifact's directory. Its parent must contain nothing else.
        kills: number of kills.
        seed: decides the moments.
    """
    draw = random.Random(seed)
    words = [*map(str, command), "--out", str(out)]
    started = time.monotonic()
    _start(words).communicate()
    seconds = time.monotonic() - started
    digest = kind.read(out).digest
    torn, hits = [], 0
    while hits < kills:
        if hits % 2:
            shutil.rmtree(out, ignore_errors=True)
        process, wait = _start(words), draw.uniform(0, seconds)
        try:
            process.wait(wait)
            continue  # this time it was quicker
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            hits += 1
        try:
            if (found := kind.read(out).digest) != digest:
                torn.append(f"after {wait:.2f} s another artifact, {found[:12]}")
        except UsageError:
            continue  # not there: nothing that a reader could take for it
        except DataRefused as error:
            torn.append(f"after {wait:.2f} s: {error}")
    _start(words).communicate()
    same = kind.read(out).digest == digest and [path.name for path in out.parent.iterdir()] == [out.name]
    return Killed(hits, seconds, tuple(torn), same)


def main() -> None:
    """Kill and print."""
    parser = harness.parser(__doc__ or "", images=300)
    parser.add_argument("step", nargs="*", choices=STEPS, default=STEPS)
    parser.add_argument("--kills", type=int, default=50, help="of each step [default: %(default)s]")
    flags = parser.parse_args()
    results: dict[str, Killed] = {}
    with harness.archive(flags) as (archive,), harness.folder() as folder:
        mura = [*harness.mura(), "--quiet"]
        ingest = [*mura, "ingest", "--archive", archive, "--seed", "1"]
        if "ingest" in flags.step:
            (folder / "a").mkdir()
            results["ingest"] = kill(ingest, Manifest, folder / "a" / "manifest", flags.kills)
        if {"validate", "shard"} & set(flags.step):
            harness.run([*ingest, "--out", folder / "manifest"])
        prove = [*mura, "validate", "--archive", archive, "--manifest", folder / "manifest"]
        if "validate" in flags.step:
            (folder / "b").mkdir()
            results["validate"] = kill(prove, ValidManifest, folder / "b" / "valid", flags.kills)
        if "shard" in flags.step:
            (folder / "c").mkdir()
            harness.run([*prove, "--out", folder / "valid"])
            shard = [*mura, "shard", "--archive", archive, "--manifest", folder / "valid", "--params", SHARD_PARAMS]
            results["shard"] = kill(shard, Shards, folder / "c" / "shards", flags.kills)
    kills, torn = (sum(each) for each in zip(*((r.kills, len(r.torn)) for r in results.values()), strict=True))
    good = all(result.same for result in results.values())
    told = {name: {**vars(result), "torn": list(result.torn)} for name, result in results.items()}
    rows: list[tuple[object, ...]] = [("step", "kills", "seconds undisturbed", "torn", "same bytes in the end")]
    rows += [(name, r.kills, r.seconds, len(r.torn), "yes" if r.same else "no") for name, r in results.items()]
    harness.tell(
        {"steps": told, "ratio": round((kills - torn) / kills, 3) if good else 0.0}, "kill -9", rows, flags.json
    )
    for line in (line for result in results.values() for line in result.torn):
        print(line, file=sys.stderr)


def _start(words: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


if __name__ == "__main__":
    main()
