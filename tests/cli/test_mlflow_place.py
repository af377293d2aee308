"""A step that needs MLflow does not start in a pod unless somebody said where MLflow is, or that there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.cli import main

Refusal = Callable[..., tuple[int, str]]
NEEDED = {
    "train": ("--shards", "none", "--params", "{}"),
    "register": ("--model", "none", "--evaluation", "none"),
    "promote": ("--registration", "none"),
}
OTHERS = {
    "evaluate": ("--manifest", "none", "--shards", "none", "--model", "none"),
    "shard": ("--archive", "none", "--manifest", "none"),
}
PODS = ("KFP_RUN_ID", "KUBERNETES_SERVICE_HOST")


@pytest.fixture
def refusal(
    tmp_path: Path, no_mlflow: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a step on artifacts that are not there, in such surroundings: exit code, and the line of its error."""
    for name in (*PODS, "DVC_STAGE", "DVC_EXP_NAME", "TF_CONFIG"):
        no_mlflow.delenv(name, raising=False)
    no_mlflow.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())

    def run(step: str, **variables: str) -> tuple[int, str]:
        for name, value in variables.items():
            no_mlflow.setenv(name, value)
        code = main.run([step, *(NEEDED | OTHERS)[step], "--out", "out"])
        assert not list(tmp_path.glob("*.db"))
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
        return code, line

    return run


@pytest.mark.parametrize("step", NEEDED)
@pytest.mark.parametrize("pod", PODS)
@pytest.mark.parametrize("given", [{}, {"MLFLOW_TRACKING_URI": ""}])
def test_a_pod_that_was_not_told_is_refused(refusal: Refusal, step: str, pod: str, given: dict[str, str]) -> None:
    code, line = refusal(step, **{pod: "x"}, **given)
    assert code == 2
    assert line.startswith("error: MLFLOW_TRACKING_URI is not set, and this is a pod")
    assert "mura-places" in line
    assert "off" in line


@pytest.mark.parametrize("step", ["register", "promote"])
@pytest.mark.parametrize("off", ["off", "OFF", " off "])
def test_what_needs_the_registry_is_refused_without_mlflow(refusal: Refusal, step: str, off: str) -> None:
    code, line = refusal(step, MLFLOW_TRACKING_URI=off)
    assert code == 2
    assert f"MLFLOW_TRACKING_URI is off, and {step} needs MLflow's registry" in line


def elsewhere(line: str) -> bool:
    """Whether the step got to what it reads."""
    return "MLFLOW" not in line


@pytest.mark.parametrize("step", OTHERS)
def test_what_needs_no_mlflow_is_not_asked_for_it(refusal: Refusal, step: str) -> None:
    assert elsewhere(refusal(step, KFP_RUN_ID="x")[1])


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_a_training_may_do_without(refusal: Refusal, step: str) -> None:
    assert elsewhere(refusal(step, KFP_RUN_ID="x", MLFLOW_TRACKING_URI="off")[1])


@pytest.mark.parametrize("step", NEEDED)
def test_outside_a_pod_nobody_is_asked(refusal: Refusal, step: str) -> None:
    assert elsewhere(refusal(step)[1])


@pytest.mark.parametrize("step", NEEDED)
def test_in_a_workspace_of_dvc_database_and_artifacts_lie_together(refusal: Refusal, step: str) -> None:
    assert elsewhere(refusal(step, KUBERNETES_SERVICE_HOST="10.0.0.1", DVC_STAGE=step)[1])


@pytest.mark.parametrize("step", NEEDED)
def test_a_database_on_a_volume_is_an_answer(refusal: Refusal, step: str, tmp_path: Path) -> None:
    assert elsewhere(refusal(step, KFP_RUN_ID="x", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/volume/mlflow.db")[1])


def test_a_worker_beside_the_chief_is_not_asked(refusal: Refusal) -> None:
    team = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    assert elsewhere(refusal("train", KFP_RUN_ID="x", TF_CONFIG=team)[1])


@pytest.mark.parametrize("word", ["none", "no", "False", "0"])
def test_another_word_for_off_is_told_the_right_one(refusal: Refusal, word: str) -> None:
    code, line = refusal("train", MLFLOW_TRACKING_URI=word)
    assert code == 2
    assert "Set it to off" in line
