"""Whether the demonstration keeps its promises: floors of the networks, ceilings of trivial looks, minutes.

    python -m benchmarks.demo [--seeds 1 2 3] [--set train.candidates.vgg16.epochs=5 ...] [--archive-only]
        [--keep DIR] [--json]

For each seed the real thing runs, `dvc repro` with params.yaml's `seed` changed, in a temporary copy of the working
tree and of nothing that was made in it. Test AUROCs by study stand beside their floors: 0.85 for each network, 0.90 for
the custom CNN. Two looks that know nothing of bones stand beside their ceiling, 0.75: a logistic regression on 16 x 16
grey levels, and the brightest of them. `metal` is the share of abnormal studies with hardware. `minutes` is the whole
of `dvc repro`, on cores that should be idle otherwise: 6 are the goal, 10 are allowed. `ratio` is the smallest distance
from a floor or a ceiling; below 0 the exit code is 1. `--archive-only` draws and looks, and trains nothing: a minute a
seed.

A second table says where the time goes: seconds by the clock and of the processors (user and system) of each stage, and
the AUROC on tuning that the model kept. `--set` tries other choices of params.yaml. Choose by tuning, and by seconds of
the processors where others use the machine too. With `--keep`, what was made stays in DIR/SEED, for other benchmarks.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from benchmarks import harness
from components.artifacts.trained_model import TrainedModel
from components.base import workers

FLOOR = 0.85
FLOORS = {"custom_cnn": 0.90}
CEILING = 0.75
MINUTES = 10.0
SIDE = 16  # of a thumbnail, pixels
PARAMS = "params.yaml"
ARCHIVE = "data/phantom.zip"
EVALUATIONS, MODELS = "artifacts/evaluation", "artifacts/model"
TIMES, DEMO = "times", "demo"
ROOT = Path(__file__).parents[1]


class Thumbnails(NamedTuple):
    """One split as a look would see it."""

    pixels: npt.NDArray[np.float32]  # [N, 256], grey levels
    abnormal: npt.NDArray[np.bool_]  # [N]
    study: list[str]  # N names


def main() -> int:
    """Measure and print; 1 if a floor or a ceiling is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="[default: 1 2 3]")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="choices of params.yaml to try")
    parser.add_argument("--archive-only", action="store_true", help="draw and look, train nothing")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where artifacts and records of MLflow stay, by seed")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    flags = parser.parse_args()
    runs = []
    for seed in flags.seeds:
        with harness.folder() as folder:
            runs.append(measure(folder, [*flags.set, f"seed={seed}"], seed, flags.archive_only))
            if flags.keep:
                shutil.copytree(folder / DEMO, flags.keep / str(seed))
    margin = min(each for run in runs for each in margins(run))
    result = {"revision": _revision(), "cores": workers.cores(), "runs": runs, "ratio": round(margin, 3)}
    names = list(dict.fromkeys(name for run in runs for name in run["auroc"]))
    bounds = [f">= {FLOORS.get(name, FLOOR):.2f}" for name in names]
    head = ("seed", *names, "thumbnail", "brightest", "metal", "minutes")
    goal = ("wanted", *bounds, f"< {CEILING:.2f}", f"< {CEILING:.2f}", "<= 0.50", f"<= {MINUTES:.0f}")
    rows = [
        (
            str(run["seed"]),
            *(f"{run['auroc'][name]:.3f}" for name in names),
            f"{run['thumbnail']:.3f}",
            f"{run['brightest']:.3f}",
            f"{run['metal_share']:.2f}",
            f"{run['minutes']:.1f}",
        )
        for run in runs
    ]
    title = f"test AUROC by study at revision {result['revision']}, {workers.cores()} cores, {_processor()}"
    harness.tell(result, title, [head, *rows, goal], flags.json)
    if not flags.json:
        stages: list[tuple[object, ...]] = [("stage", "seed", "seconds", "of processors", "tuning AUROC")]
        for run in runs:
            for name, took in run["stages"].items():
                auroc = run["tuning"].get(name.removeprefix("train "))
                known = f"{auroc:.3f}" if auroc and name.startswith("train ") else ""
                stages.append((name, run["seed"], f"{took['seconds']:.1f}", f"{took['cpu']:.1f}", known))
            total = sum(took["cpu"] for took in run["stages"].values())
            stages.append(("all", run["seed"], f"{60 * run['minutes']:.1f}", f"{total:.1f}", ""))
        harness.tell(result, "where the time goes", stages, as_json=False)
    return 0 if margin >= 0 else 1


def measure(folder: Path, choices: list[str], seed: int, archive_only: bool) -> dict[str, Any]:
    """Run the demonstration with some choices in an empty folder, and look at its archive."""
    here = folder / DEMO
    copy(here)
    choose(here / PARAMS, choices)
    target = ["data/dvc.yaml:phantom"] if archive_only else []
    environment = _here(here) | {"PATH": f"{clocked(folder)}{os.pathsep}{os.environ['PATH']}"}
    used = harness.run([Path(sys.executable).with_name("dvc"), "repro", *target], cwd=here, environment=environment)
    looks = look(here / ARCHIVE)
    return {
        "seed": seed,
        "auroc": aurocs(here / EVALUATIONS),
        **looks,
        "metal_share": metal_share(here / ARCHIVE),
        "minutes": round(used.seconds / 60, 2),
        "tuning": kept(here / MODELS),
        "stages": stages(folder / TIMES),
    }


def choose(params: Path, choices: list[str]) -> None:
    """Change a file of parameters, by `train.candidates.vgg16.epochs=5`."""
    document = yaml.safe_load(params.read_text(encoding="utf-8"))
    for choice in choices:
        key, _, value = choice.partition("=")
        *sections, name = key.split(".")
        section = document
        for each in sections:
            section = section[each]
        section[name] = yaml.safe_load(value)
    params.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def clocked(folder: Path) -> Path:
    """A directory with a `mura` that writes down what each of its runs takes, in the file TIMES of the folder."""
    commands = folder / "bin"
    commands.mkdir()
    script = commands / "mura"
    script.write_text(
        "#!/bin/bash\n"
        f'TIMEFORMAT="%R %U %S $*"\n'
        "exec 3>&2\n"
        f'{{ time {shlex.join(harness.mura())} "$@" 2>&3; }} 2>> {shlex.quote(str(folder / TIMES))}\n'
    )
    script.chmod(0o755)
    return commands


def stages(times: Path) -> dict[str, dict[str, float]]:
    """Seconds of each stage, by the clock and of the processors."""
    found = {}
    for line in times.read_text(encoding="utf-8").splitlines():
        seconds, user, system, *words = line.split()
        candidate = words[words.index("--candidate") + 1] if "--candidate" in words else ""
        found[f"{words[0]} {candidate}".strip()] = {"seconds": float(seconds), "cpu": float(user) + float(system)}
    return found


def kept(models: Path) -> dict[str, float]:
    """Tuning AUROC by study of each candidate's weights."""
    cards = sorted(models.glob("*/card.json"))
    return {card.parent.name: TrainedModel.read(card.parent).facts.tuning["auroc"] for card in cards}


def margins(run: dict[str, Any]) -> list[float]:
    """How far a run is above its floors and below its ceilings."""
    above = [auroc - FLOORS.get(name, FLOOR) for name, auroc in run["auroc"].items()]
    return [*above, CEILING - run["thumbnail"], CEILING - run["brightest"], 0.5 - run["metal_share"]]


def look(archive: Path) -> dict[str, float]:
    """Test AUROCs, by study, of two looks at thumbnails that are fitted on the train split only."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = thumbnails(archive)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(train.pixels, train.abnormal)

    def auroc(score: npt.NDArray[Any]) -> float:
        _, first, study = np.unique(test.study, return_index=True, return_inverse=True)
        mean = np.bincount(study, score) / np.bincount(study)
        return float(roc_auc_score(test.abnormal[first], mean))

    brightest = auroc(test.pixels.max(axis=1))
    return {
        "thumbnail": round(auroc(model.decision_function(test.pixels)), 3),
        # Whether bright or dark means abnormal is chosen on the test split, in the look's favour.
        "brightest": round(max(brightest, 1 - brightest), 3),
    }


def thumbnails(archive: Path) -> tuple[Thumbnails, Thumbnails]:
    """All images of the train and the test split, small."""
    from components.xray import png, square

    found: dict[str, list[tuple[npt.NDArray[np.uint8], bool, str]]] = defaultdict(list)
    with zipfile.ZipFile(archive) as members:
        for member in harness.images_in(archive):
            study = member.rpartition("/")[0]
            grey = png.decode(members.read(member)).grey
            found[member.split("/")[1]].append((square.fit(grey, SIDE), study.endswith("_positive"), study))
    made = []
    for split in ("train", "valid"):
        pixels, abnormal, study = zip(*found[split], strict=True)
        made.append(Thumbnails(np.float32(pixels).reshape(len(pixels), -1), np.array(abnormal), list(study)))
    return made[0], made[1]


def metal_share(archive: Path) -> float:
    """Share of the abnormal studies that have metal on any view."""
    from components.phantom import truth

    metal: dict[str, int] = defaultdict(int)
    for row in truth.read(truth.path_beside(archive)):
        metal[row.member.rpartition("/")[0]] |= row.metal
    return round(sum(metal.values()) / len(metal), 3)


def aurocs(evaluations: Path) -> dict[str, float]:
    """Test AUROC by study of each candidate that was evaluated."""
    files = sorted(evaluations.glob("*/test.json"))
    return {file.parent.name: json.loads(file.read_text())["test"]["auroc"]["value"] for file in files}


def copy(here: Path) -> None:
    """A repository of its own with the files of the working tree that Git knows or would add."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, here / name)
    # DVC wants a repository.
    subprocess.run(["git", "init", "-q"], cwd=here, check=True)


def _here(here: Path) -> dict[str, str]:
    """An environment in which `mura` is the copy's, and keeps its records there."""
    return {**os.environ, "PYTHONPATH": str(here), "MLFLOW_TRACKING_URI": f"sqlite:///{here}/mlflow.db"}


def _revision() -> str:
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "an unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    amx = any("amx_bf16" in line for line in lines if line.startswith("flags"))
    return f"{names[0] if names else 'an unknown processor'} {'with' if amx else 'without'} AMX"


if __name__ == "__main__":
    sys.exit(main())
