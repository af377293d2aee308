"""The rules of the gate, each alone and in pairs."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from conftest import around, make_scores
from protocols import PROTOCOL

from components.artifacts.evaluation import Interval
from components.artifacts.promotion import Criterion, Decision, Question
from components.artifacts.registration import Difference, GateFigures, RegisteredModel, VersionComparison
from components.promote import decision
from components.promote.decision import decide

UNDEFINED = Interval(value=None, low=None, high=None)
TOO_FEW = Interval(value=0.99, low=None, high=None)
FIGURES = GateFigures(
    abnormal_patients=40, normal_patients=50, parts={"wrist": 90}, expected_error=0.05, expected_error_by_chance=0.06
)


def version(
    number: int = 1,
    tuning: float | None = 0.8,
    test: float | None = 0.8,
    sensitivity: Interval | None = None,
    **changes: Any,
) -> RegisteredModel:
    scores = make_scores()
    aurocs = {
        name: UNDEFINED if value is None else around(value) for name, value in (("tuning", tuning), ("test", test))
    }
    splits = {name: getattr(scores, name).model_copy(update={"auroc": auroc}) for name, auroc in aurocs.items()}
    if sensitivity is not None:
        splits["test"] = splits["test"].model_copy(update={"sensitivity": sensitivity})
    digests = {name: changes.pop(name) for name in ("tuning_digest", "test_digest") if name in changes}
    facts = {
        "model": "mura",
        "version": number,
        "run_id": "r",
        "candidate": "vgg16",
        "architecture": "vgg16",
        "model_digest": f"model {number}",
        "evaluation_digest": f"evaluation {number}",
        "data_digest": "data",
        "code_revision": "code",
        "training_seconds": 1.0,
        "gate": FIGURES,
        "scores": scores.model_copy(update=splits | digests),
    }
    return RegisteredModel(**facts | changes)


def compared(other: int, value: float = 0.0, reach: float = 0.01, missing: str = "") -> VersionComparison:
    """Version 2 minus another one."""
    interval = Interval(value=value, low=value - reach, high=value + reach)
    found = None if missing else Difference(auroc=interval, cohen_kappa=interval, sensitivity=interval)
    return VersionComparison(version=2, other=other, tuning=found, test=found, missing=(missing,) if missing else ())


def question(**changes: Any) -> Question:
    """A better challenger, version 2, a champion, version 1, and another reference, version 3, unless it is changed.

    `rules` are changes of the protocol.
    """
    rules = PROTOCOL | {"max_calibration_excess": 0.05} | changes.pop("rules", {})
    facts = {
        "champion": version(1),
        "challenger": version(2, tuning=0.9),
        "reference": version(3),
        "protocol": rules,
        "against_champion": compared(1),
        "against_reference": compared(3),
    }
    return Question(**facts | changes)


def said(found: Decision) -> str:
    return " ".join((*found.reasons, *found.on_test))


def criterion(found: Decision, name: str) -> Criterion:
    (one,) = (each for each in found.criteria if each.name == name)
    return one


def test_a_better_challenger_that_loses_nothing_is_promoted() -> None:
    found = decide(question())
    assert found.outcome == "promoted"
    assert "The gain is +0.1000" in said(found)
    assert "against the reference, VGG-16 version 3" in said(found)
    names = [each.name for each in found.criteria]
    assert names == [
        *decision.TRUST,
        *decision.FLOORS,
        decision.SAME_STUDIES,
        decision.GAIN,
        decision.LOSS,
        decision.TOTAL_LOSS,
        decision.PARTS,
        decision.KAPPA,
    ]
    assert [each.name for each in found.criteria if each.passed is None] == [decision.PARTS, decision.KAPPA]


def challenger(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """What else the challenger is."""

    def change(facts: dict[str, Any]) -> None:
        facts["challenger"] |= changes

    return change


def asked(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """What else the question is."""

    def change(facts: dict[str, Any]) -> None:
        facts["question"] |= changes

    return change


# By criterion: what fails it, the outcome if nothing else fails, and words of it. In the order of the rules.
FAILURES: dict[str, tuple[Callable[[dict[str, Any]], None], str, str]] = {
    decision.CHAMPION: (asked(gone="Version 1 was deleted"), "refused", "Version 1 was deleted. Take a version back"),
    decision.FILES: (asked(challenger_fault="one byte is wrong"), "refused", "cannot be trusted: one byte is wrong."),
    decision.GOLDEN: (asked(replay_fault="picture 3 has 0.4"), "refused", "cannot be trusted: picture 3 has 0.4."),
    decision.TAKEN_BACK: (asked(taken_back="kim took it back."), "refused", "kim took it back."),
    decision.PATIENTS: (
        challenger(gate=FIGURES.model_copy(update={"abnormal_patients": 29})),
        "refused",
        "29 patients with abnormal studies and 50 with normal ones; at least 30 of each",
    ),
    decision.AUROC_FLOOR: (challenger(test=0.64), "refused", "must be at least 0.600"),
    decision.SENSITIVITY_FLOOR: (
        challenger(sensitivity=Interval(value=0.1, low=0.05, high=0.2)),
        "refused",
        "a test sensitivity of 0.100 (0.050 to 0.200); the lower end of its 95 % interval must be at least 0.100",
    ),
    decision.CALIBRATION: (
        challenger(gate=FIGURES.model_copy(update={"expected_error": 0.2})),
        "refused",
        "0.140 more than chance gives in 1 of 20 draws (0.060); at most 0.050 more",
    ),
    decision.SAME_STUDIES: (challenger(tuning_digest="other"), "refused", "Not comparable: VGG-16 version 2"),
    decision.GAIN: (challenger(tuning=0.805), "kept", "less than the 0.0100 required"),
    decision.LOSS: (
        asked(against_champion=compared(1, -0.015)),
        "refused",
        "-0.0150 (-0.0250 to -0.0050) against the champion, VGG-16 version 1; the lower end of the paired 95 % "
        "interval must be above -0.0200",
    ),
    decision.TOTAL_LOSS: (
        asked(against_reference=compared(3, -0.015)),
        "refused",
        "-0.0150 (-0.0250 to -0.0050) against the reference, VGG-16 version 3",
    ),
}


def with_failures(*names: str) -> Decision:
    facts: dict[str, Any] = {"challenger": {"tuning": 0.9}, "question": {}}
    for name in names:
        FAILURES[name][0](facts)
    if len(names) == 2 and {*names} == {decision.PATIENTS, decision.CALIBRATION}:
        facts["challenger"]["gate"] = FIGURES.model_copy(update={"abnormal_patients": 29, "expected_error": 0.2})
    return decide(question(challenger=version(2, **facts["challenger"]), **facts["question"]))


@pytest.mark.parametrize("name", FAILURES)
def test_each_criterion_alone(name: str) -> None:
    found = with_failures(name)
    _, outcome, words = FAILURES[name]
    assert found.outcome == outcome
    assert words in said(found)
    assert words in criterion(found, name).words
    failed = {each.name for each in found.criteria if each.passed is False}
    # Who was measured on other tuning studies was not compared on the test split either.
    assert failed == {name} | ({decision.LOSS} if name == decision.SAME_STUDIES else set()) | (
        {decision.TOTAL_LOSS} if name == decision.SAME_STUDIES else set()
    )


@pytest.mark.parametrize(("one", "other"), list(combinations(FAILURES, 2)))
def test_criteria_in_pairs(one: str, other: str) -> None:
    """The first rule decides; a veto is stronger than too small a gain, but not one that compares on test."""
    found = with_failures(one, other)
    assert criterion(found, one).passed is criterion(found, other).passed is False
    assert found.outcome == FAILURES[one][1]
    assert FAILURES[one][2] in said(found)


@pytest.mark.parametrize(
    ("changes", "outcome", "words"),
    [
        ({"champion": None, "reference": None}, "promoted", "There was no champion."),
        ({"champion": None, "reference": None, "challenger": {"tuning": None}}, "refused", "has no AUROC on tuning"),
        ({"champion": None, "reference": None, "challenger": {"test": 0.5}}, "refused", "must be at least 0.600"),
        # A champion is gone, and the alias with it. The reference is still there.
        ({"champion": None, "against_reference": compared(3, -0.1)}, "refused", "against the reference"),
        ({"champion": None, "gone": "Version 1 was deleted", "first": True}, "promoted", "begins anew with --first"),
        ({"gone": "The alias was moved", "first": True, "challenger": {"tuning": 0.1}}, "promoted", "begins anew"),
        ({"first": True, "challenger": {"test": 0.5}}, "refused", "must be at least 0.600"),
        ({"first": True, "challenger_fault": "no signature"}, "refused", "no signature"),
        # The champion again.
        ({"challenger": {"number": 1}}, "kept", "is already the champion"),
        ({"challenger": {"number": 1, "test": 0.1}}, "kept", "is already the champion"),
        ({"challenger": {"number": 1}, "challenger_fault": "one byte"}, "refused", "cannot be trusted"),
        ({"challenger": {"model_digest": "model 1"}}, "kept", "is the same network as the champion, version 1"),
        ({"challenger": {"model_digest": "model 1", "test_digest": "x"}}, "kept", "the same network"),
        # The gain.
        ({"challenger": {"tuning": 0.81}}, "promoted", "The gain is +0.0100"),
        ({"challenger": {"tuning": 0.8}, "rules": {"min_gain": 0}}, "kept", "+0.0000, and it must be more than 0"),
        ({"challenger": {"tuning": 0.8001}, "rules": {"min_gain": 0}}, "promoted", "The gain is +0.0001"),
        ({"challenger": {"tuning": 0.7, "test": 0.99}}, "kept", "The gain is -0.1000"),
        ({"rules": {"primary_metric": "cohen_kappa"}}, "kept", "Cohen's kappa on tuning"),
        ({"champion": version(1, tuning=None)}, "refused", "Evaluate it again"),
        # Losses on test.
        ({"against_champion": compared(1, -0.0099)}, "promoted", "must be above -0.0200"),
        ({"against_champion": compared(1, 0.03, 0.051)}, "refused", "must be above -0.0200"),
        ({"against_champion": None}, "refused", "Nobody compared them."),
        ({"against_reference": None}, "refused", "Nobody compared them."),
        ({"against_champion": compared(1, missing="It is lost.")}, "refused", "Not comparable: there is no difference"),
        ({"reference": version(1), "against_reference": None}, "promoted", "against the champion"),
        ({"reference": version(3, test_digest="x")}, "refused", "and the reference, VGG-16 version 3"),
        ({"reference": version(3, model_digest="model 2")}, "promoted", "the same network as the reference"),
        # The test split is only reported.
        ({"rules": {"test_role": "report"}, "challenger": {"tuning": 0.9, "test": None}}, "promoted", "+0.1000"),
        ({"rules": {"test_role": "report"}, "against_champion": None}, "promoted", "+0.1000"),
        ({"rules": {"test_role": "report"}, "challenger_fault": "no signature"}, "refused", "no signature"),
        # The champion is lost.
        ({"champion_fault": "no file"}, "promoted", "The champion, VGG-16 version 1, cannot be loaded: no file."),
        ({"champion_fault": "no file", "challenger": {"tuning": 0.7}}, "refused", "promote with --first"),
        ({"champion_fault": "no file", "challenger": {"model_digest": "model 1"}}, "promoted", "the same network"),
        ({"champion_fault": "no file", "challenger": {"model_digest": "model 1", "test": 0.1}}, "refused", "0.600"),
        # Registered before the gate counted.
        ({"challenger": {"tuning": 0.9, "gate": None}}, "refused", "mura register --adopt"),
    ],
)
def test_decision(changes: dict[str, Any], outcome: str, words: str) -> None:
    if "challenger" in changes:
        changes = changes | {"challenger": version(**{"number": 2, "tuning": 0.9} | changes["challenger"])}
    found = decide(question(**changes))
    assert found.outcome == outcome
    assert words in said(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"challenger": version(2, tuning=0.9, test_digest="x")},
        {"reference": version(3, tuning_digest="y")},
        {"against_champion": compared(1, missing="Its table of studies is lost.")},
    ],
    ids=["champion", "reference", "no table"],
)
def test_what_cannot_be_compared_is_begun_anew(changes: dict[str, Any]) -> None:
    """Adoption is for versions that are not signed, and a model is not evaluated on the data of another."""
    words = said(decide(question(**changes)))
    assert "Not comparable" in words
    assert "begin anew with `mura promote --first`" in words
    assert "--adopt" not in words
    assert decide(question(**changes, first=True)).outcome == "promoted"


def test_a_champion_of_before_that_gets_the_alias_back_is_compared_with_nobody() -> None:
    found = decide(question(challenger=version(2, tuning=0.1), back=True, gone="Version 1 was deleted."))
    assert found.outcome == "promoted"
    assert "an earlier champion gets the alias back" in said(found)
    assert "--first" not in found.model_dump_json()
    assert decide(question(challenger=version(2, test=0.5), back=True)).outcome == "refused"


@pytest.mark.parametrize(
    ("floor", "outcome", "words"),
    [
        (0.6, "refused", "0.990 from too few patients for an interval"),
        (0.001, "refused", "It needs 10 test patients of each class"),
        (0.0, "promoted", "0.990 (too few); no floor is set"),
    ],
)
def test_no_floor_is_reached_without_an_interval(floor: float, outcome: str, words: str) -> None:
    few = version(2, tuning=0.9)
    scores = few.scores.model_copy(update={"test": few.scores.test.model_copy(update={"auroc": TOO_FEW})})
    found = decide(question(challenger=few.model_copy(update={"scores": scores}), rules={"min_auroc": floor}))
    assert found.outcome == outcome
    assert words in said(found)


def test_a_body_part_with_few_studies_is_a_warning() -> None:
    figures = FIGURES.model_copy(update={"parts": {"elbow": 9, "hand": 3, "wrist": 10}})
    found = decide(question(challenger=version(2, tuning=0.9, gate=figures)))
    assert found.outcome == "promoted"
    warned = [each for each in found.criteria if each.warning]
    assert [each.name for each in warned] == [decision.PARTS]
    assert "The test split has only 9 of the elbow and 3 of the hand." in warned[0].words


def test_kappa_decides_nothing() -> None:
    worse = version(2, tuning=0.9)
    kappa = Interval(value=-0.5, low=-0.6, high=-0.4)
    test = worse.scores.test.model_copy(update={"cohen_kappa": kappa})
    worse = worse.model_copy(update={"scores": worse.scores.model_copy(update={"test": test})})
    assert decide(question(challenger=worse)).outcome == "promoted"


def test_numbers_of_the_test_split_stand_apart_from_the_other_reasons() -> None:
    for test, outcome in ((0.8125, "promoted"), (0.5125, "refused")):
        found = decide(question(challenger=version(2, tuning=0.9, test=test)))
        assert found.outcome == outcome
        assert f"{test:.3f}"[:4] in " ".join(found.on_test)
        assert f"{test:.3f}"[:4] not in " ".join(found.reasons)
    refused = decide(question(against_champion=compared(1, -0.0321)))
    assert "-0.0321" in " ".join(refused.on_test)
    assert "-0.0321" not in " ".join(refused.reasons)
    assert decide(question(rules={"test_role": "report"})).on_test == ()


def test_a_decision_names_every_difference_between_the_data_sets() -> None:
    found = decide(question(challenger=version(2, tuning=0.9, test_digest="x", tuning_digest="y")))
    assert "different test studies (x and " in said(found)
    assert "different tuning studies (y and " in said(found)


def test_a_version_is_named_by_candidate_architecture_and_number() -> None:
    held = version(2)
    (reason,) = decide(question(champion=held, challenger=version(2, candidate="wide"))).reasons
    assert reason == "wide (VGG-16) version 2 is already the champion."


def test_an_old_protocol_is_not_made_up() -> None:
    with pytest.raises(ValueError, match="min_patients"):
        decide(question().model_copy(update={"protocol": {k: v for k, v in PROTOCOL.items() if k != "min_patients"}}))


def test_a_question_that_was_kept_gives_the_same_decision() -> None:
    for name in FAILURES:
        facts: dict[str, Any] = {"challenger": {"tuning": 0.9}, "question": {}}
        FAILURES[name][0](facts)
        one = question(challenger=version(2, **facts["challenger"]), **facts["question"])
        assert decide(Question.model_validate_json(one.model_dump_json())) == decide(one)
