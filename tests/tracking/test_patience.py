"""In a pod a step waits for MLflow by itself: nobody starts a step again that ended with a code."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMIT
from mlflow_way import Way, open_way
from servers import free_port

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import ServiceUnreachable
from components.tracking import model_registry

pytestmark = pytest.mark.long


@pytest.fixture
def pod(no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A step of Kubeflow, whose patience is not said."""
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("KFP_RUN_ID", "0b-1")
    no_mlflow.delenv("MURA_PATIENCE")
    return no_mlflow


@pytest.fixture
def way(mlflow_server: str, pod: pytest.MonkeyPatch) -> Iterator[Way]:
    with open_way(mlflow_server) as way:
        pod.setenv("MLFLOW_TRACKING_URI", way.address)
        yield way


def training() -> Any:
    return tracking.training_run(tracking.Description("wide", "vgg16", {}, {"code_revision": COMMIT}))


def test_registering_waits_for_a_server_that_is_not_there_yet(
    mlflow_server: str,
    pod: pytest.MonkeyPatch,
    make_model: Callable[..., TrainedModel],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    pod.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    model = make_model(run=make_tracked())
    port = free_port()
    pod.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with contextlib.ExitStack() as stack:
        late = threading.Timer(1, lambda: stack.enter_context(open_way(mlflow_server, port)))
        late.start()
        assert tracking.ensure_model(model) == model.facts.run
        late.join()


@pytest.mark.parametrize("status", [503, pytest.param(500, marks=pytest.mark.longest)])
def test_registering_and_promoting_wait_for_a_server_that_fails_for_a_moment(
    status: int,
    way: Way,
    make_model: Callable[..., TrainedModel],
    make_tracked: Callable[[], TrackedRun],
    make_evaluation: Callable[..., Evaluation],
) -> None:
    model, name = make_model(run=make_tracked()), f"patient-{status}"
    evaluation = make_evaluation(model, signed_for=name)
    predictor = tracking.ensure_predictor(model, evaluation, name)
    for ask in (
        lambda: tracking.ensure_model(model),
        lambda: model_registry.ensure_version(name, model, evaluation, predictor),
    ):
        way.refuse(status, r"/logged-models|/model-versions|/registered-models", 1)
        ask()
    version = model_registry.ensure_version(name, model, evaluation, predictor)
    asked: list[Callable[[], Any]] = [
        lambda: model_registry.exists(version),
        lambda: model_registry.fault(version) is None,
        lambda: model_registry.set_alias(version, "champion") is None,
        lambda: model_registry.champion(version.model, "champion") == version,
    ]
    for ask in asked:
        way.refuse(status, r"/(model-versions|registered-models)/", 0.7)
        assert ask()


def test_a_training_begins_and_ends_when_the_server_is_back(way: Way, tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("epoch\n")
    way.refuse(503, r"/runs/create|/experiments/", 1)
    with training() as run:
        run.log_epoch(1, {"loss": 0.7})
        way.refuse(503, "^PUT ", 1)
        run.log_file(tmp_path / "curves.csv")
        way.refuse(503, "/runs/update", 1)
    done = tracking.connect().get_run(run.run_id)
    assert (done.info.status, done.data.metrics) == ("FINISHED", {"epoch/loss": 0.7})


def test_a_server_that_lets_nobody_in_is_not_asked_again(way: Way) -> None:
    way.refuse(403, "/registered-models/search", 3600)
    with pytest.raises(ServiceUnreachable, match="denied access"):
        tracking.connect()
    assert sum("/registered-models/search" in request for request in way.requests) == 1


def test_patience_ends(way: Way, pod: pytest.MonkeyPatch) -> None:
    pod.setenv("MURA_PATIENCE", "1.5")
    way.refuse(503, "/registered-models/search", 3600)
    with pytest.raises(ServiceUnreachable) as told:
        tracking.connect()
    assert told.value.exit_code == 5
    assert sum("/registered-models/search" in request for request in way.requests) > 1


@pytest.mark.parametrize("door", ["register", "promote", "predict"])
def test_on_a_desk_a_server_that_is_away_is_asked_once_and_once_more(
    door: str, way: Way, pod: pytest.MonkeyPatch, make_model: Callable[..., TrainedModel]
) -> None:
    """Each time for four seconds at most: who looks at a terminal hears of it soon."""
    pod.delenv("KFP_RUN_ID")
    model = make_model()
    ask: dict[str, Callable[[], Any]] = {
        "register": lambda: tracking.ensure_model(model),
        "promote": lambda: model_registry.champion("mura", "champion"),
        "predict": lambda: model_registry.version("mura", 1),
    }
    way.refuse(503, "/health", 3600)
    with pytest.raises(ServiceUnreachable, match="does not answer") as told:
        ask[door]()
    assert told.value.exit_code == 5
    assert set(way.requests) == {"GET /health"}
    assert len(way.requests) <= 2
