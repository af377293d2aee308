"""Two parts of ingest and of shard at the same time, compared with one part alone, each on one core.

    python -m benchmarks.parts [--images 1000] [--archive phantom.zip] [--json]

Each part has one worker, on a core of its own, as on a machine of its own. Part 1/2 runs alone, then both run together,
then part 1/2 again. `ratio` is the rate of both together divided by twice the rate of the one alone, the lower of
ingest and shard. Below 1, parts disturb each other or read more than their share.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness

SHARD_PARAMS = '{"image_size": 320, "images_per_shard": 64}'


def main() -> None:
    """Measure and print."""
    flags = harness.parser(__doc__ or "", images=1000).parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed")
    with harness.archive(flags) as (archive,), harness.folder() as folder:
        mura = [*harness.mura(), "--quiet"]
        ingest = [*mura, "ingest", "--archive", archive, "--seed", "1"]
        harness.run([*ingest, "--out", folder / "manifest"])
        prove = [*mura, "validate", "--archive", archive, "--manifest", folder / "manifest"]
        harness.run([*prove, "--out", folder / "valid"])
        shard = [*mura, "shard", "--archive", archive, "--manifest", folder / "valid", "--params", SHARD_PARAMS]
        result: dict[str, Any] = {
            "ingest": compare(ingest, folder / "ingest", cores),
            "shard": compare(shard, folder / "shard", cores),
        }
    result["ratio"] = min(result[step]["ratio"] for step in ("ingest", "shard"))
    head = ("step", "one part alone, s", "two together, s", "of twice the rate")
    rows = [(step, *(result[step][name] for name in ("alone", "together", "ratio"))) for step in ("ingest", "shard")]
    harness.tell(result, "two parts, one core each", [head, *rows], flags.json)


def compare(command: Sequence[object], out: Path, cores: Sequence[int]) -> dict[str, float]:
    """Seconds of part 1/2 alone, the better of two, and of both parts together."""
    before = _together(command, out, cores[:1])
    both = _together(command, out, cores[:2])
    alone = min(before, _together(command, out, cores[:1]))
    return {"alone": round(alone, 2), "together": round(both, 2), "ratio": round(alone / both, 3)}


def _together(command: Sequence[object], out: Path, cores: Sequence[int]) -> float:
    """Seconds until a part of two on each of these cores is done."""
    started = time.perf_counter()
    running = []
    for number, core in enumerate(cores, 1):
        words = [*command, "--part", f"{number}/2", "--out", out / f"{time.time_ns()}"]
        pinned = ["taskset", "--cpu-list", str(core), *map(str, words)]
        running.append(subprocess.Popen(pinned, stdout=sys.stderr))
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError("a part failed")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
