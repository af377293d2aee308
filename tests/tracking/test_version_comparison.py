"""Two registered versions are compared study by study, from their stored tables."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.scores import paired
from components.tracking import model_registry
from components.tracking.version_comparison import SPLITS, compare, difference, studies_of

Made = Callable[..., RegisteredModel]


@pytest.fixture
def made(
    mlflow_here: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Made,
) -> Made:
    """Registers a version of an AUROC: `made(0.8, pictures="others")`."""

    def make(auroc: float, pictures: str = "") -> RegisteredModel:
        model = make_model("vgg16", f"{auroc} {pictures}".encode())
        return register_hollow("mura", model, make_evaluation(model, auroc, None, pictures), make_tracked())

    return make


@pytest.mark.long
def test_two_versions_differ_as_their_studies_do(made: Made) -> None:
    one, other = made(0.8), made(0.7)
    found = compare(one, other)
    assert (found.version, found.other, found.missing) == (one.version, other.version, ())
    tables = [model_registry.holder("mura", each.version, ()).studies.table for each in (one, other)]
    for split in SPLITS:
        mine, theirs = (studies_of(each, split) for each in tables if each is not None)
        expected = paired.difference(mine, theirs, (one.scores.threshold, other.scores.threshold))
        assert found.of(split) == difference(mine, theirs, (one.scores.threshold, other.scores.threshold))
        here = found.of(split)
        assert here is not None
        assert here.auroc == expected["auroc"]
    back = compare(other, one).test
    assert found.test is not None
    assert back is not None
    assert back.auroc.value == pytest.approx(-(found.test.auroc.value or 0))


@pytest.mark.long
def test_versions_of_other_test_studies_are_compared_on_tuning_alone(made: Made) -> None:
    one, other = made(0.8), made(0.7, pictures="others")
    found = compare(one, other)
    assert found.tuning is not None
    assert found.test is None
    (why,) = found.missing
    assert f"mura version {other.version}: it was measured on other test studies" in why


@pytest.mark.long
def test_scores_that_the_table_does_not_give_are_not_compared(made: Made) -> None:
    one, other = made(0.8), made(0.7)
    raised = one.scores.test.model_copy(update={"auroc": other.scores.test.auroc})
    forged = one.model_copy(update={"scores": one.scores.model_copy(update={"test": raised})})
    found = compare(forged, other)
    assert found.test is None
    assert "is not that of its scores on test: somebody changed it" in found.missing[0]


@pytest.mark.long
def test_a_version_has_what_the_gate_asks(made: Made) -> None:
    figures = made(0.8).gate
    assert figures is not None
    assert (figures.abnormal_patients, figures.normal_patients, figures.parts) == (150, 150, {"wrist": 300})
    assert 0 <= figures.expected_error <= 1
