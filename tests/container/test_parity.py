"""Three doors, one truth: what DVC makes here, containers make, and Kubeflow's pipeline makes, to the byte."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import ROOT, STRICT, Image

from components.artifacts.artifact import Artifact
from components.artifacts.manifest import Manifest, ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import WEIGHTS, TrainedModel

# Whole pipelines are run before the first of them.
pytestmark = pytest.mark.timeout(2000)

MADE: dict[str, type[Artifact[Any]]] = {
    "manifest": Manifest,
    "valid_manifest": ValidManifest,
    "shards": Shards,
    "model/custom_cnn": TrainedModel,
}
STAGES = ("settings", "data/dvc.yaml:phantom", "ingest", "validate", "shard", "train@custom_cnn")


@pytest.fixture(scope="module")
def small_params() -> str:
    """The committed choices for a tiny phantom and one epoch."""
    choices = yaml.safe_load((ROOT / "params.yaml").read_text())
    choices["phantom"]["studies"] = 60
    choices["shard"] = {"image_size": 32, "images_per_shard": 64}
    choices["ensembles"] = {}
    choices["train"]["candidates"] = {"custom_cnn": {"architecture": "custom_cnn", "epochs": 1, "patience": 1}}
    # One epoch teaches little.
    choices["protocol"] |= {"min_patients": 0, "min_auroc": 0.0, "min_sensitivity": 0.0, "max_calibration_excess": 1.0}
    return yaml.safe_dump(choices, sort_keys=False)


@pytest.fixture(scope="module")
def by_dvc(small_params: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dvc repro` on this machine."""
    here = tmp_path_factory.mktemp("dvc")
    shutil.copytree(ROOT / "components", here / "components", ignore=shutil.ignore_patterns("__pycache__"))
    place(here, small_params)
    shutil.copy(ROOT / "dvc.yaml", here)
    shutil.copy(ROOT / "data/dvc.yaml", here / "data")
    for words in (["dvc", "init", "--no-scm", "--quiet"], ["dvc", "repro", "train@custom_cnn"]):
        done = subprocess.run(words, cwd=here, env=surroundings(), capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    return here


@pytest.fixture(scope="module")
def by_container(by_dvc: Path, small_params: str, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands that DVC ran, word by word, each in a container of its own."""
    here = tmp_path_factory.mktemp("container")
    place(here, small_params)
    for words in commands(by_dvc):
        done = image.run(*words, options=(*STRICT, f"--volume={here}:/work"))
        assert done.returncode == 0, done.stdout + done.stderr
    return here


def commands(folder: Path) -> list[list[str]]:
    """The steps' commands in DVC's records, without the word `mura`."""
    found = {}
    for name in ("data/dvc.lock", "dvc.lock"):
        stages = yaml.safe_load((folder / name).read_text())["stages"]
        prefix = re.sub(r"\.lock$", ".yaml:", name) if "/" in name else ""
        found |= {prefix + stage: shlex.split(entry["cmd"].rpartition("mura ")[2]) for stage, entry in stages.items()}
    return [found[stage] for stage in STAGES]


@pytest.fixture(scope="module", params=["artifact", pytest.param("workspace", marks=pytest.mark.longest)])
def by_kubeflow(
    request: pytest.FixtureRequest,
    by_dvc: Path,
    small_params: str,
    image: Image,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The compiled pipeline, run locally, on the archive that DVC made; its shards by either way."""
    here = tmp_path_factory.mktemp("kubeflow")
    place(here, small_params)
    choices = yaml.safe_load(small_params)
    choices["labels"]["overlay"] = str(here / choices["labels"]["overlay"])
    choices["kubeflow"]["shards"] = request.param
    (here / "params.yaml").write_text(yaml.safe_dump(choices))
    env = surroundings() | {"DOCKER_HOST": f"unix://{here}/engine.sock"}
    with (here / "engine.log").open("w") as log:
        service = subprocess.Popen(
            [image.engine, "system", "service", "--time=0", env["DOCKER_HOST"]], stdout=log, stderr=log
        )
    try:
        words = ["mura", "pipeline", "run-local", "--image", image.reference, "--archive", f"{by_dvc}/data/phantom.zip"]
        words += ["--mount", str(here / "data"), "--root", "made"]
        done = subprocess.run(words, cwd=here, env=env, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        service.terminate()
        service.wait(20)
    return here / "made"


def place(here: Path, params: str) -> None:
    """Params and what lies in `data/` as it is cloned, in a directory that a container's user may write to."""
    (here / "data").mkdir()
    (here / "params.yaml").write_text(params)
    tracked = subprocess.run(["git", "ls-files", "data"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in set(tracked.stdout.split()) - {"data/dvc.yaml"}:
        shutil.copy(ROOT / name, here / name)
    for folder in (here, here / "data"):
        folder.chmod(0o777)


def surroundings() -> dict[str, str]:
    """This environment, with the commands of this project and without an MLflow of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return kept | {"PATH": path, "CUDA_VISIBLE_DEVICES": "-1", "DVC_NO_ANALYTICS": "1"}


@pytest.mark.parametrize("made", MADE)
def test_a_container_makes_what_dvc_makes(made: str, by_dvc: Path, by_container: Path) -> None:
    one, other = (MADE[made].read(folder / "artifacts" / made) for folder in (by_dvc, by_container))
    assert one.digest == other.digest


@pytest.mark.parametrize("made", MADE)
def test_kubeflow_makes_what_dvc_makes(made: str, by_dvc: Path, by_kubeflow: Path) -> None:
    kind = MADE[made]
    digests = {card["digest"] for card in cards(by_kubeflow, kind)}
    choices = yaml.safe_load((by_kubeflow.parent / "params.yaml").read_text())
    if kind is Shards and choices["kubeflow"]["shards"] == "workspace":
        # A volume ends with its run; the training that read it has written down what it was.
        assert not digests
        digests = {card["facts"]["shards_digest"] for card in cards(by_kubeflow, TrainedModel)}
    assert digests == {kind.read(by_dvc / "artifacts" / made).digest}


def cards(folder: Path, kind: type[Artifact[Any]]) -> list[dict[str, Any]]:
    """The cards of all artifacts of a kind, wherever Kubeflow has put them."""
    found = [json.loads(path.read_text()) for path in folder.rglob(kind.CARD)]
    return [card for card in found if card["kind"] == kind.__name__]


def test_the_weights_are_the_same_bytes(by_dvc: Path, by_container: Path, by_kubeflow: Path) -> None:
    folders = (by_dvc / "artifacts/model/custom_cnn", by_container / "artifacts/model/custom_cnn", by_kubeflow)
    # On Kubeflow an evaluation brings the model along.
    one, other, third = ({path.read_bytes() for path in folder.rglob(WEIGHTS)} for folder in folders)
    assert one == other == third
    assert len(one) == 1


def test_the_phantom_is_the_same_bytes(by_dvc: Path, by_container: Path) -> None:
    one, other = ((folder / "data/phantom.zip").read_bytes() for folder in (by_dvc, by_container))
    assert one == other
