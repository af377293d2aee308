import base64
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import around, make_scores
from protocols import PROTOCOL

from components import tracking
from components.artifacts.evaluation import Evaluation, Interval
from components.artifacts.promotion import REPORT, Promotion
from components.artifacts.registration import (
    Comparison,
    Difference,
    Opened,
    RegisteredModel,
    Registration,
    RegistrationFacts,
    ranked,
)
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import DataRefused, UsageError
from components.cli import main
from components.params.promote import PromoteParams
from components.params.protocol import ProtocolParams
from components.promote import promote
from components.promote.page import draw, draw_forest
from components.tracking import model_registry

UNDEFINED = Interval(value=None, low=None, high=None)
PARAMS = PromoteParams(alias="champion")


def rules(**changes: Any) -> ProtocolParams:
    return ProtocolParams(**PROTOCOL | changes)


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
        "candidate": architecture,
        "architecture": architecture,
        "model_digest": f"model {number}",
        "evaluation_digest": f"evaluation {number}",
        "data_digest": "data",
        "code_revision": "code",
        "training_seconds": 1.0,
        "scores": scores.model_copy(update=splits | digests),
    }
    return RegisteredModel(**facts | changes)


def numbers(*candidates: RegisteredModel) -> list[int]:
    """Versions, best first."""
    return [model.version for model in ranked(candidates, "auroc")]


def test_candidates_are_ranked_on_tuning_and_not_on_test() -> None:
    assert numbers(version(1, tuning=0.7, test=0.9), version(2, tuning=0.8, test=0.7)) == [2, 1]


def test_equals_are_ranked_by_calibration_then_by_name() -> None:
    split = make_scores().tuning
    calibrated = make_scores(tuning=split.model_copy(update={"brier": around(0.1)}))
    equals = [version(1, candidate="wide"), version(2, candidate="narrow"), version(3, scores=calibrated)]
    assert numbers(*equals) == numbers(*equals[::-1]) == [3, 2, 1]


def test_a_candidate_without_the_metric_is_last() -> None:
    assert numbers(version(1, tuning=None), version(2, tuning=0.1)) == [2, 1]


def test_an_empty_registration_is_refused(tmp_path: Path) -> None:
    empty = Registration.seal(tmp_path, RegistrationFacts(versions=()))
    with pytest.raises(UsageError, match="at least one"):
        promote(empty, PARAMS, tmp_path)


@pytest.fixture
def registered(
    mlflow_here: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> Callable[..., Registration]:
    """Registers candidates by name and AUROC: `registered(vgg16=0.8, wide=0.7)`, all VGG-16 but vgg19."""

    def make(test_digest: str = "7e" * 32, protocol: dict[str, Any] | None = None, **aurocs: float) -> Registration:
        versions = []
        for candidate, auroc in aurocs.items():
            architecture = candidate if candidate == "vgg19" else "vgg16"
            weights = f"{candidate} {auroc} {test_digest}".encode()
            model = make_model(architecture, weights=weights, candidate=candidate)
            evaluation = make_evaluation(model, auroc, protocol, test_digest=test_digest)
            versions.append(register_hollow("mura", model, evaluation, make_tracked()))
        folder = mlflow_here / f"registration-{len(list(mlflow_here.iterdir()))}"
        folder.mkdir()
        return Registration.seal(folder, RegistrationFacts(versions=tuple(versions)))

    return make


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_the_best_candidate_becomes_the_first_champion(registered: Callable[..., Registration], out: Path) -> None:
    promotion = promote(registered(vgg16=0.7, vgg19=0.8), PARAMS, out)
    held = model_registry.champion("mura", "champion")
    assert held is not None
    assert held.architecture == "vgg19"
    assert promotion.facts.current == promotion.facts.challenger == held
    assert promotion.facts.previous is None


@pytest.mark.long
def test_promoting_again_changes_nothing_and_gives_the_same_receipt(
    registered: Callable[..., Registration], out: Path
) -> None:
    registration = registered(vgg16=0.7, vgg19=0.8)
    first = promote(registration, PARAMS, out).facts
    (again := out.with_name("again")).mkdir()
    assert promote(registration, PARAMS, again).facts == first
    assert first.previous is None
    assert first.current == model_registry.champion("mura", "champion")


@pytest.mark.long
def test_killed_after_moving_the_alias_the_receipt_still_names_the_champion_of_before(
    registered: Callable[..., Registration], out: Path
) -> None:
    promote(registered(vgg16=0.7), PARAMS, out)
    (work := out.with_name("work")).mkdir()
    better = registered(vgg19=0.8)
    undisturbed = promote(better, PARAMS, work).facts
    # What a kill leaves of the work directory: the checkpoint; and the alias has moved already.
    for path in work.iterdir():
        if path.is_file():
            path.unlink()
    assert promote(better, PARAMS, work).facts == undisturbed
    assert undisturbed.decision.promote


def test_a_better_model_takes_the_champions_place(registered: Callable[..., Registration], out: Path) -> None:
    promote(registered(vgg16=0.7), PARAMS, out)
    facts = promote(registered(vgg19=0.8), PARAMS, out).facts
    assert facts.decision.promote
    assert facts.previous is not None
    assert facts.previous.architecture == "vgg16"
    assert facts.current == model_registry.champion("mura", "champion") == facts.challenger


@pytest.mark.long
def test_champion_stays_when_the_test_sets_differ(registered: Callable[..., Registration], out: Path) -> None:
    promote(registered(vgg16=0.7), PARAMS, out)
    facts = promote(registered(vgg19=0.8, test_digest="0" * 64), PARAMS, out).facts
    held = model_registry.champion("mura", "champion")
    assert facts.decision.outcome == "refused"
    assert held == facts.current == facts.previous


@pytest.mark.long
def test_a_refusal_leaves_a_receipt_and_a_page(registered: Callable[..., Registration], out: Path) -> None:
    promote(registered(vgg16=0.7, protocol={"min_auroc": 0.9}), PARAMS, out)
    facts = Promotion.read(out).facts
    assert facts.decision.outcome == "refused"
    assert facts.current is None
    assert model_registry.champion("mura", "champion") is None
    assert "Refused as champion: VGG-16 version 1" in " ".join((out / REPORT).read_text().split())


@pytest.mark.long
def test_the_page_shows_the_test_split_and_the_plots_of_dvc_the_tuning_split(
    registered: Callable[..., Registration], out: Path
) -> None:
    facts = promote(registered(vgg16=0.8, wide=0.7), PARAMS, out).facts
    page = (out / REPORT).read_text()
    drawn = draw(facts, rules())._asdict()
    assert {path.name for path in (out / "plots").iterdir()} == {f"{name}.png" for name in drawn}
    for name, picture in drawn.items():
        assert (out / "plots" / f"{name}.png").read_bytes() == picture
        assert base64.b64encode(picture).decode() not in page
    assert base64.b64encode(draw_forest(facts)).decode() in page


@pytest.mark.long
def test_the_difference_to_the_champion_comes_from_the_receipt_of_register(
    registered: Callable[..., Registration], out: Path
) -> None:
    promote(registered(vgg16=0.7), PARAMS, out)
    made = registered(vgg19=0.8)
    difference = Difference(auroc=around(0.1), cohen_kappa=around(0.1), sensitivity=around(0.1))
    found = Comparison(version=2, other=1, aliases=("champion",), tuning=difference, test=None)
    of_others = [found.model_copy(update=changes) for changes in ({"version": 3}, {"other": 3})]
    facts = made.facts.model_copy(update={"comparisons": (*of_others, found)})
    (later := out.with_name("later")).mkdir()
    promotion = promote(Registration.seal(made.path, facts), PARAMS, later)
    assert promotion.facts.comparison == found
    assert "VGG-19 version 2 compared with VGG-16 version 1" in (later / REPORT).read_text()
    # Promoted again, the receipt is the same.
    (again := out.with_name("again")).mkdir()
    assert promote(Registration.seal(made.path, facts), PARAMS, again).facts.comparison == found


@pytest.mark.long
def test_candidates_of_several_protocols_are_not_compared(registered: Callable[..., Registration], out: Path) -> None:
    one, other = registered(vgg16=0.8), registered(wide=0.7, protocol={"min_gain": 0.5})
    facts = RegistrationFacts(versions=(*one.facts.versions, *other.facts.versions))
    with pytest.raises(UsageError, match="measured under one protocol"):
        promote(Registration.seal(one.path, facts), PARAMS, out)


def test_a_gate_that_says_no_ends_with_4_and_leaves_a_receipt(
    registered: Callable[..., Registration], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = registered(wide=0.8, protocol={"min_auroc": 1.0})
    words = ["--registration", str(strict.path), "--params", '{"alias": "champion"}', "--out", str(out / "strict")]
    assert main.run(["promote", *words]) == 4
    error = capsys.readouterr().err.splitlines()[-1]
    assert "promote: wide is refused: " in error
    assert "must be at least 1.000" in error
    assert Promotion.read(out / "strict").facts.current is None


@pytest.mark.long
def test_the_page_says_how_often_the_test_split_was_opened(registered: Callable[..., Registration], out: Path) -> None:
    made = registered(vgg16=0.8)
    facts = made.facts.model_copy(update={"opened": Opened(models=17, protocols=())})
    promotion = promote(Registration.seal(made.path, facts), PARAMS, out)
    assert promotion.facts.opened == facts.opened
    assert "17 models that this registry knows" in (out / REPORT).read_text()


@pytest.mark.long
def test_a_champion_of_another_protocol_is_pointed_out(registered: Callable[..., Registration], out: Path) -> None:
    promote(registered(vgg16=0.7, protocol={"min_auroc": 0.5}), PARAMS, out)
    assert "another protocol" not in (out / REPORT).read_text()
    promote(registered(vgg19=0.8), PARAMS, out)
    said = " ".join((out / REPORT).read_text().split())
    assert "The champion before was measured under another protocol:</b> min_auroc 0.5, now 0.6." in said


@pytest.mark.long
def test_one_candidate_alone_is_promoted_and_shown(registered: Callable[..., Registration], out: Path) -> None:
    facts = promote(registered(wide=0.8), PARAMS, out).facts
    assert facts.decision.promote
    assert "wide (VGG-16)" in (out / REPORT).read_text()


@pytest.mark.long
def test_two_candidates_of_one_architecture_compete_by_name(registered: Callable[..., Registration], out: Path) -> None:
    facts = promote(registered(narrow=0.7, wide=0.8), PARAMS, out).facts
    assert facts.challenger.candidate == "wide"
    table = (out / REPORT).read_text().split("<h2>Candidates</h2>")[1]
    assert table.index("wide (VGG-16)") < table.index("narrow (VGG-16)")


@pytest.mark.long
def test_a_candidate_that_is_no_longer_registered_is_gone_from_the_page(
    registered: Callable[..., Registration], out: Path
) -> None:
    promote(registered(vgg16=0.7, wide=0.6), PARAMS, out)
    (later := out.with_name("later")).mkdir()
    promote(registered(vgg16=0.8), PARAMS, later)
    assert "wide" in (out / REPORT).read_text()
    assert "wide" not in (later / REPORT).read_text()


@pytest.mark.long
def test_a_version_that_is_gone_is_named(registered: Callable[..., Registration], out: Path) -> None:
    registration = registered(vgg16=0.8, wide=0.7)
    tracking.connect().delete_model_version("mura", "2")
    with pytest.raises(UsageError, match=r"version 2 \(wide\).*register.* again"):
        promote(registration, PARAMS, out)
    assert model_registry.champion("mura", "champion") is None


# Receipts and tags that were changed. Digests and checksums fit; the predictions are as they were.


FALSE = {"value": 0.9999, "low": 0.999, "high": 1.0}
LOWERED = {"value": 0.65, "low": 0.6, "high": 0.7}


def with_auroc(facts: dict[str, Any], auroc: dict[str, float]) -> dict[str, Any]:
    """Facts of a version with a false AUROC."""
    scores = facts["scores"]
    return facts | {"scores": scores | {split: scores[split] | {"auroc": auroc} for split in ("tuning", "test")}}


def raised(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of a version with an AUROC that is too high."""
    return with_auroc(facts, FALSE)


def forge_receipt(registration: Registration, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Registration:
    """The receipt with its last version changed, sealed again."""
    *others, last = registration.facts.versions
    forged = RegisteredModel.model_validate(change(last.model_dump()))
    return Registration.seal(registration.path, RegistrationFacts(versions=(*others, forged)))


def forge_tags(number: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """A version with other facts in its tags."""
    known = model_registry.version("mura", number)
    assert known is not None
    forged = RegisteredModel.model_validate(change(known.model_dump()))
    for name, text in model_registry.tags_of_version(forged).items():
        tracking.connect().set_model_version_tag("mura", str(number), name, text)


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "its AUROC": raised,
    "its model": lambda facts: facts | {"architecture": "vgg19"},
    "its name": lambda facts: facts | {"candidate": "other"},
    "its data": lambda facts: facts | {"data_digest": "0" * 64},
    "its test set": lambda facts: facts | {"scores": facts["scores"] | {"test_digest": "0" * 64}},
    "its threshold": lambda facts: facts | {"scores": facts["scores"] | {"threshold": 0.1}},
}


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_receipt_that_the_registry_does_not_know_so_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], registered: Callable[..., Registration], out: Path
) -> None:
    forged = forge_receipt(registered(vgg16=0.8, wide=0.7), change)
    with pytest.raises(
        DataRefused, match=r"mura version 2 \(.+\) is not what .*registration-\d+ says: .*its evidence says"
    ) as refusal:
        promote(Registration.read(forged.path), PARAMS, out)
    assert refusal.value.exit_code == 3
    assert "\n" not in str(refusal.value)
    assert model_registry.champion("mura", "champion") is None


@pytest.mark.long
def test_tags_that_the_receipt_does_not_know_so_are_refused(registered: Callable[..., Registration], out: Path) -> None:
    registration = registered(vgg16=0.8, wide=0.7)
    forge_tags(2, raised)
    with pytest.raises(DataRefused, match=r"version 2 \(wide\) is not what .*its tag of that name says 1\.000"):
        promote(registration, PARAMS, out)


@pytest.mark.long
def test_a_receipt_and_tags_that_agree_on_a_false_score_are_refused_by_the_evidence(
    registered: Callable[..., Registration], out: Path
) -> None:
    forged = forge_receipt(registered(vgg16=0.8, wide=0.7), raised)
    forge_tags(2, raised)
    with pytest.raises(DataRefused, match=r"expected scores\.\S+ 0\.9999, its evidence says 0\.70"):
        promote(forged, PARAMS, out)
    assert model_registry.champion("mura", "champion") is None


@pytest.mark.long
@pytest.mark.parametrize("again", [0.6, 0.8])
def test_a_model_that_was_evaluated_twice_has_two_versions_of_one_run(
    again: float,
    registered: Callable[..., Registration],
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    out: Path,
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    model, run = make_model(), make_tracked()
    versions = [
        register_hollow("mura", model, make_evaluation(model, auroc, test_digest="7e" * 32), run)
        for auroc in (0.7, again)
    ]
    assert all(model_registry.contradiction(version) is None for version in versions)


@pytest.mark.long
def test_a_champion_whose_tags_were_lowered_keeps_its_place(registered: Callable[..., Registration], out: Path) -> None:
    promote(registered(vgg16=0.8), PARAMS, out)
    worse = registered(vgg19=0.7)
    forge_tags(1, lambda facts: with_auroc(facts, LOWERED))
    with pytest.raises(DataRefused, match=r"the champion, mura version 1, is not what was registered: .* 0\.65"):
        promote(worse, PARAMS, out)
    held = model_registry.champion("mura", "champion")
    assert held is not None
    assert held.version == 1


# A model whose files are lost.


def lose(version: int) -> None:
    """Remove the files of a version, as `rm -rf mlruns` does."""
    source = tracking.connect().get_model_version("mura", str(version)).source
    shutil.rmtree(Path("mlruns", "mura", "models", source.removeprefix("models:/")))


@pytest.mark.long
def test_a_candidate_that_cannot_be_loaded_is_not_called_the_champion(
    registered: Callable[..., Registration], out: Path
) -> None:
    registration = registered(vgg16=0.8)
    promote(registration, PARAMS, out)
    lose(1)
    refusal = promote(registration, PARAMS, out).verdict()
    assert refusal is not None
    assert refusal.exit_code == 4
    assert "VGG-16 version 1 cannot be trusted: " in str(refusal)
    assert "Register its model again" in str(refusal)
    assert "\n" not in str(refusal)


@pytest.mark.long
def test_the_same_network_takes_the_place_of_a_champion_that_is_lost(
    registered: Callable[..., Registration], out: Path
) -> None:
    promote(registered(vgg16=0.8), PARAMS, out)
    lose(1)
    facts = promote(registered(vgg16=0.8), PARAMS, out).facts
    assert facts.decision.outcome == "promoted"
    assert "The champion, VGG-16 version 1, cannot be loaded" in facts.decision.reasons[0]
    held = model_registry.champion("mura", "champion")
    assert held is not None
    assert held.version == 2


@pytest.mark.long
@pytest.mark.parametrize("auroc", [pytest.param(0.7, marks=pytest.mark.longest), 0.9])
def test_another_network_does_not_take_the_place_of_a_champion_that_is_lost(
    auroc: float, registered: Callable[..., Registration], out: Path
) -> None:
    """The table of its studies is lost with its files: nothing says by how much another is better."""
    promote(registered(vgg16=0.8), PARAMS, out)
    lose(1)
    decision = promote(registered(vgg19=auroc), PARAMS, out).facts.decision
    assert decision.outcome == "refused"
    assert "cannot be loaded" in decision.reasons[0]
    assert model_registry.alias_holder("mura", "champion") == 1
    if auroc > 0.8:
        assert "`mura promote --first`" in " ".join((*decision.reasons, *decision.on_test))


def test_a_wrong_patience_is_told_at_the_beginning(
    tmp_path: Path, mlflow_here: Path, no_mlflow: pytest.MonkeyPatch
) -> None:
    no_mlflow.setenv("MURA_PATIENCE", "abc")
    receipt = Registration.seal(mlflow_here, RegistrationFacts(versions=(version(),)))
    with pytest.raises(UsageError, match="MURA_PATIENCE is abc: expected seconds"):
        promote(receipt, PARAMS, tmp_path / "out")


def test_an_experiment_of_dvc_promotes_nothing(
    tmp_path: Path, no_mlflow: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "components")
    # Whoever asked for a registry would fail here.
    no_mlflow.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    receipts = {}
    for name, trial, versions in (("real", None, (version(),)), ("trial", "puffy-dogs", ())):
        (tmp_path / name).mkdir()
        receipts[name] = Registration.seal(tmp_path / name, RegistrationFacts(versions=versions, trial=trial))
    with no_mlflow.context() as patch:
        patch.setenv("DVC_EXP_NAME", "puffy-dogs")
        for name, receipt in receipts.items():
            (out := tmp_path / f"out of {name}").mkdir()
            made = promote(receipt, PARAMS, out)
            assert made.verdict() is None
            assert (made.facts.decision.outcome, made.facts.current, made.facts.candidates) == ("trial", None, ())
            assert "dvc exp apply puffy-dogs && dvc repro" in made.facts.decision.reasons[0]
            assert Promotion.read(out).facts == made.facts
            assert caplog.messages[-1] == "promote: trial puffy-dogs: nothing is promoted"
            # DVC, which keeps no empty directory, finds a plot.
            assert [path.name for path in (out / "plots").iterdir()] == ["trial.png"]
    # The receipt of an experiment that was applied, outside of it.
    with pytest.raises(UsageError, match="of the experiment puffy-dogs, where nothing is registered"):
        promote(receipts["trial"], PARAMS, out)
