"""The pipeline in containers of this machine, as far as no container runs. The rest is in tests/container."""

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kfp.local import docker_task_handler

from components.cli.main import run
from pipelines.local.containers import Attempt, Containers, StepFailed

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("code", "ours"), [(1, 6), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (137, 6)])
def test_the_exit_code_is_the_step_s_where_it_means_something(code: int, ours: int) -> None:
    failed = StepFailed(Attempt("task", code, ("why",)))
    assert failed.exit_code == ours
    assert f"task ended with exit code {code}" in str(failed)
    assert str(failed).endswith(": why")


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["--archive", "nowhere.zip"], 2, "no such archive"),
        (["--archive", "params.yaml", "--image", "UPPER CASE"], 2, "image"),
        (["--archive", "params.yaml"], 5, "No container engine answers at unix:///nowhere.sock"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    hint: str,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert run(["pipeline", "run-local", "--root", str(tmp_path), *words]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert hint in line


def test_a_socket_of_another_user_is_told_no_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    place = tmp_path / "podman.sock"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(place))
        engine.listen()
        if (owner := os.getuid()) == 0:
            owner = 65_000
            os.chown(place, owner, owner)
        else:  # who may not give a file away is another user instead
            monkeypatch.setattr(os, "getuid", lambda: owner + 1)
        engine.settimeout(0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{place}")
        assert run(["pipeline", "run-local", "--root", str(tmp_path / "root"), "--archive", "params.yaml"]) == 2
        with pytest.raises(BlockingIOError):
            engine.accept()
    (line,) = capfd.readouterr().err.splitlines()
    assert f"belongs to another user ({owner})" in line


class Engine:
    """A container engine whose containers end at once, with the code that is their last word."""

    def __init__(self) -> None:
        self.containers = self

    def create(self, image: str, words: list[str], **options: Any) -> Any:
        return SimpleNamespace(
            status="exited",
            attrs={"State": {"ExitCode": int(words[-1])}},
            start=lambda: None,
            logs=lambda: b"",
            remove=lambda force: None,
        )


def test_two_candidates_are_two_tasks(capfd: pytest.CaptureFixture[str]) -> None:
    """What one of them ends with is not what the other one is told to have ended with."""
    containers = Containers({})
    with containers.in_place_of_kfps():
        for task, code in {"train-vgg16": 2, "train-vgg19": 0}.items():
            told = json.dumps({"outputs": {"outputFile": f"/root/run/{task}/executor_output.json"}})
            command = ["mura", "train", "--executor-input", told, str(code)]
            assert docker_task_handler.run_docker_container(Engine(), "image", command, {}) == code
    assert [(each.task, each.code) for each in containers.attempts] == [("train-vgg16", 2), ("train-vgg19", 0)]
    assert "run-local: train-vgg19 done" in capfd.readouterr().err
