"""SIGTERM, with which containers, clusters and people end a command."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import free_port

pytestmark = pytest.mark.long

MURA = Path(sys.executable).with_name("mura")
INGEST = ("ingest", "--archive", "s3://bucket/a.zip", "--seed", "1", "--params", '{"tuning_fraction": 0.25}')
# The first process of a container, where one may make one; else any process.
FIRST = ("unshare", "--pid", "--fork", "--kill-child")
MAKES_FIRST = bool(shutil.which("unshare")) and not subprocess.run([*FIRST, "true"], capture_output=True).returncode


@pytest.fixture
def start(tmp_path: Path, no_mlflow: pytest.MonkeyPatch) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a step that waits for S3, where nobody answers, and returns when it waits."""
    no_mlflow.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    no_mlflow.setenv("AWS_ACCESS_KEY_ID", "a")
    no_mlflow.setenv("AWS_SECRET_ACCESS_KEY", "b")
    no_mlflow.setenv("MURA_PATIENCE", "300")

    def started(*before: str) -> "subprocess.Popen[str]":
        command = [*before, MURA, *INGEST, "--out", tmp_path / "manifest"]
        step = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert step.stderr is not None
        while line := step.stderr.readline():
            if "does not answer" in line:
                return step
        raise AssertionError(f"the step does not wait, and ended with {step.wait()}")

    return started


def ended(step: "subprocess.Popen[str]", process: int) -> tuple[int, str]:
    """The exit code and the last words of a step after SIGTERM."""
    os.kill(process, signal.SIGTERM)
    try:
        _, told = step.communicate(timeout=60)
    finally:
        step.kill()
    return step.returncode, told


def test_a_step_says_that_it_was_ended_and_leaves_no_artifact(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    step = start()
    assert ended(step, step.pid) == (143, "terminated\n")
    assert not (tmp_path / "manifest").exists()


@pytest.mark.longest
def test_the_first_process_of_a_container_ends_too(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    """To process 1 the system gives no signal that it has no handler for."""
    step = start(*(FIRST if MAKES_FIRST else ()))
    process = step.pid
    if MAKES_FIRST:
        process = int(Path(f"/proc/{step.pid}/task/{step.pid}/children").read_text())
    assert ended(step, process) == (143, "terminated\n")
