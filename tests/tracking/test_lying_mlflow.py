"""A real MLflow server behind a proxy that lies: each lie ends with 5 and one line, and little is read of it."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import lying_proxy as lie
import pytest
from lying_proxy import Fault, LyingProxy, lying

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base import answers
from components.base.errors import ServiceUnreachable
from components.tracking import failures, model_registry, server

pytestmark = pytest.mark.long

# What lies in the buffers of sockets was not read.
BUFFERS = 16_000_000


@pytest.fixture
def proxy(mlflow_server: str, no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LyingProxy]:
    no_mlflow.chdir(tmp_path)
    no_mlflow.setattr(answers, "WINDOW", 0.5)
    with lying(mlflow_server) as proxy:
        no_mlflow.setenv("MLFLOW_TRACKING_URI", proxy.address)
        yield proxy


def said(text: bytes, kind: str = "application/json") -> Fault:
    return lie.made(lambda _: lie.Answer(200, (("Content-Type", kind),), text))


LIES: dict[str, tuple[Fault, str]] = {
    "a body without end": (lie.endless(), "gave more than 16,777,216 bytes"),
    "an error without end": (lie.endless(400), "gave more than 1,048,576 bytes"),
    "one byte at a time": (lie.trickled(0.05), "less than 4,096 bytes a second"),
    "100 Continue for ever": (lie.continues(), "gave headers of more than"),
    "headers without end": (lie.endless_headers(), "more than 100 headers"),
    "no HTTP": (lie.garbage, "no HTTP"),
    "a page": (said(b"<html>log in</html>", "text/html"), "another program"),
    "a list": (said(b"[]"), "another program|failed"),
    "another answer": (said(b'{"registered_models": {"name": 1}, "model_versions": 3}'), "failed|another program"),
    "a list in a list without end": (said(b'{"a":' * 200_000), "failed|another program"),
    "cut": (lie.cut(3), "failed|another program"),
    "a gateway": (lie.status(502), "failed"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_lie_of_the_registry_ends_with_5_and_says_who_lied(
    proxy: LyingProxy,
    kind: str,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    fault, reason = LIES[kind]
    model = make_model(run=make_tracked())
    evaluation = make_evaluation(model)
    proxy.honest()
    proxy.when("GET .*model-versions/search", fault, times=None)
    with pytest.raises(ServiceUnreachable, match=f"{proxy.address} .*({reason})") as told:
        model_registry.ensure_version(f"mura-{uuid.uuid4().hex[:8]}", model, evaluation, model.facts.run)
    assert told.value.exit_code == 5
    assert "\n" not in str(told.value)
    assert proxy.sent < 2 * BUFFERS


@pytest.mark.parametrize("kind", LIES)
def test_a_training_goes_on_whatever_the_server_says_of_its_metrics(proxy: LyingProxy, kind: str) -> None:
    fault, _ = LIES[kind]
    with tracking.training_run(tracking.Description("wide", "vgg16", {}, {}), patience=5) as run:
        proxy.when("POST .*log-batch", fault)
        run.log_epoch(1, {"loss": 0.7})
        run.log_epoch(2, {"loss": 0.5})
    done = tracking.connect().get_run(run.run_id)
    assert (done.info.status, done.data.metrics) == ("FINISHED", {"epoch/loss": 0.5})


def test_a_model_whose_files_have_no_end_does_not_fill_the_disk(
    proxy: LyingProxy,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., TrainedModel],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    model = make_model(run=make_tracked())
    monkeypatch.setattr(failures, "MOST_ARRIVING", 10_000_000)
    proxy.when("GET .*model.keras", lie.endless(), times=None)
    with pytest.raises(ServiceUnreachable, match=f"{proxy.address} gave files of more than 10,000,000 bytes"):
        tracking.ensure_model(model)


@pytest.mark.parametrize("fault", [lie.endless(), lie.trickled(0.2), lie.continues()], ids=["endless", "slow", "100"])
def test_a_server_whose_health_has_no_end_does_not_answer(proxy: LyingProxy, fault: Fault) -> None:
    tracking.locate()
    proxy.when("GET /health", fault, times=None)
    reason = server.silence()
    assert reason is None if proxy.sent < 1_000 else "bytes" in str(reason)
