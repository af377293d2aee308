"""`dvc repro` on a small phantom: candidates as they are named, and reruns of what a change can affect."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.artifacts.promotion import Promotion
from components.artifacts.registration import Registration

ROOT = Path(__file__).parents[1]
# The whole graph runs in a fixture: two trainings, two evaluations, and MLflow.
pytestmark = pytest.mark.timeout(900)
BIN = Path(sys.executable).parent
ONE = {"architecture": "custom_cnn"}
OTHER = {"architecture": "custom_cnn", "learning_rate": 0.003}


class Project:
    """A copy of the project under git and DVC, with small choices."""

    def __init__(self, path: Path) -> None:
        self.path = path
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, path / name)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "GIT"))}
        self.environment |= {
            # The copy's own code, also for `mura`.
            "PYTHONPATH": str(path),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{path}/mlflow.db",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self.run("git", "init", "--quiet")

    def run(self, *words: str, code: int = 0) -> str:
        """What a command prints on both streams."""
        done = subprocess.run(
            words, cwd=self.path, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def choose(self, **candidates: dict[str, Any]) -> None:
        """Name the candidates, and make everything small."""
        file = self.path / "params.yaml"
        document = yaml.safe_load(file.read_text())
        document["phantom"]["studies"] = 60
        document["shard"]["image_size"] = 32
        document["train"]["default"] |= {"epochs": 1, "precision": "float32"}
        document["train"]["candidates"] = candidates
        document["promote"]["min_auroc"] = 0.0
        file.write_text(yaml.safe_dump(document, sort_keys=False))

    def outdated(self) -> set[str]:
        """Stages whose code changed, once the digests are written anew."""
        self.run("dvc", "repro", "--quiet", "--single-item", "code")
        status = json.loads(self.run("dvc", "status", "--json"))
        return {stage for stage, changes in status.items() if "artifacts/code" in json.dumps(changes)} - {"code"}

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file of the copy."""
        text = (self.path / name).read_text()
        assert old in text, f"{name} has no {old!r}"
        (self.path / name).write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two candidates of one architecture, from the archive to the champion."""
    made = Project(tmp_path_factory.mktemp("project"))
    made.choose(slow=ONE, fast=OTHER)
    made.run("dvc", "repro", "--quiet")
    return made


def test_one_architecture_with_two_recipes_gives_two_candidates(project: Project) -> None:
    artifacts = project.path / "artifacts"
    registered = Registration.read(artifacts / "registration").facts.versions
    assert [(each.candidate, each.architecture) for each in registered] == [
        ("slow", "custom_cnn"),
        ("fast", "custom_cnn"),
    ]
    assert len({each.model_digest for each in registered}) == len({each.version for each in registered}) == 2
    page = (artifacts / "promotion" / "report.html").read_text()
    assert "slow (custom CNN)" in page
    assert "fast (custom CNN)" in page
    shown = project.run("dvc", "metrics", "show")
    assert "artifacts/evaluation/slow/summary.json" in shown
    assert "artifacts/evaluation/fast/summary.json" in shown
    assert {"artifacts/model/fast/curves.csv", "artifacts/evaluation/slow/plots/roc.csv"} <= set(
        re.findall(r"artifacts/[\w./]+\.csv", project.run("dvc", "plots", "show", "--json"))
    )


def test_doing_it_again_runs_only_what_always_runs(project: Project) -> None:
    said = project.run("dvc", "repro")
    assert set(re.findall(r"Running stage '([^']+)'", said)) == {"code", "register", "promote"}
    assert "is already the champion" in said


REWORDED = {
    "tracking": ("components/tracking/server.py", "MLflow", "MLFLOW"),
    "errors": ("components/base/errors.py", "The memory is too small", "There is too little memory"),
    "a page's template": ("components/evaluate/report.html", "<body", "<body "),
    "the promotion's page": ("components/promote/report.html", "<body", "<body "),
    "progress": ("components/base/progress.py", "LONG = 500", "LONG = 501"),
}


@pytest.mark.parametrize("what", REWORDED)
def test_another_wording_reruns_no_training(project: Project, what: str) -> None:
    name, old, new = REWORDED[what]
    before = (project.path / name).read_text()
    try:
        if old not in before:
            (project.path / name).write_text(before.replace("{%", "\n{%", 1))
        else:
            project.replace(name, old, new)
        assert not {stage for stage in project.outdated() if stage.startswith("train@")}
    finally:
        (project.path / name).write_text(before)


@pytest.mark.parametrize(
    ("name", "old", "new", "stages"),
    [
        (
            "components/network/architectures.py",
            "\n\ndef ",
            "\n\nNEW = 1\n\n\ndef ",
            {"train@slow", "train@fast", "evaluate@slow", "evaluate@fast", "register", "promote"},
        ),
        ("components/promote/decision.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ", {"promote"}),
        ("components/promote/decision.py", '"""', '"""In other words: ', set()),
        ("components/shard/tfrecord.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ", {"shard"}),
    ],
    ids=["architectures", "promote", "a docstring", "tfrecord"],
)
def test_a_change_of_code_reruns_what_it_can_affect(
    project: Project, name: str, old: str, new: str, stages: set[str]
) -> None:
    before = (project.path / name).read_text()
    try:
        assert old in before
        (project.path / name).write_text(before.replace(old, new, 1))
        assert project.outdated() == stages
    finally:
        (project.path / name).write_text(before)


def test_a_candidate_that_was_removed_is_neither_registered_nor_reported(project: Project) -> None:
    project.choose(fast=OTHER)
    said = project.run("dvc", "repro")
    assert set(re.findall(r"Running stage '([^']+)'", said)) == {"code", "register", "promote"}
    artifacts = project.path / "artifacts"
    assert [each.candidate for each in Registration.read(artifacts / "registration").facts.versions] == ["fast"]
    assert not (artifacts / "registration" / "slow.json").exists()
    promotion = Promotion.read(artifacts / "promotion").facts
    assert [each.candidate for each in promotion.candidates] == ["fast"]
    assert "slow" not in project.run("dvc", "metrics", "show")
    assert "evaluation/slow" not in project.run("mura", "summary")
