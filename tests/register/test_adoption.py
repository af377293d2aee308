"""`mura register --adopt`: a version from before versions were signed gets a signed twin, or a reason."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from before_the_gate import WITH_THE_GATE, as_before, register_as_before
from decided import ALIAS, put

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import DataRefused, UsageError
from components.register.adoption import adopt
from components.tracking import model_registry


class Old(NamedTuple):
    """What `mura` version 1 was made of, before there was a gate."""

    model: TrainedModel
    evaluation: Evaluation
    """By the older version of this program."""
    again: Evaluation
    """Of the same model, by this one."""


@pytest.fixture
def old(
    mlflow_here: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    tmp_path: Path,
) -> Old:
    run = make_tracked()
    model = make_model("vgg16", run=run)
    again = make_evaluation(model, 0.8)
    evaluation = as_before(again, tmp_path / "before")
    assert evaluation.digest != again.digest
    register_as_before(model, evaluation)
    return Old(model, evaluation, again)


@pytest.mark.long
def test_a_version_is_measured_signed_and_replayed_as_a_new_one(old: Old, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = adopt("models:/mura/1", [old.model.path], [old.evaluation.path, old.again.path])
    assert (made.version, made.model_digest, made.evaluation_digest) == (2, old.model.digest, old.again.digest)
    assert made.gate is not None
    assert model_registry.fault(made) is None
    test = made.scores.test.auroc
    said = f"new evaluation, {old.again.path}: test AUROC {test}; mura version 1 was registered with {test}"
    assert said in caplog.text
    with pytest.raises(UsageError, match="mura version 2 is signed already"):
        adopt("models:/mura/2", [old.model.path], [old.again.path])


@pytest.mark.long
def test_an_old_champion_can_be_adopted_and_promoted(old: Old) -> None:
    tracking.connect().set_registered_model_alias("mura", ALIAS, "1")
    made = adopt(f"models:/mura@{ALIAS}", [old.model.path], [old.again.path])
    assert put(made, candidate=made.version).decision.outcome == "promoted"


@pytest.mark.long
def test_an_evaluation_from_before_the_gate_is_not_enough(old: Old) -> None:
    with pytest.raises(UsageError, match="cannot be adopted: expected an Evaluation of") as refused:
        adopt("models:/mura/1", [old.model.path], [old.evaluation.path])
    said = str(refused.value)
    assert f"{old.evaluation.path} is of an older version of this program, without" in said
    for name in WITH_THE_GATE:
        assert name in said
    for words in ("mura evaluate --manifest artifacts/valid_manifest --shards artifacts/shards", str(old.model.path)):
        assert words in said


@pytest.mark.long
def test_a_version_whose_model_is_not_here_is_told_why(old: Old, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be adopted: expected the TrainedModel of digest .* found none"):
        adopt("models:/mura/1", [tmp_path], [old.again.path])
    with pytest.raises(UsageError, match=r"cannot be adopted: expected an Evaluation of .*; found none\. Make one"):
        adopt("models:/mura/1", [old.model.path], [tmp_path])


@pytest.mark.long
def test_the_evaluation_of_a_version_is_taken_where_it_has_what_the_gate_asks_for(
    old: Old, make_evaluation: Callable[..., Evaluation]
) -> None:
    other = make_evaluation(old.model, 0.82)
    register_as_before(old.model, old.again)
    made = adopt("models:/mura/2", [old.model.path], [other.path, old.again.path])
    assert made.evaluation_digest == old.again.digest


@pytest.mark.long
def test_a_version_with_other_scores_than_its_evaluation_is_refused(old: Old) -> None:
    register_as_before(old.model, old.again, lambda text: text.replace('"value":0.8,', '"value":0.81,', 1))
    with pytest.raises(DataRefused, match=r"mura version 2 cannot be adopted: its evaluation gives .* 0\.8"):
        adopt("models:/mura/2", [old.model.path], [old.again.path])
