"""The page of a promotion says who was promoted and why, the decision first."""

import re

import pytest
from conftest import make_scores
from html_page import Page, check_page
from protocols import PROTOCOL

from components.artifacts.evaluation import Interval
from components.artifacts.promotion import Criterion, Decision, PromotionFacts, Question
from components.artifacts.registration import Comparison, Difference, RegisteredModel, VersionComparison
from components.params.protocol import ProtocolParams
from components.promote.decision import name
from components.promote.page import draw, draw_forest, promotion_page
from components.scores import charts


def registered(version, tuning_auroc, architecture="vgg16", candidate=None, test_digest="d2" * 32):
    scores = make_scores(test_digest=test_digest)
    auroc = Interval(value=tuning_auroc, low=None, high=None)
    return RegisteredModel(
        model="mura",
        version=version,
        run_id=f"run-{version}",
        candidate=candidate or architecture,
        architecture=architecture,
        model_digest="a1" * 32,
        evaluation_digest="b1" * 32,
        data_digest="b2" * 32,
        code_revision="e4" * 20,
        training_seconds=3900.0,
        scores=scores.model_copy(update={"tuning": scores.tuning.model_copy(update={"auroc": auroc})}),
    )


GATE = ProtocolParams(**PROTOCOL)


def promotion(outcome, challenger, previous, current, candidates, reasons=("it is better",)):
    decision = Decision(outcome=outcome, reasons=reasons)
    return PromotionFacts(
        alias="champion",
        decision=decision,
        challenger=challenger,
        previous=previous,
        current=current,
        candidates=tuple(candidates),
    )


def page(facts):
    return promotion_page(facts, GATE)


@pytest.fixture(scope="module")
def promoted():
    best, second = registered(4, 0.91, "inception_v3"), registered(3, 0.88, "custom_cnn")
    return promotion("promoted", best, registered(1, 0.85, "vgg19"), best, [second, best])


def test_the_page_needs_no_other_file(promoted):
    check_page(page(promoted))


@pytest.mark.parametrize(
    ("outcome", "heading"),
    [
        ("promoted", "The new champion is VGG-16 version 4"),
        ("kept", "The champion is still VGG-19 version 1"),
        ("refused", "Refused as champion: VGG-16 version 4"),
    ],
)
def test_the_decision_is_the_heading_and_its_reasons_follow(outcome, heading):
    challenger, previous = registered(4, 0.91), registered(1, 0.85, "vgg19")
    current = challenger if outcome == "promoted" else previous
    facts = promotion(outcome, challenger, previous, current, [challenger], reasons=("first reason", "a < b"))
    html = page(facts)
    assert heading in Page(html.split("<h1>")[1].split("</h1>")[0]).words
    assert "first reason" in html.split("<table")[0]
    assert "a &lt; b" in html


def test_the_first_model_and_the_refused_first_model_have_no_champion_before():
    only = registered(1, 0.7)
    first = Page(page(promotion("promoted", only, None, only, [only]))).words
    assert "champion before none" in first
    refused = Page(page(promotion("refused", only, None, None, [only]))).words
    assert "champion now none" in refused
    kept = Page(page(promotion("kept", only, None, None, [only]))).words
    assert "There is no champion" in kept


def test_candidates_are_ranked_on_tuning(promoted):
    table = page(promoted).split("<h2>Candidates</h2>")[1].split("</table>")[0]
    assert table.index("Inception V3") < table.index("custom CNN")
    assert "AUROC, tuning" in table
    # The comparison of `register` has the test split of all of them.
    assert "test" not in table.split("</caption>")[1]
    assert "registration/report.html" in page(promoted)


def test_a_candidate_whose_metric_is_not_defined_is_last():
    best, unknown = registered(1, 0.6, "vgg16"), registered(2, None, "vgg19")
    html = page(promotion("kept", best, best, best, [unknown, best]))
    table = html.split("<h2>Candidates</h2>")[1].split("</table>")[0]
    assert table.index("VGG-16") < table.index("VGG-19")


def test_other_test_studies_are_pointed_out(promoted):
    assert "measured on the same test studies with the same labels" in Page(page(promoted)).words
    best = registered(4, 0.91)
    mixed = promotion("promoted", best, registered(1, 0.9, test_digest="99" * 32), best, [best])
    assert "Not all versions on this page" in Page(page(mixed)).words


def test_chosen_body_parts_are_named_beside_the_data():
    wrists = registered(4, 0.9).model_copy(update={"body_parts": ("elbow", "wrist")})
    words = Page(page(promotion("promoted", wrists, registered(1, 0.8), wrists, [wrists]))).words
    assert words.count("elbow and wrist only") == 1


def test_one_candidate_alone_has_a_page():
    only = registered(1, 0.9, candidate="wide")
    words = Page(page(promotion("promoted", only, None, only, [only]))).words
    assert "The new champion is wide (VGG-16) version 1" in words


def test_two_candidates_of_one_architecture_are_told_apart():
    wide, narrow = registered(1, 0.9, candidate="wide"), registered(2, 0.8, candidate="narrow")
    facts = promotion("promoted", wide, None, wide, [narrow, wide])
    table = page(facts).split("<h2>Candidates</h2>")[1].split("</table>")[0]
    assert table.index("wide (VGG-16)") < table.index("narrow (VGG-16)")


def row(label, model, strong, split="tuning"):
    scores = model.scores.of(split)
    beside = model.scores.tuning if split == "test" else None
    marks = (None, None) if beside is None else (beside.auroc.value, beside.cohen_kappa.value)
    return charts.Row(label, scores.auroc, scores.cohen_kappa, strong, *marks)


def test_the_charts_for_dvc_show_the_candidates_on_tuning_best_first_and_then_the_previous_champion(promoted):
    figures = draw(promoted, GATE)
    best, second, previous = promoted.challenger, promoted.candidates[0], promoted.previous
    labels = {"Inception V3 v4": best, "custom CNN v3": second, "VGG-19 v1": previous}
    rows = [row(label, model, model is best) for label, model in labels.items()]
    assert figures.forest == charts.png(charts.forest(rows))
    points = {label: model.scores.tuning for label, model in labels.items()}
    assert figures.operating_points == charts.png(charts.operating_points(points))


@pytest.mark.long
def test_the_chart_of_the_page_shows_the_challenger_and_the_champion_before_on_test(promoted):
    best, previous = promoted.challenger, promoted.previous
    rows = [row("Inception V3 v4", best, True, "test"), row("VGG-19 v1", previous, False, "test")]
    assert draw_forest(promoted) == charts.png(charts.forest(rows))
    only = registered(1, 0.9)
    alone = promotion("kept", only, only, only, [only])
    assert draw_forest(alone) == charts.png(charts.forest([row("VGG-16 v1", only, True, "test")]))


DIFFERENCE = Difference(
    auroc=Interval(value=0.0123, low=0.0011, high=0.0235),
    cohen_kappa=Interval(value=-0.2, low=-0.3, high=-0.1),
    sensitivity=Interval(value=0.05, low=None, high=None),
)


def test_the_challenger_and_the_champion_before_are_compared_on_the_same_patients(promoted):
    found = Comparison(version=4, other=1, aliases=("champion",), tuning=DIFFERENCE, test=None, missing=("it is so.",))
    html = page(promoted.model_copy(update={"comparison": found}))
    check_page(html)
    said = Page(html).words
    assert "Inception V3 version 4 compared with VGG-19 version 1" in said
    assert "tuning +0.012 (+0.001 to +0.024) higher -0.200 (-0.300 to -0.100) lower +0.050 (too few)" in said
    assert "No difference: it is so." in said
    assert "The challenger is the best of 2 candidates on tuning" in said
    missing = page(promoted.model_copy(update={"comparison": found.model_copy(update={"tuning": None})}))
    assert "on the same patients, and 95" not in missing


def test_a_challenger_that_somebody_named_is_not_called_the_best(promoted):
    best, second = promoted.challenger, promoted.candidates[0]
    other = registered(2, 0.95)
    found = Comparison(version=4, other=1, aliases=("champion",), tuning=DIFFERENCE, test=None)
    for challenger in (second, other):
        named = {"challenger": challenger, "comparison": found.model_copy(update={"version": challenger.version})}
        said = Page(page(promoted.model_copy(update=named))).words
        assert "the best of 2 candidates" not in said
        assert "the first is the challenger" not in said
        assert f"somebody named the challenger, {name(challenger)}." in said
    assert "the first is the challenger." in Page(page(promoted.model_copy(update={"challenger": best}))).words


def test_a_champion_before_that_nobody_compared_is_said(promoted):
    assert (
        "No difference on the same patients: nobody compared Inception V3 version 4 with VGG-19 version 1"
        in Page(page(promoted)).words
    )
    only = registered(1, 0.7)
    for previous in (None, only):
        alone = page(promotion("kept", only, previous, only, [only]))
        assert "same patients" not in alone


CRITERIA = (
    Criterion(name="Files and signature", passed=True, words="They are good."),
    Criterion(name="Gain over the champion", passed=False, words="It is too little.", split="tuning"),
    Criterion(name="AUROC, floor", passed=False, words="0.5 < 0.6", split="test"),
    Criterion(name="Studies of each body part", passed=None, words="Few of the hand.", split="test", warning=True),
    Criterion(name="Cohen's kappa", passed=None, words="It decides nothing.", split="test"),
)


@pytest.mark.parametrize(
    ("outcome", "verdicts"),
    [
        ("refused", ["passed", "not reached", "vetoes", "warning"]),
        ("kept", ["passed", "not reached", "not passed", "warning"]),
    ],
)
def test_what_was_asked_stands_before_all_numbers(promoted, outcome, verdicts):
    decision = Decision(outcome=outcome, reasons=("so",), criteria=CRITERIA)
    html = page(promoted.model_copy(update={"decision": decision}))
    check_page(html)
    table = html.split("<h2>What was asked</h2>")[1].split("</table>")[0]
    assert re.findall(r'class="badge \w+">([^<]+)<', table) == verdicts
    places = [table.index(each.name.replace("'", "&#39;")) for each in CRITERIA]
    assert places == sorted(places)
    assert "0.5 &lt; 0.6" in table
    assert html.index("What was asked") < html.index("Before and after")


def test_the_page_says_how_often_an_equal_model_passes(promoted):
    narrow = Interval(value=0.0, low=-0.0145, high=0.0145)
    wide = Interval(value=0.0, low=-0.05, high=0.05)
    found = VersionComparison(
        version=4, other=1, tuning=None, test=Difference(auroc=narrow, cohen_kappa=wide, sensitivity=wide)
    )
    question = Question(
        champion=promoted.previous,
        challenger=promoted.challenger,
        reference=registered(2, 0.8),
        protocol=PROTOCOL,
        against_champion=found,
        against_reference=found.model_copy(update={"other": 2}),
    )
    said = Page(page(promoted.model_copy(update={"question": question}))).words
    assert (
        said.count("With 100 test studies, a model that is exactly as good passes the margin of 0.02 in AUROC in 77 %")
        == 2
    )
    assert "The same margin in Cohen's kappa, which decides nothing, would let it pass in 12 %." in said
    assert "compared with VGG-16 version 2 (reference)" in said


def test_the_same_facts_make_the_same_page(promoted):
    assert page(promoted) == page(promoted)
