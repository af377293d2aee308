"""Below a run that Kubeflow's MLflow plugin began for the task, on a real server: one tree, nothing of ours in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMIT

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrainedModel
from components.base.errors import UsageError
from components.cli import main
from components.tracking import model_registry

# Most need a server of their own.
pytestmark = pytest.mark.long

PARENT = "mlflow.parentRunId"
NAMES = iter(range(1000))


class Plugin:
    """Kubeflow's MLflow plugin: a run for the pipeline, and one for each task."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.client = tracking.connect()
        self.experiment = self.client.create_experiment(f"kubeflow-{next(NAMES)}", tags={"mlflow.experimentKind": "x"})
        self.pipeline = self._run("mura-1")

    def task(self, name: str) -> str:
        """Begin the run of a task; the environment of its pod names it."""
        run: str = self._run(name, {PARENT: self.pipeline})
        self._monkeypatch.setenv("MLFLOW_RUN_ID", run)
        self._monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", self.experiment)
        return run

    def _run(self, name: str, tags: dict[str, str] | None = None) -> str:
        tags = {"kfp.pipeline_run_id": "0b-1"} | (tags or {})
        return str(self.client.create_run(self.experiment, run_name=name, tags=tags).info.run_id)

    def state(self, run_id: str) -> Any:
        """All that MLflow has of a run."""
        found = self.client.get_run(run_id).to_dictionary()
        return found, [file.path for file in self.client.list_artifacts(run_id)]

    def children(self, run_id: str) -> list[Any]:
        return list(self.client.search_runs([self.experiment], f"tags.`{PARENT}` = '{run_id}'"))


@pytest.fixture
def plugin(mlflow_server: str, tmp_path: Path, no_mlflow: pytest.MonkeyPatch) -> Plugin:
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    no_mlflow.setenv("KFP_RUN_ID", "0b-1")
    return Plugin(no_mlflow)


def training(run_id: str | None = None, candidate: str = "wide", **params: Any) -> Any:
    description = tracking.Description(candidate, "vgg16", {"learning_rate": 0.001} | params, {"code_revision": COMMIT})
    return tracking.training_run(description, run_id, 0.5)


def test_a_training_is_a_child_of_its_task_and_writes_nothing_into_it(plugin: Plugin, tmp_path: Path) -> None:
    task = plugin.task("train-wide")
    before = plugin.state(task), plugin.state(plugin.pipeline)
    with training() as run:
        run.log_epoch(1, {"loss": 0.7})
        (tmp_path / "curves.csv").write_text("epoch\n")
        run.log_file(tmp_path / "curves.csv")
    (child,) = plugin.children(task)
    assert child.info.run_id == run.run_id
    assert (child.info.run_name, child.info.status) == ("wide", "FINISHED")
    assert child.data.params == {"learning_rate": "0.001"}
    assert child.data.metrics == {"epoch/loss": 0.7}
    assert (plugin.state(task), plugin.state(plugin.pipeline)) == before


def test_an_experiment_of_somebody_else_keeps_its_kind(plugin: Plugin) -> None:
    plugin.task("train-wide")
    with training():
        pass
    assert plugin.client.get_experiment(plugin.experiment).tags["mlflow.experimentKind"] == "x"


def test_a_task_that_fails_leaves_its_run_to_kubeflow(plugin: Plugin) -> None:
    task = plugin.task("train-wide")
    before = plugin.state(task)
    with pytest.raises(ZeroDivisionError), training():
        raise ZeroDivisionError
    assert [child.info.status for child in plugin.children(task)] == ["FAILED"]
    assert plugin.state(task) == before


def test_a_retried_task_goes_on_in_the_run_of_its_training(plugin: Plugin) -> None:
    plugin.task("train-wide")
    with pytest.raises(ZeroDivisionError), training() as first:
        raise ZeroDivisionError
    again = plugin.task("train-wide")
    with training(first.run_id) as second:
        pass
    assert [child.info.run_id for child in plugin.children(again)] == [first.run_id] == [second.run_id]


def test_a_run_of_another_experiment_is_not_resumed_apart_from_its_task(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training() as elsewhere:
        pass
    task = plugin.task("train-wide")
    with training(elsewhere.run_id):
        pass
    (child,) = plugin.children(task)
    assert child.info.run_id != elsewhere.run_id


def test_trainings_of_one_shell_have_a_run_each(plugin: Plugin) -> None:
    task = plugin.task("shell")
    for candidate in ("wide", "narrow"):
        with training(candidate=candidate):
            pass
    assert {child.info.run_name for child in plugin.children(task)} == {"wide", "narrow"}


@pytest.mark.longest
def test_registering_and_promoting_write_nothing_into_the_runs_of_their_tasks(
    plugin: Plugin, trained: TrainedModel, make_evaluation: Callable[..., Evaluation]
) -> None:
    register = plugin.task("register")
    before = plugin.state(register)
    name, evaluation = f"mura-{plugin.experiment}", make_evaluation(trained)
    run = tracking.ensure_predictor(trained, evaluation, name)
    version = model_registry.ensure_version(name, trained, evaluation, run)
    assert [child.info.run_id for child in plugin.children(register)] == [run.run_id]
    assert plugin.state(register) == before
    promote = plugin.task("promote")
    before = plugin.state(promote)
    assert model_registry.fault(version) is None
    model_registry.set_alias(version, "champion")
    assert model_registry.champion(version.model, "champion") == version
    assert plugin.children(promote) == []
    assert plugin.state(promote) == before


@pytest.mark.parametrize("run_id", ["f" * 32, "not-an-id"])
def test_a_run_that_is_not_there_is_named(plugin: Plugin, monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with pytest.raises(UsageError, match=f"MLFLOW_RUN_ID is {run_id}"), training():
        pass


# What killed steps leave open.


def status(plugin: Plugin, run_id: str) -> str:
    return str(plugin.client.get_run(run_id).info.status)


def test_the_exit_handler_ends_runs_that_killed_steps_left_open_and_a_later_attempt_opens_them(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = plugin.task("train-wide")
    opened = training()
    killed = opened.__enter__()
    with training(candidate="narrow") as done:
        pass
    monkeypatch.setenv("KFP_RUN_ID", "0b-2")
    others = training(candidate="deep")
    other = others.__enter__()
    monkeypatch.setenv("KFP_RUN_ID", "0b-1")

    plugin.task("notify")
    monkeypatch.delenv("MURA_WEBHOOK_URL", raising=False)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    assert main.run(["notify", "--status", '{"state": "FAILED"}', "--run", "0b-1"]) == 0

    assert [status(plugin, run) for run in (killed.run_id, done.run_id, other.run_id)] == [
        "KILLED", "FINISHED", "RUNNING",
    ]  # fmt: skip
    assert [status(plugin, run) for run in (task, plugin.pipeline)] == ["RUNNING", "RUNNING"]

    plugin.task("train-wide")
    with training(killed.run_id) as again:
        assert again.run_id == killed.run_id
        assert status(plugin, killed.run_id) == "RUNNING"
    assert status(plugin, killed.run_id) == "FINISHED"
    for each in (opened, others):
        each.__exit__(None, None, None)


@pytest.mark.parametrize("uri", ["off", "http://127.0.0.1:9", "nonsense"])
def test_an_exit_handler_without_mlflow_is_content(
    no_mlflow: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", uri)
    assert main.run(["notify", "--status", "{}", "--run", "0b-1"]) == 0
    assert "error" not in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
