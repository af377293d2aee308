"""A copy of the project under git and DVC, in which `dvc repro` runs."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml
from protocols import NO_FLOORS

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


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
        self.run("git", "add", "-A")
        # DVC's experiments are commits, and want to know whose.
        self.run("git", "config", "user.name", "a")
        self.run("git", "config", "user.email", "a@b")
        self.run("git", "commit", "--quiet", "-m", "as cloned")

    def start(self, *words: str, folder: str = "") -> "subprocess.Popen[str]":
        return subprocess.Popen(
            words,
            cwd=self.path / folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, code: int = 0, folder: str = "") -> str:
        """What a command prints on both streams."""
        process = self.start(*words, folder=folder)
        told = process.communicate()[0]
        assert process.returncode == code, told
        return told

    def choose(self, ensembles: dict[str, Any] | None = None, /, **candidates: dict[str, Any]) -> None:
        """Name the candidates and the ensembles, and make everything small."""
        file = self.path / "params.yaml"
        document = yaml.safe_load(file.read_text())
        document["phantom"]["studies"] = 40
        document["shard"]["image_size"] = 32
        document["train"]["default"] |= {"epochs": 1, "precision": "float32"}
        document["train"]["candidates"] = candidates
        document["ensembles"] = ensembles or {}
        document["stress"]["candidates"] = []
        document["protocol"] |= NO_FLOORS
        file.write_text(yaml.safe_dump(document, sort_keys=False))

    def outdated(self) -> set[str]:
        """Stages that the next run would run because they changed, once their settings are written anew."""
        self.run("dvc", "repro", "--quiet", "--single-item", "settings")
        status = json.loads(self.run("dvc", "status", "--json"))
        return {stage for stage, changes in status.items() if changes != ["always changed"]}

    def asks(self, query: str) -> list[tuple[Any, ...]]:
        """What MLflow's database answers."""
        with closing(sqlite3.connect(f"file:{self.path}/mlflow.db?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    @contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """Edit a file of the copy, and change it back."""
        text = (self.path / name).read_text()
        assert old in text, f"{name} has no {old!r}"
        (self.path / name).write_text(text.replace(old, new, 1))
        yield
        (self.path / name).write_text(text)
