"""What each choice of the training is worth: one changed at a time, on the demonstration's phantom, by tuning AUROC.

    python -m benchmarks.ablation [--candidate custom_cnn] [--seeds 1 2 3] [--change zoom=0.1 ...] [--shards DIR]
        [--into FILE] [--json]

Every change is trained at every seed, and so is the candidate as params.yaml has it. A seed decides weights, order,
augmentation and dropout; the archive and its splits stay those of seed 1. A figure is the AUROC by study on the tuning
split of the weights that a training keeps. The test split is never read. `difference` is the mean over the seeds of the
change minus the default at the same seed, `spread` the standard deviation of these differences, `t` the mean over its
standard error: with three seeds, |t| below 4.3 is within chance (95 %). `ratio` is the largest difference.

With `--into`, each training is written down as soon as it is done, and a benchmark that is started again goes on.
"""

import argparse
import json
import math
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks import harness
from benchmarks.demo import copy
from components.artifacts.trained_model import TrainedModel
from components.params.document import read_params

CHANGES = (
    "zoom=0.1",
    "shift=0.05",
    "brightness=0.1",
    "contrast=0.2",
    "rotation=0",
    "rotation=15",
    "flip=false",
    "averaging=0.5",
    "averaging=1",
    "clip_norm=1",
    "shrinkage=0",
    "shrinkage=0.5",
    "width=16",
    "width=48",
)
DEFAULT = "as it is"


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidate", default="custom_cnn", help="[default: %(default)s]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="[default: 1 2 3]")
    parser.add_argument("--change", nargs="+", default=CHANGES, help="NAME=VALUE[,NAME=VALUE] [default: all of ours]")
    parser.add_argument("--shards", type=Path, help="of the demonstration; they are made otherwise")
    parser.add_argument("--into", type=Path, help="a file of one JSON object a training")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    flags = parser.parse_args()
    found: dict[tuple[str, int], float] = {}
    with harness.folder() as folder, shards(flags.shards, folder) as packed:
        for seed in flags.seeds:
            for change in (DEFAULT, *flags.change):
                found[change, seed] = measured(flags, change, seed, packed, folder)
    rows: list[tuple[object, ...]] = [
        ("change", *(f"seed {seed}" for seed in flags.seeds), "difference", "spread", "t")
    ]
    results = {}
    for change in (DEFAULT, *flags.change):
        aurocs = [found[change, seed] for seed in flags.seeds]
        results[change] = compare(aurocs, [found[DEFAULT, seed] for seed in flags.seeds])
        figures = (f"{results[change][name]:+.4f}" for name in ("difference", "spread"))
        rows.append((change, *(f"{auroc:.4f}" for auroc in aurocs), *figures, f"{results[change]['t']:+.1f}"))
    best = max(result["difference"] for result in results.values())
    title = f"{flags.candidate}: tuning AUROC by study, one change at a time"
    told = {"candidate": flags.candidate, "seeds": flags.seeds, "changes": results, "ratio": round(best, 4)}
    harness.tell(told, title, rows, flags.json)


def compare(aurocs: list[float], default: list[float]) -> dict[str, Any]:
    """A change beside the default, seed by seed."""
    differences = [one - other for one, other in zip(aurocs, default, strict=True)]
    spread = statistics.stdev(differences) if len(differences) > 1 else 0.0
    mean = statistics.mean(differences)
    t = mean / (spread / math.sqrt(len(differences))) if spread else 0.0
    return {"auroc": aurocs, "difference": mean, "spread": spread, "t": t}


def measured(flags: argparse.Namespace, change: str, seed: int, packed: Path, folder: Path) -> float:
    """The tuning AUROC of a change at a seed: trained, or as an earlier benchmark wrote it down."""
    key = {"candidate": flags.candidate, "change": change, "seed": seed}
    if flags.into and flags.into.is_file():
        for line in flags.into.read_text(encoding="utf-8").splitlines():
            known = json.loads(line)
            if key.items() <= known.items():
                return float(known["auroc"])
    params = chosen(flags.candidate, change)
    out = folder / f"{flags.candidate} {change} {seed}"
    words = ["--shards", packed, "--params", json.dumps(params), "--seed", seed, "--out", out]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "off"}
    used = harness.run([*harness.mura(), "--quiet", "train", *words], environment=environment)
    facts = TrainedModel.read(out).facts
    result = {**key, **facts.tuning, "best_epoch": facts.best_epoch, "seconds": round(used.seconds, 1)}
    if flags.into:
        with flags.into.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
    return facts.tuning["auroc"]


def chosen(candidate: str, change: str) -> dict[str, Any]:
    """The candidate's parameters with a change, `zoom=0.1,shift=0.05`."""
    params: dict[str, Any] = read_params(Path("params.yaml")).train.candidates[candidate].model_dump(mode="json")
    for each in change.split(",") if change != DEFAULT else ():
        name, _, value = each.partition("=")
        if name not in params:
            raise SystemExit(f"{name}: expected one of {', '.join(params)}")
        params[name] = yaml.safe_load(value)
    return params


@contextmanager
def shards(given: Path | None, folder: Path) -> Iterator[Path]:
    """The demonstration's shards: those that are given, or made as `dvc repro` makes them."""
    if given:
        yield given
        return
    here = folder / "demo"
    copy(here)
    dvc = Path(harness.mura()[0]).with_name("dvc")
    harness.run([dvc, "repro", "shard"], cwd=here, environment={**os.environ, "PYTHONPATH": str(here)})
    yield here / "artifacts" / "shards"


if __name__ == "__main__":
    main()
