"""Candidates as tasks of a Slurm array: two at once, one of them queued again in its middle, then `mura collect`."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import one_node
import pytest
from dvc_project import Project

from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrainedModel

pytestmark = pytest.mark.timeout(900)
SMALL = {"architecture": "custom_cnn", "batch_size": 32}
# It is stopped after an epoch, and has many, so that it cannot be done before.
LONG, EPOCHS = "long", 12
CANDIDATES = {
    LONG: SMALL | {"epochs": EPOCHS, "patience": EPOCHS},
    "plain": SMALL,
    "turned": SMALL | {"rotation": 30},
    "dropped": SMALL | {"dropout": 0.5},
}
KINDS = {"model": TrainedModel, "evaluation": Evaluation}
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, slurm: one_node.Slurm) -> Project:
    """A project with shards, and the environment of somebody who can submit."""
    made = Project(tmp_path_factory.mktemp("project"))
    made.choose(**CANDIDATES)
    path = made.environment["PATH"]
    made.environment |= slurm.environment | {"PATH": f"{path}:/usr/sbin"}
    made.run("dvc", "repro", "--quiet", "shard")
    return made


def digests(folder: Path) -> dict[str, str]:
    """Of all models and evaluations below a directory."""
    return {
        f"{kind}/{name}": reader.read(folder / kind / name).digest
        for kind, reader in KINDS.items()
        for name in CANDIDATES
    }


def submit(project: Project, *options: str) -> str:
    """Submit the array, without MLflow as by default; its number."""
    words = ["env", "-u", "MLFLOW_TRACKING_URI", "infra/slurm/submit.sh"]
    told = project.run(*words, "runs/first", "--parsable", "--cpus-per-task=1", *options)
    return told.strip()


def test_an_array_makes_what_dvc_makes(project: Project, slurm: one_node.Slurm) -> None:
    out = project.path / "runs" / "first"
    job = submit(project)
    most = _queue_again(slurm, job, out)
    most = max(most, _wait(slurm, job, out))
    assert most == 2
    assert slurm.restarts(job, 0) == 1
    assert [slurm.restarts(job, task) for task in (1, 2, 3)] == [0, 0, 0]
    log = (out / "logs" / f"{job}_0.log").read_text()
    assert (went_on := re.search(r"train: long goes on after epoch (\d+)", log)), log
    assert 1 <= int(went_on[1]) < EPOCHS

    # What is there is not made again.
    again = submit(project, "--array=1")
    _wait(slurm, again, out)
    log = (out / "logs" / f"{again}_1.log").read_text()
    assert log.count("is there, made of these inputs") == 2

    project.run("mura", "collect", "runs/first")
    status = json.loads(project.run("dvc", "status", "--json"))
    never_run = {"register", "promote"}
    assert {stage: why for stage, why in status.items() if why != ["always changed"]}.keys() <= never_run
    told = project.run("dvc", "repro", "--dry")
    assert set(re.findall(r"Running stage '([^']+)'", told)) == {"settings", "register", "promote"}
    collected = digests(project.path / "artifacts")
    assert collected == digests(out)

    # All of them would take as long again.
    stages = [f"train@{LONG}", f"evaluate@{LONG}"]
    told = project.run("dvc", "repro", "--force", "--single-item", *stages)
    assert re.findall(r"Running stage '([^']+)'", told) == stages
    assert digests(project.path / "artifacts") == collected


# In place of `mura`: the first candidate's training waits to be ended, the second's is refused.
STAND_IN = """\
#!/usr/bin/env bash
step=$1 index=$5
[[ $step.$index != train.1 ]] || exit 3
if [[ $step.$index == train.0 && ! -e saved ]]; then
    trap 'sleep 1; touch saved; exit 143' TERM
    touch began
    while :; do sleep 0.1; done
fi
"""


def test_a_task_near_its_time_limit_is_queued_again_and_a_code_is_the_tasks_own(
    project: Project, slurm: one_node.Slurm
) -> None:
    stand_in = project.path / "stand_in"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    out = project.path / "runs" / "second"
    words = ["env", f"MURA={stand_in}", "infra/slurm/submit.sh", "runs/second", "--parsable", "--array=0-2"]
    job = project.run(*words).strip()
    _until((project.path / "began").exists, slurm, job, out)
    # As Slurm itself does it, where it knows the limit.
    slurm.asks("scancel", "--signal=USR1", "--batch", f"{job}_0")
    _until(lambda: set(slurm.tasks(job).values()) <= ENDED, slurm, job, out)
    assert slurm.tasks(job) == {0: "COMPLETED", 1: "FAILED", 2: "COMPLETED"}
    # It had the time to save.
    assert (project.path / "saved").exists()
    assert slurm.restarts(job, 0) == 1
    assert "ExitCode=3:0" in slurm.asks("scontrol", "show", "job", f"{job}_1")


def test_without_settings_nothing_is_submitted(project: Project) -> None:
    words = ["env", "ARTIFACTS=nowhere", "infra/slurm/submit.sh", "runs/third"]
    assert "error: nowhere/settings: no candidates. Run `dvc repro shard`" in project.run(*words, code=2)


def test_what_is_missing_is_told_before_anything_is_written(project: Project) -> None:
    assert "error: expected OUT, a directory for the results" in project.run("infra/slurm/submit.sh", code=2)
    words = ["infra/slurm/submit.sh", "--array=2"]
    assert "error: expected OUT, a directory for the results" in project.run(*words, code=2)
    only_bash = project.path / "only_bash"
    only_bash.mkdir()
    (only_bash / "bash").symlink_to("/bin/bash")
    words = ["env", f"PATH={only_bash}", "infra/slurm/submit.sh", "runs/third"]
    assert "error: sbatch: not found" in project.run(*words, code=5)
    assert not (project.path / "runs" / "third").exists()


def _queue_again(slurm: one_node.Slurm, job: str, out: Path) -> int:
    """Stop the first task once it has done an epoch; how many ran at once."""
    checkpoint = out / "model" / f".{LONG}.partial" / "checkpoint"
    most = _until(lambda: bool(list(checkpoint.glob("epoch-*.npz"))), slurm, job, out)
    slurm.asks("scontrol", "requeue", f"{job}_0")
    return most


def _wait(slurm: one_node.Slurm, job: str, out: Path) -> int:
    """Wait for all tasks to be done; how many ran at once."""
    most = _until(lambda: set(slurm.tasks(job).values()) <= ENDED, slurm, job, out)
    assert set(slurm.tasks(job).values()) == {"COMPLETED"}, _told(slurm, job, out)
    return most


def _until(there: Callable[[], bool], slurm: one_node.Slurm, job: str, out: Path) -> int:
    """Wait; how many tasks ran at once."""
    most, deadline = 0, time.monotonic() + 300
    while not there():
        assert time.monotonic() < deadline, _told(slurm, job, out)
        most = max(most, _at_once(slurm, job))
        time.sleep(0.1)
    return most


def _at_once(slurm: one_node.Slurm, job: str) -> int:
    return list(slurm.tasks(job).values()).count("RUNNING")


def _told(slurm: one_node.Slurm, job: str, out: Path) -> str:
    logs = "\n".join(f"{file.name}:\n{file.read_text()}" for file in sorted((out / "logs").glob("*.log")))
    return f"{slurm.tasks(job)}\n{logs}\n{slurm.logs()}"
