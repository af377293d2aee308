"""Answers of a real MLflow server that get lost after it has acted: each effect is found again, and none is doubled."""

import contextlib
import itertools
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lying_proxy import Answer, LyingProxy, lost, lost_in_a_gateway, lying, repeated, status

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import MuraError
from components.tracking import measured_models, model_registry

if TYPE_CHECKING:
    import keras

pytestmark = pytest.mark.long

Evaluated = tuple[TrainedModel, Evaluation]


@pytest.fixture(scope="module")
def proxy(mlflow_server: str) -> Iterator[LyingProxy]:
    with lying(mlflow_server) as proxy:
        yield proxy


@pytest.fixture
def mlflow(proxy: LyingProxy, tmp_path: Path, no_mlflow: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Surroundings in which a lost answer ends a command: MLflow's client sends nothing twice."""
    proxy.honest()
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", proxy.address)
    no_mlflow.setenv("MLFLOW_EXPERIMENT_NAME", f"lost-{uuid.uuid4().hex[:8]}")
    return no_mlflow


@pytest.fixture
def patient(mlflow: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The same where MLflow's client sends a request again, as it does by default."""
    mlflow.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    mlflow.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    return mlflow


@pytest.fixture
def evaluated(
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> Callable[[str], Evaluated]:
    """A model that nobody has seen, on the server, and its evaluation, signed for a name."""

    def make(name: str) -> Evaluated:
        model = make_model(weights=uuid.uuid4().bytes, run=make_tracked())
        return model, make_evaluation(model, signed_for=name)

    return make


def registered_and_promoted(pair: Evaluated, name: str) -> None:
    """What `register` and `promote` ask MLflow, without the charts."""
    version = model_registry.ensure_version(name, *pair, tracking.ensure_predictor(*pair, name))
    assert pair[0].digest in measured_models.on_test(version.scores.test_digest).models
    assert model_registry.exists(version)
    assert model_registry.fault(version) is None
    model_registry.set_alias(version, "champion")
    assert model_registry.champion(name, "champion") == version


def insist(do: Callable[[], Any], proxy: LyingProxy) -> Any:
    """Do something; once more, on an honest way, if it failed as it should."""
    try:
        return do()
    except MuraError as error:
        failed = error
    assert (failed.exit_code, str(failed).count("\n"), proxy.address in str(failed)) == (5, 0, True), failed
    proxy.honest()
    return do()


def registry(name: str, pair: Evaluated) -> Any:
    """What the registry says of a model, without its random names and times."""
    client = tracking.connect()
    versions = client.search_model_versions(f"name = '{name}'")
    logged = client.get_logged_model(tracking.ensure_predictor(*pair, name).model_uri.removeprefix("models:/"))
    run = pair[0].facts.run.run_id
    changes = {name: "NAME", run: "RUN", logged.model_id: "MODEL", pair[0].digest: "DIGEST", pair[1].digest: "EVAL"}
    changes |= {pair[1].digest[:12]: "EVAL", client.get_run(run).info.run_name: "RUN NAME"}
    seen = {
        "versions": [(v.version, v.source, v.run_id, dict(v.tags), v.description, v.status) for v in versions],
        "aliases": client.get_registered_model(name).aliases,
        "model": dict(logged.tags),
        "metrics": sorted((m.key, m.dataset_name, len(client.get_metric_history(run, m.key))) for m in logged.metrics),
        "splits": sorted(each.dataset.name for each in client.get_run(run).inputs.dataset_inputs),
        "files": [file.path for file in client.list_artifacts(run, "evaluation")],
    }
    text = repr(seen)
    for found, general in changes.items():
        text = text.replace(found, general)
    return text


def new_name() -> str:
    return f"mura-{uuid.uuid4().hex[:8]}"


def lose_all(asked: list[str], proxy: LyingProxy) -> None:
    """Lose one answer of each kind of request."""
    proxy.honest()
    for kind in set(map(general, asked)):
        proxy.when(re.escape(kind), lost)


def general(request: str) -> str:
    """A request without the ids in it, and what comes after them."""
    return re.sub(r"[0-9a-f]{32}.*|\?.*", "", request)


def requests_of(do: Callable[[], Any], proxy: LyingProxy) -> list[str]:
    proxy.honest()
    do()
    return list(proxy.requests)


@pytest.mark.longest
def test_after_one_rerun_the_registry_is_that_of_an_undisturbed_run(
    mlflow: pytest.MonkeyPatch, proxy: LyingProxy, evaluated: Callable[[str], Evaluated]
) -> None:
    name = new_name()
    pair = evaluated(name)
    asked = requests_of(lambda: registered_and_promoted(pair, name), proxy)
    expected = registry(name, pair)
    acts = [number for number, request in enumerate(asked) if not request.startswith("GET")]
    assert len(acts) > 6
    for number, fault in zip(acts, itertools.cycle([lost, lost_in_a_gateway])):
        name = new_name()
        pair = evaluated(name)
        proxy.honest()
        proxy.nth(number, fault)
        insist(lambda: registered_and_promoted(pair, name), proxy)  # noqa: B023
        assert registry(name, pair) == expected, asked[number]


@pytest.mark.longest
def test_where_the_client_sends_again_no_answer_that_gets_lost_is_felt(
    patient: pytest.MonkeyPatch, proxy: LyingProxy, evaluated: Callable[[str], Evaluated]
) -> None:
    name = new_name()
    pair = evaluated(name)
    asked = requests_of(lambda: registered_and_promoted(pair, name), proxy)
    expected = registry(name, pair)
    name = new_name()
    pair = evaluated(name)
    lose_all(asked, proxy)
    registered_and_promoted(pair, name)
    assert len(proxy.spoiled) > 8
    assert registry(name, pair) == expected


@pytest.mark.parametrize(
    "kind",
    [
        "model-versions/create",
        pytest.param("registered-models/create", marks=pytest.mark.longest),
        pytest.param("registered-models/alias", marks=pytest.mark.longest),
    ],
)
def test_a_request_that_a_gateway_sends_twice_makes_one_thing(
    kind: str, mlflow: pytest.MonkeyPatch, proxy: LyingProxy, evaluated: Callable[[str], Evaluated]
) -> None:
    name = new_name()
    pair = evaluated(name)
    registered_and_promoted(pair, name)
    expected = registry(name, pair)
    name = new_name()
    pair = evaluated(name)
    proxy.when(f"POST .*{kind}", repeated)
    insist(lambda: registered_and_promoted(pair, name), proxy)
    assert registry(name, pair) == expected


# Two at once.


def test_of_registrations_at_once_one_version_is_left(
    mlflow: pytest.MonkeyPatch, proxy: LyingProxy, evaluated: Callable[[str], Evaluated]
) -> None:
    name = new_name()
    model, evaluation = evaluated(name)
    together = threading.Barrier(4, timeout=60)

    def wait(exchange: Any) -> None:
        # Nobody has found a dataset or a version when all make one.
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait()
        exchange.answer(exchange.ask())

    for kind in ("runs/log-inputs", "model-versions/create"):
        proxy.when(f"POST .*{kind}", wait, times=4)
    run = tracking.ensure_predictor(model, evaluation, name)
    with ThreadPoolExecutor(4) as pool:
        ask = [pool.submit(model_registry.ensure_version, name, model, evaluation, run) for _ in range(4)]
        versions = [each.result() for each in ask]
    assert len(proxy.spoiled) == 8
    assert [version.version for version in versions] == [1, 1, 1, 1]
    (held,) = tracking.connect().search_model_versions(f"name = '{name}'")
    assert held.version == "1"


@pytest.mark.parametrize("said", ["sqlite3.IntegrityError", "psycopg2.errors.UniqueViolation"])
def test_a_data_set_that_another_run_logged_a_moment_ago_is_no_error(
    said: str, mlflow: pytest.MonkeyPatch, proxy: LyingProxy, evaluated: Callable[[str], Evaluated]
) -> None:
    name = new_name()
    pair = evaluated(name)
    error = {"error_code": "BAD_REQUEST", "message": f"({said}) duplicate key value violates unique constraint"}
    refused = Answer(400, (("Content-Type", "application/json"),), json.dumps(error).encode())
    proxy.when("POST .*runs/log-inputs", lambda exchange: exchange.answer(refused))
    registered_and_promoted(pair, name)
    assert len(proxy.spoiled) == 1


@pytest.mark.longest
def test_a_version_of_one_that_was_killed_before_it_looked_is_deleted_by_the_next(
    mlflow: pytest.MonkeyPatch, evaluated: Callable[[str], Evaluated]
) -> None:
    name = new_name()
    pair = evaluated(name)
    registered_and_promoted(pair, name)
    expected, client = registry(name, pair), tracking.connect()
    twin(client, name)
    registered_and_promoted(pair, name)
    assert registry(name, pair) == expected


@pytest.mark.longest
def test_a_twin_that_somebody_gave_an_alias_stays(
    mlflow: pytest.MonkeyPatch, evaluated: Callable[[str], Evaluated], caplog: pytest.LogCaptureFixture
) -> None:
    name = new_name()
    pair = evaluated(name)
    registered_and_promoted(pair, name)
    client = tracking.connect()
    client.set_registered_model_alias(name, "shown", twin(client, name))
    registered_and_promoted(pair, name)
    assert client.get_registered_model(name).aliases == {"champion": "1", "shown": "2"}
    assert f"{name} version 2 says the same as version 1 and has an alias: it stays" in caplog.text


@pytest.mark.longest
def test_who_may_not_delete_a_twin_registers_all_the_same(
    mlflow: pytest.MonkeyPatch,
    proxy: LyingProxy,
    evaluated: Callable[[str], Evaluated],
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = new_name()
    pair = evaluated(name)
    registered_and_promoted(pair, name)
    twin(tracking.connect(), name)
    proxy.when("DELETE .*model-versions", status(403), times=None)
    registered_and_promoted(pair, name)
    assert f"{name} version 2 says the same as version 1 and cannot be deleted" in caplog.text


def twin(client: Any, name: str) -> str:
    """Another version of the same, as a call leaves it that was killed before it looked again."""
    first = client.get_model_version(name, "1")
    made = client.create_model_version(
        name,
        source=first.source,
        run_id=first.run_id,
        tags=dict(first.tags),
        model_id=first.source.removeprefix("models:/"),
    )
    return str(made.version)


# A training.


@pytest.fixture(scope="module")
def network() -> "keras.Model":
    """Pixels [n, 8, 8, 1] to logits [n, 1]."""
    import keras

    pixels = keras.Input((8, 8, 1))
    return keras.Model(pixels, keras.layers.Dense(1)(keras.layers.Flatten()(pixels)))


class Training:
    """A training as the step does it: it knows its run once that is open, and goes on with it."""

    def __init__(self, network: "keras.Model", curves: Path) -> None:
        self.network, self.curves = network, curves
        self.run_id: str | None = None
        self.description = tracking.Description(
            candidate="wide",
            architecture="vgg16",
            params={"learning_rate": 0.001},
            tags={"code_revision": "c0de"},
            dataset=tracking.Dataset(name="mura", source="shards", digest="da" * 32, images={"train": 7}),
            key=uuid.uuid4().hex,
        )

    def __call__(self) -> None:
        with tracking.training_run(self.description, self.run_id, patience=0) as run:
            self.run_id = run.run_id
            run.log_epoch(1, {"loss": 0.7}, run.began)
            run.log_epoch(2, {"loss": 0.5}, run.began)
            run.log_file(self.curves)
            run.log_model(self.network)


@pytest.fixture
def training(network: "keras.Model", tmp_path: Path) -> Callable[[], Training]:
    (tmp_path / "curves.csv").write_text("epoch,loss\n1,0.7\n2,0.5\n")
    return lambda: Training(network, tmp_path / "curves.csv")


def recorded(experiment: str) -> Any:
    """What MLflow says of the trainings of an experiment, without its random names and times."""
    from mlflow.entities import ViewType

    client = tracking.connect()
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], run_view_type=ViewType.ALL)
    models = client.search_logged_models([found.experiment_id])
    curves = [client.get_metric_history(run.info.run_id, "epoch/loss") for run in runs]
    ours = ("candidate", "architecture", "mlflow.source.name", "mlflow.runName")
    return {
        "runs": [(run.info.status, run.data.params, {name: run.data.tags[name] for name in ours}) for run in runs],
        "curves": [sorted((point.step, point.value) for point in curve) for curve in curves],
        "data": [len(run.inputs.dataset_inputs) for run in runs],
        "outputs": [
            [each.model_id for each in run.outputs.model_outputs] == [m.model_id for m in models] for run in runs
        ],
        "models": [(model.status, model.name, model.params) for model in models],
        "files": [sorted(file.path for file in client.list_artifacts(run.info.run_id)) for run in runs],
    }


def of_its_own(mlflow: pytest.MonkeyPatch) -> str:
    name = f"lost-{uuid.uuid4().hex[:8]}"
    mlflow.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return name


@pytest.mark.longest
def test_after_one_rerun_a_training_has_left_what_an_undisturbed_one_leaves(
    mlflow: pytest.MonkeyPatch, proxy: LyingProxy, training: Callable[[], Training]
) -> None:
    name = of_its_own(mlflow)
    asked = requests_of(training(), proxy)
    expected = recorded(name)
    assert [len(kind) for kind in (expected["runs"], expected["models"])] == [1, 1]
    kinds = [general(request) for request in asked]
    acts = [kinds.index(kind) for kind in dict.fromkeys(kinds) if re.match("POST (?!.*/search)|PUT|PATCH", kind)]
    assert len(acts) > 10
    for number, fault in zip(acts, itertools.cycle([lost, lost_in_a_gateway]), strict=False):
        name = of_its_own(mlflow)
        proxy.honest()
        proxy.nth(number, fault)
        insist(training(), proxy)
        assert recorded(name) == expected, asked[number]


def test_where_the_client_sends_again_a_training_does_not_feel_lost_answers(
    patient: pytest.MonkeyPatch, proxy: LyingProxy, training: Callable[[], Training]
) -> None:
    name = of_its_own(patient)
    asked = requests_of(training(), proxy)
    expected, name = recorded(name), of_its_own(patient)
    lose_all(asked, proxy)
    training()()
    assert len(proxy.spoiled) > 12
    assert recorded(name) == expected


@pytest.mark.parametrize("code", [400, 403, 500])
def test_a_run_whose_end_was_refused_is_ended_by_the_next_attempt(
    code: int, mlflow: pytest.MonkeyPatch, proxy: LyingProxy, training: Callable[[], Training]
) -> None:
    name = of_its_own(mlflow)
    proxy.when("POST .*runs/update", status(code), times=2)
    same = training()
    with pytest.raises(MuraError):
        same()
    proxy.honest()
    same()
    assert [run[0] for run in recorded(name)["runs"]] == ["FINISHED"]


# A model that is published.


def test_a_model_is_published_once_whatever_answers_get_lost(
    mlflow: pytest.MonkeyPatch, proxy: LyingProxy, trained: TrainedModel
) -> None:
    name = of_its_own(mlflow)
    publish = partial(tracking.ensure_model, trained)
    publish()
    expected = recorded(name)
    kinds = ["runs/create", "runs/log-batch", "logged-models$", "runs/outputs", "logged-models/[^/]*$", "runs/update"]
    for kind in kinds:
        name = of_its_own(mlflow)
        proxy.honest()
        proxy.when(f"(POST|PATCH) .*{kind}", lost)
        insist(publish, proxy)
        assert recorded(name) == expected, kind


@pytest.mark.longest
def test_a_predictor_is_stored_once_whatever_answers_get_lost(
    mlflow: pytest.MonkeyPatch,
    proxy: LyingProxy,
    trained: TrainedModel,
    make_evaluation: Callable[..., Evaluation],
) -> None:
    evaluation, client = make_evaluation(trained), tracking.connect()
    for kind in ("logged-models$", "runs/outputs", "logged-models/[^/]*$"):
        name = of_its_own(mlflow)
        proxy.honest()
        tracking.ensure_model(trained)
        proxy.when(f"(POST|PATCH) .*{kind}", lost)
        run = insist(partial(tracking.ensure_predictor, trained, evaluation, "mura"), proxy)
        assert tracking.ensure_predictor(trained, evaluation, "mura") == run
        found = client.search_logged_models([client.get_experiment_by_name(name).experiment_id])
        assert [each.status for each in found] == ["READY", "READY"], kind
        assert f"models:/{found[0].model_id}" == run.model_uri
        assert {each.source_run_id for each in found} == {run.run_id}


def test_a_published_run_whose_end_was_refused_is_ended_by_the_next_attempt(
    mlflow: pytest.MonkeyPatch, proxy: LyingProxy, trained: TrainedModel
) -> None:
    name = of_its_own(mlflow)
    proxy.when("POST .*runs/update", status(500), times=None)
    with pytest.raises(MuraError):
        tracking.ensure_model(trained)
    assert [run[0] for run in recorded(name)["runs"]] == ["RUNNING"]
    proxy.honest()
    tracking.ensure_model(trained)
    assert [run[0] for run in recorded(name)["runs"]] == ["FINISHED"]
