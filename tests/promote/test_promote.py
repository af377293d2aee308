from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import around, make_scores

from components.artifacts.evaluation import Evaluation, Interval
from components.artifacts.promotion import REPORT, Promotion
from components.artifacts.registration import RegisteredModel, Registration, RegistrationFacts
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import UsageError
from components.params.promote import PromoteParams
from components.promote import promote
from components.promote.deciding import best, decide
from components.tracking import model_registry

UNDEFINED = Interval(value=None, low=None, high=None)
RULES = {"alias": "champion", "metric": "auroc", "min_gain": 0.01, "min_auroc": 0.6, "max_loss": 0.02}


def rules(**changes: Any) -> PromoteParams:
    return PromoteParams(**RULES | changes)


def version(
    number: int = 1, architecture: str = "vgg16", tuning: float | None = 0.8, test: float | None = 0.8, **changes: Any
) -> RegisteredModel:
    scores = make_scores()
    splits = {
        name: getattr(scores, name).model_copy(update={"auroc": UNDEFINED if value is None else around(value)})
        for name, value in (("tuning", tuning), ("test", test))
    }
    digests = {name: changes.pop(name) for name in ("tuning_digest", "test_digest") if name in changes}
    facts = {
        "model": "mura",
        "version": number,
        "run_id": "r",
        "architecture": architecture,
        "model_digest": f"model {number}",
        "evaluation_digest": f"evaluation {number}",
        "data_digest": "data",
        "code_revision": "code",
        "training_seconds": 1.0,
        "scores": scores.model_copy(update=splits | digests),
    }
    return RegisteredModel(**facts | changes)


@pytest.mark.parametrize(
    ("champion", "challenger", "changes", "outcome", "reason"),
    [
        (None, {}, {}, "promoted", "There was no champion."),
        (None, {"test": 0.64}, {}, "refused", "must be at least 0.600"),
        (None, {"test": 0.65}, {}, "promoted", "no champion"),
        (None, {"test": None}, {}, "refused", "no test AUROC"),
        (None, {"tuning": None}, {}, "refused", "no auroc on tuning"),
        ({}, {"number": 1}, {}, "kept", "is already the champion"),
        ({}, {"number": 1, "test": 0.1}, {}, "kept", "is already the champion"),
        ({}, {"model_digest": "model 1"}, {}, "kept", "evaluated anew"),
        ({}, {"model_digest": "model 1", "test_digest": "other"}, {}, "kept", "evaluated anew"),
        ({}, {"tuning": 0.85}, {}, "promoted", "a gain of +0.0500"),
        ({}, {"tuning": 0.81}, {}, "promoted", "a gain of +0.0100"),
        ({}, {"tuning": 0.805}, {}, "kept", "less than the 0.0100 wanted"),
        ({}, {"tuning": 0.8}, {"min_gain": 0}, "kept", "a gain of +0.0000"),
        ({}, {"tuning": 0.8001}, {"min_gain": 0}, "promoted", "a gain of +0.0001"),
        ({}, {"tuning": 0.7, "test": 0.99}, {}, "kept", "a gain of -0.1000"),
        ({}, {"tuning": 0.9, "test": 0.78}, {}, "promoted", "0.0200 below the champion's"),
        ({}, {"tuning": 0.9, "test": 0.77}, {}, "refused", "more than the 0.0200 allowed"),
        ({}, {"tuning": 0.9, "test": 0.79}, {"max_loss": 0}, "refused", "more than the 0.0000 allowed"),
        ({}, {"tuning": 0.9, "test": 0.63}, {}, "refused", "must be at least 0.600"),
        ({}, {"tuning": 0.9, "test_digest": "other"}, {}, "refused", "different test studies"),
        ({}, {"tuning": 0.9, "tuning_digest": "other"}, {}, "refused", "different tuning studies"),
        ({"tuning": None}, {}, {}, "refused", "evaluate it anew"),
        ({"test": None}, {"tuning": 0.9}, {}, "refused", "evaluate it anew"),
        ({}, {"tuning": 0.9}, {"metric": "cohen_kappa"}, "kept", "cohen kappa on tuning"),
    ],
)
def test_decision(
    champion: dict[str, Any] | None, challenger: dict[str, Any], changes: dict[str, Any], outcome: str, reason: str
) -> None:
    holder = None if champion is None else version(**{"number": 1} | champion)
    decision = decide(holder, version(**{"number": 2} | challenger), rules(**changes))
    assert decision.outcome == outcome
    assert reason in " ".join(decision.reasons)


def test_a_decision_names_every_difference_between_the_data_sets() -> None:
    decision = decide(version(1), version(2, tuning=0.9, test_digest="x", tuning_digest="y"), rules())
    assert len(decision.reasons) == 2


def test_candidates_are_ranked_on_tuning_and_not_on_test() -> None:
    assert best([version(1, tuning=0.8, test=0.7), version(2, tuning=0.7, test=0.9)], "auroc").version == 1


def test_of_equals_the_better_calibrated_is_best_then_the_first_by_name() -> None:
    split = make_scores().tuning
    calibrated = make_scores(tuning=split.model_copy(update={"brier": around(0.1)}))
    equals = [version(1, "vgg19"), version(2, "vgg16"), version(3, "custom_cnn", scores=calibrated)]
    assert best(equals, "auroc").version == 3
    assert best(equals[:2], "auroc").architecture == "vgg16"
    assert best(equals[1::-1], "auroc").architecture == "vgg16"


def test_a_candidate_without_the_metric_is_last() -> None:
    assert best([version(1, tuning=None), version(2, tuning=0.1)], "auroc").version == 2


def test_an_empty_registration_is_refused(tmp_path: Path) -> None:
    empty = Registration.seal(tmp_path, RegistrationFacts(versions=()))
    with pytest.raises(UsageError, match="at least one"):
        promote(empty, rules(), tmp_path)


@pytest.fixture
def registered(
    mlflow_here: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> Callable[..., Registration]:
    """Registers models by architecture and AUROC: `registered(vgg16=0.8, vgg19=0.7)`."""

    def make(test_digest: str = "7e" * 32, **aurocs: float) -> Registration:
        versions = []
        for architecture, auroc in aurocs.items():
            model = make_model(architecture, weights=f"{architecture} {auroc} {test_digest}".encode())
            evaluation = make_evaluation(model, auroc, test_digest=test_digest)
            versions.append(model_registry.ensure_version("mura", model, evaluation, make_tracked()))
        folder = mlflow_here / f"registration-{len(list(mlflow_here.iterdir()))}"
        folder.mkdir()
        return Registration.seal(folder, RegistrationFacts(versions=tuple(versions)))

    return make


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_the_best_candidate_becomes_the_first_champion(registered: Callable[..., Registration], out: Path) -> None:
    promotion = promote(registered(vgg16=0.7, vgg19=0.8), rules(), out)
    held = model_registry.champion("mura", "champion")
    assert held is not None
    assert held.architecture == "vgg19"
    assert promotion.facts.current == promotion.facts.challenger == held
    assert promotion.facts.previous is None


def test_promoting_again_changes_nothing(registered: Callable[..., Registration], out: Path) -> None:
    registration = registered(vgg16=0.7, vgg19=0.8)
    promote(registration, rules(), out)
    (again := out.with_name("again")).mkdir()
    facts = promote(registration, rules(), again).facts
    assert facts.decision.outcome == "kept"
    assert facts.previous == facts.current == model_registry.champion("mura", "champion")


def test_killed_after_moving_the_alias_the_receipt_still_names_the_champion_of_before(
    registered: Callable[..., Registration], out: Path
) -> None:
    promote(registered(vgg16=0.7), rules(), out)
    (work := out.with_name("work")).mkdir()
    better = registered(vgg19=0.8)
    undisturbed = promote(better, rules(), work).facts
    # What a kill leaves of the work directory: the checkpoint; and the alias has moved already.
    for path in work.iterdir():
        if path.is_file():
            path.unlink()
    assert promote(better, rules(), work).facts == undisturbed
    assert undisturbed.decision.promote


def test_a_better_model_takes_the_champions_place(registered: Callable[..., Registration], out: Path) -> None:
    promote(registered(vgg16=0.7), rules(), out)
    facts = promote(registered(vgg19=0.8), rules(), out).facts
    assert facts.decision.promote
    assert facts.previous is not None
    assert facts.previous.architecture == "vgg16"
    assert facts.current == model_registry.champion("mura", "champion") == facts.challenger


def test_champion_stays_when_the_test_sets_differ(registered: Callable[..., Registration], out: Path) -> None:
    promote(registered(vgg16=0.7), rules(), out)
    facts = promote(registered(vgg19=0.8, test_digest="0" * 64), rules(), out).facts
    held = model_registry.champion("mura", "champion")
    assert facts.decision.outcome == "refused"
    assert held == facts.current == facts.previous


def test_a_refusal_leaves_a_receipt_and_a_page(registered: Callable[..., Registration], out: Path) -> None:
    promote(registered(vgg16=0.7), rules(min_auroc=0.9), out)
    facts = Promotion.read(out).facts
    assert facts.decision.outcome == "refused"
    assert facts.current is None
    assert model_registry.champion("mura", "champion") is None
    assert "vgg16" in (out / REPORT).read_text().lower().replace("-", "")


def test_a_version_that_is_gone_is_named(registered: Callable[..., Registration], out: Path) -> None:
    from components import tracking

    registration = registered(vgg16=0.8, vgg19=0.7)
    tracking.connect().delete_model_version("mura", "2")
    with pytest.raises(UsageError, match=r"version 2 \(vgg19\).*register.* again"):
        promote(registration, rules(), out)
    assert model_registry.champion("mura", "champion") is None
