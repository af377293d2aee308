"""`mura register --adopt`: a version from before versions were signed gets a signed twin, or a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import DataRefused, UsageError
from components.register.adoption import adopt
from components.tracking import evidence_files, model_registry


@pytest.fixture
def old(
    mlflow_here: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> tuple[TrainedModel, Evaluation]:
    """What `mura` version 1 was made of, as an older version of this program registered it."""
    run = make_tracked()
    model = make_model("vgg16", run=run)
    evaluation = make_evaluation(model, 0.8)
    _register(model, evaluation, run, lambda text: text)
    return model, evaluation


def _register(model: TrainedModel, evaluation: Evaluation, run: TrackedRun, change: Callable[[str], str]) -> None:
    client = tracking.connect()
    if not client.search_registered_models("name = 'mura'"):
        client.create_registered_model("mura")
    facts = evidence_files.facts(model, evaluation, "mura", run.run_id)
    tags = model_registry.tags_of_version(facts)
    tags[model_registry.FACTS] = change(facts.model_dump_json(exclude={"version"}))
    model_id = run.model_uri.removeprefix("models:/")
    client.create_model_version("mura", source=run.model_uri, run_id=run.run_id, tags=tags, model_id=model_id)


@pytest.mark.long
def test_a_version_is_measured_signed_and_replayed_as_a_new_one(old: tuple[TrainedModel, Evaluation]) -> None:
    model, evaluation = old
    made = adopt("models:/mura/1", [model.path], [evaluation.path])
    assert (made.version, made.model_digest, made.evaluation_digest) == (2, model.digest, evaluation.digest)
    assert model_registry.fault(made) is None
    with pytest.raises(UsageError, match="mura version 2 is signed already"):
        adopt("models:/mura/2", [model.path], [evaluation.path])


@pytest.mark.long
def test_a_version_whose_model_is_not_here_is_told_why(old: tuple[TrainedModel, Evaluation], tmp_path: Path) -> None:
    model, evaluation = old
    with pytest.raises(UsageError, match=r"cannot be adopted: expected the TrainedModel of digest .* found none"):
        adopt("models:/mura/1", [tmp_path], [evaluation.path])
    with pytest.raises(UsageError, match=r"cannot be adopted: expected the Evaluation of digest .* found none"):
        adopt("models:/mura/1", [model.path], [tmp_path])


@pytest.mark.long
def test_a_version_with_other_scores_than_its_evaluation_is_refused(old: tuple[TrainedModel, Evaluation]) -> None:
    model, evaluation = old
    _register(model, evaluation, model.facts.run, lambda text: text.replace('"value":0.8,', '"value":0.81,', 1))
    with pytest.raises(DataRefused, match=r"mura version 2 cannot be adopted: its evaluation gives .* 0\.8"):
        adopt("models:/mura/2", [model.path], [evaluation.path])
