"""What `mura doctor` says of MLflow: the same as a training would, before it."""

import shutil
import uuid
from pathlib import Path

import pytest

from components import tracking
from components.cli import doctor_mlflow
from components.cli.check import Check

pytestmark = pytest.mark.long


def checks() -> dict[str, Check]:
    return {check.subject: check for check in doctor_mlflow.examine()}


def test_nothing_is_made_where_nothing_is_named(no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_mlflow.chdir(tmp_path)
    (found,) = doctor_mlflow.examine()
    assert (found.subject, found.problem) == ("MLflow", None)
    assert list(tmp_path.iterdir()) == []


def test_a_pod_that_was_not_told_where_mlflow_is(no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("KFP_RUN_ID", "0b-1")
    no_mlflow.delenv("DVC_STAGE", raising=False)
    problem = checks()["MLflow"].problem
    assert problem is not None
    assert problem.exit_code == 2
    assert "this is a pod" in str(problem)


def test_a_pod_that_has_no_mlflow(no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_mlflow.setenv("KFP_RUN_ID", "0b-1")
    no_mlflow.setenv("MLFLOW_TRACKING_URI", "off")
    assert checks()["MLflow"].problem is None


@pytest.mark.parametrize("where", ["mlflow_here", "mlflow_server"])
def test_an_mlflow_that_has_everything_is_well(
    where: str, request: pytest.FixtureRequest, no_mlflow: pytest.MonkeyPatch
) -> None:
    place = request.getfixturevalue(where)
    if where == "mlflow_server":
        no_mlflow.setenv("MLFLOW_TRACKING_URI", place)
    (found,) = doctor_mlflow.examine()
    assert found.problem is None
    assert "keeps models, takes files and gives them back" in found.found


def test_a_store_that_cannot_be_written_to_is_told(mlflow_server: str, no_mlflow: pytest.MonkeyPatch) -> None:
    no_mlflow.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    no_mlflow.setenv("MLFLOW_EXPERIMENT_NAME", name := f"unserved-{uuid.uuid4().hex[:8]}")
    tracking.connect().create_experiment(name, artifact_location="file:///proc/mlruns/1")
    problem = checks()["MLflow"].problem
    assert problem is not None
    assert problem.exit_code == 5
    assert "/proc/mlruns/1" in str(problem)


def test_a_database_in_this_directory_is_checked_too(mlflow_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    shutil.copy(__file__, mlflow_here / "mlflow.db")
    problem = checks()["MLflow"].problem
    assert problem is not None
    assert problem.exit_code == 2


def test_settings_that_are_overruled_are_listed(mlflow_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "True")
    monkeypatch.setenv("MLFLOW_LOCK_MODEL_DEPENDENCIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    (told,) = [check.found for check in doctor_mlflow.examine() if check.subject == "overruled"]
    assert told.startswith("MLFLOW_ENABLE_ASYNC_LOGGING=True of the environment is not used; false is")
