import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import make_scores

from components import tracking
from components.artifacts.evaluation import Evaluation, Interval
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import ServiceUnreachable, UsageError
from components.tracking import evidence_files, measured_models, model_registry

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["database", pytest.param("server", marks=pytest.mark.long)])
def name(request: pytest.FixtureRequest, no_mlflow: pytest.MonkeyPatch) -> str:
    """A name nobody has used, in the registry of a local database and of a server."""
    if request.param == "database":
        request.getfixturevalue("mlflow_here")
    else:
        no_mlflow.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    return f"mura-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def model(make_model: Callable[..., TrainedModel]) -> TrainedModel:
    return make_model("vgg16")


@pytest.fixture
def evaluation(model: TrainedModel, make_evaluation: Callable[..., Evaluation]) -> Evaluation:
    return make_evaluation(model, 0.8)


def test_registering_twice_makes_one_version(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    run = make_tracked()
    first = register_hollow(name, model, evaluation, run)
    # Where the model is published may change in between.
    second = register_hollow(name, model, evaluation, make_tracked())
    assert first == second
    assert first.version == 1
    assert first.run_id == run.run_id
    assert len(tracking.connect().search_model_versions(f"name = '{name}'")) == 1


def test_another_evaluation_of_the_model_is_another_version(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    run = make_tracked()
    versions = [register_hollow(name, model, e, run).version for e in (evaluation, make_evaluation(model, 0.7))]
    assert versions == [1, 2]


def test_a_version_tells_people_what_it_is(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    run = make_tracked()
    register_hollow(name, model, evaluation, run)
    version = tracking.connect().get_model_version(name, "1")
    assert version.run_id == run.run_id
    auroc = str(evaluation.facts.scores.test.auroc)
    assert auroc.startswith("0.800 (0.7")
    assert f"AUROC {auroc}" in version.description
    assert version.description.startswith("VGG-16: AUROC")
    assert version.tags["candidate"] == "vgg16"
    assert version.tags["test_auroc"] == auroc
    assert len(version.tags) <= 6
    assert f"evaluation/{evaluation.digest[:12]}/test.html" in version.description


def test_a_version_says_how_its_answers_become_the_probabilities_that_its_threshold_is_for(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    found = register_hollow(name, model, evaluation, make_tracked())
    line = evaluation.facts.calibration
    assert (found.calibration, found.offsets) == (line, model.facts.offsets)


def test_the_scores_stand_with_the_model_and_its_run_once(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    run, client = make_tracked(), tracking.connect()
    for _ in range(2):
        register_hollow(name, model, evaluation, run)
    logged = client.get_logged_model(client.get_model_version(name, "1").source.removeprefix("models:/"))
    assert {metric.key: metric.value for metric in logged.metrics}["test/auroc"] == 0.8
    assert client.get_run(run.run_id).data.metrics["tuning/cohen_kappa"] == pytest.approx(0.8)
    assert len(client.get_metric_history(run.run_id, "test/auroc")) == 1


def test_every_score_carries_the_split_that_it_is_of(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    run, client, scores = make_tracked(), tracking.connect(), evaluation.facts.scores
    for _ in range(2):
        register_hollow(name, model, evaluation, run)
    digests = {"mura-tuning": scores.tuning_digest[:36], "mura-test": scores.test_digest[:36]}
    logged = client.get_logged_model(client.get_model_version(name, "1").source.removeprefix("models:/")).metrics
    assert len(logged) == len({metric.key for metric in logged}) > 20
    for metric in logged:
        of = "mura-test" if metric.key.startswith("test/") else "mura-tuning"
        assert (metric.dataset_name, metric.dataset_digest) == (of, digests[of])
    inputs = client.get_run(run.run_id).inputs.dataset_inputs
    assert {each.dataset.name: each.dataset.digest for each in inputs} == digests
    assert {(tag.key, tag.value) for each in inputs for tag in each.tags} == {("mlflow.data.context", "evaluation")}
    assert json.loads(inputs[0].dataset.profile)["studies"] == 300


def example(of: str) -> str:
    """A block of Python in a document that calls a method."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "numbers.md").read_text(), re.S)
    (found,) = [block for block in blocks if of in block]
    return str(found)


@pytest.mark.long
def test_one_query_ranks_all_candidates_on_one_test_set(
    name: str,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    capsys: pytest.CaptureFixture[str],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    mine, other = (uuid.uuid4().hex * 2 for _ in range(2))
    for auroc, test_digest in ((0.7, mine), (0.9, mine), (0.95, other), (0.8, mine)):
        model, run = make_model(weights=f"{name} {auroc}".encode()), make_tracked()
        evaluation = make_evaluation(model, auroc, test_digest=test_digest)
        register_hollow(name, model, evaluation, run)
        # Measured on the other test set too, where the order is another.
        if auroc == 0.7:
            register_hollow(name, model, make_evaluation(model, 0.99, test_digest=other), run)
    text = example("search_logged_models").replace('"mura"', repr(name)).replace('"champion"', '"1"')
    run_example(text.replace("get_model_version_by_alias", "get_model_version"))
    assert capsys.readouterr().out.splitlines() == [f"hollow {auroc:.3f}" for auroc in (0.9, 0.8, 0.7)]


def run_example(text: str) -> None:
    exec(compile(text, "docs/numbers.md", "exec"), {})


@pytest.mark.long
def test_models_are_counted_on_the_test_split_they_were_measured_on(
    name: str,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    mine, other = (uuid.uuid4().hex * 2 for _ in range(2))
    models = [make_model(weights=uuid.uuid4().bytes) for _ in range(3)]
    run = make_tracked()
    for protocol in ({}, {"min_auroc": 0.5}):
        first = make_evaluation(models[0], 0.8, protocol, test_digest=mine)
        register_hollow(name, models[0], first, run)
    evaluation = make_evaluation(models[1], 0.7, test_digest=mine)
    register_hollow(f"{name}-too", models[1], evaluation, make_tracked())
    register_hollow(name, models[2], make_evaluation(models[2], test_digest=other), make_tracked())
    found = measured_models.on_test(mine)
    assert found.models == {model.digest for model in models[:2]}
    assert [(each.model, each.version) for each in found.versions] == [(name, 1), (name, 2), (f"{name}-too", 1)]
    assert [each.protocol and each.protocol["min_auroc"] for each in found.versions] == [0.6, 0.5, 0.6]
    # A version that was deleted was measured all the same.
    tracking.connect().delete_model_version(f"{name}-too", "1")
    assert len(measured_models.on_test(mine).models) == 2
    assert measured_models.on_test(uuid.uuid4().hex * 2) == ({*()}, [])


def test_scores_that_are_not_defined_are_left_out(
    name: str,
    model: TrainedModel,
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    undefined = Interval(value=None, low=None, high=None)
    one_class = make_scores().test.model_copy(update={"auroc": undefined, "sensitivity": undefined})
    run = make_tracked()
    registered = register_hollow(name, model, make_evaluation(model, 0.8, test=one_class), run)
    assert registered.scores.test.auroc.value is None
    assert "test/auroc" not in tracking.connect().get_run(run.run_id).data.metrics


def test_reports_and_cards_stand_with_the_run_too(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    run = make_tracked()
    register_hollow(name, model, evaluation, run)
    files = tracking.connect().list_artifacts(run.run_id, f"evaluation/{evaluation.digest[:12]}")
    names = sorted(Path(file.path).name for file in files)
    assert names == ["model_card.html", "model_card.md", "report.html", "test.html"]


def test_what_was_registered_is_read_back_as_champion(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    registered = register_hollow(name, model, evaluation, make_tracked())
    model_registry.set_alias(registered, "champion")
    assert model_registry.champion(name, "champion") == registered


def test_the_alias_moves(
    name: str,
    model: TrainedModel,
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    run = make_tracked()
    first, second = (register_hollow(name, model, make_evaluation(model, a), run) for a in (0.7, 0.8))
    model_registry.set_alias(first, "champion")
    model_registry.set_alias(second, "champion")
    assert model_registry.champion(name, "champion") == second


def test_without_a_model_or_an_alias_there_is_no_champion(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    assert model_registry.champion(name, "champion") is None
    register_hollow(name, model, evaluation, make_tracked())
    assert model_registry.champion(name, "champion") is None


@pytest.mark.long
def test_a_champion_that_was_deleted_is_none(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    registered = register_hollow(name, model, evaluation, make_tracked())
    model_registry.set_alias(registered, "champion")
    tracking.connect().delete_model_version(name, "1")
    assert model_registry.champion(name, "champion") is None
    assert not model_registry.exists(registered)


@pytest.mark.parametrize("tags", [{}, {"registered_model": "nonsense"}, {"registered_model": '{"model": "x"}'}])
def test_a_champion_of_strangers_is_refused(
    name: str, tags: dict[str, str], make_tracked: Callable[[], TrackedRun]
) -> None:
    client, run = tracking.connect(), make_tracked()
    client.create_registered_model(name)
    model_id = run.model_uri.removeprefix("models:/")
    client.create_model_version(name, source=run.model_uri, run_id=run.run_id, tags=tags, model_id=model_id)
    client.set_registered_model_alias(name, "champion", "1")
    with pytest.raises(UsageError, match="version 1"):
        model_registry.champion(name, "champion")


OLD_FACTS = """{"model": "mura", "run_id": "r1", "architecture": "vgg16", "model_digest": "a1",
"evaluation_digest": "b2", "data_digest": "c3", "code_revision": "d4", "training_seconds": 12.5, "scores": %s}"""
"""The tag as this program wrote it while it knew architectures and no candidates."""


def test_a_champion_that_an_older_version_registered_is_read(name: str, make_tracked: Callable[[], TrackedRun]) -> None:
    client, run = tracking.connect(), make_tracked()
    client.create_registered_model(name)
    tags = {
        "model_digest": "a1",
        "evaluation_digest": "b2",
        model_registry.FACTS: OLD_FACTS % make_scores(0.8).model_dump_json(),
    }
    model_id = run.model_uri.removeprefix("models:/")
    client.create_model_version(name, source=run.model_uri, run_id=run.run_id, tags=tags, model_id=model_id)
    client.set_registered_model_alias(name, "champion", "1")
    found = model_registry.champion(name, "champion")
    assert found is not None
    assert (found.candidate, found.architecture, found.version) == ("vgg16", "vgg16", 1)
    assert found.scores == make_scores(0.8)
    assert model_registry.exists(found.model_copy(update={"model": name}))


def test_a_version_that_nobody_signed_is_told_and_registered_anew(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    run, client = make_tracked(), tracking.connect()
    client.create_registered_model(name)
    facts = evidence_files.facts(model, evaluation, name, run.run_id)
    tags = model_registry.tags_of_version(facts) | {model_registry.FACTS: facts.model_dump_json(exclude={"version"})}
    model_id = run.model_uri.removeprefix("models:/")
    client.create_model_version(name, source=run.model_uri, run_id=run.run_id, tags=tags, model_id=model_id)
    old = model_registry.version(name, 1)
    assert old == facts.model_copy(update={"version": 1})
    assert "it is not signed" in str(model_registry.fault(old))
    assert "mura register --adopt" in str(model_registry.replay(old))
    assert model_registry.evidence_digest(old) == ""
    new = register_hollow(name, model, evaluation, run)
    assert new.version == 2
    assert model_registry.fault(new) is None
    assert len(model_registry.evidence_digest(new)) == 64


def test_a_golden_set_is_answered_again_in_a_fresh_process(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    assert model_registry.replay(register_hollow(name, model, evaluation, make_tracked())) is None


def test_a_version_exists_only_as_the_model_it_was(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    registered = register_hollow(name, model, evaluation, make_tracked())
    assert model_registry.exists(registered)
    assert not model_registry.exists(registered.model_copy(update={"model_digest": "another"}))
    assert not model_registry.exists(registered.model_copy(update={"version": 2}))
    assert not model_registry.exists(registered.model_copy(update={"model": "unheard of"}))


@pytest.mark.parametrize("bad", ["mura/wrist", "mura:1", "it's"])
def test_a_name_that_mlflow_does_not_take_is_told(
    bad: str,
    mlflow_here: Path,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
) -> None:
    with pytest.raises(UsageError, match="name"):
        model_registry.ensure_version(bad, model, evaluation, make_tracked())


@pytest.mark.long
@pytest.mark.parametrize("bad", ["latest", "v1"])
def test_an_alias_that_mlflow_reserves_is_told(
    bad: str,
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    registered = register_hollow(name, model, evaluation, make_tracked())
    with pytest.raises(UsageError, match="alias") as caught:
        model_registry.set_alias(registered, bad)
    assert "\n" not in str(caught.value)


def test_a_registry_that_is_not_there_is_told(no_mlflow: pytest.MonkeyPatch) -> None:
    no_mlflow.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnreachable, match=r"127\.0\.0\.1:9"):
        model_registry.champion("mura", "champion")
