"""The page of a promotion says who was promoted and why, the decision first."""

import pytest
from conftest import PROTOCOL, make_scores
from html_page import Page, check_page

from components.artifacts.evaluation import Interval
from components.artifacts.promotion import Decision, PromotionFacts
from components.artifacts.registration import RegisteredModel
from components.params.protocol import ProtocolParams
from components.promote.page import draw, promotion_page
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
    return promotion_page(facts, GATE, draw(facts, GATE, "test"))


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
    assert "1 h 05 min" in table


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


def test_the_charts_show_the_candidates_best_first_and_then_the_previous_champion(promoted):
    figures = draw(promoted, GATE, "test")
    best, second, previous = promoted.challenger, promoted.candidates[0], promoted.previous
    labels = {"Inception V3 v4": best, "custom CNN v3": second, "VGG-19 v1": previous}
    rows = [
        charts.Row(
            label,
            model.scores.test.auroc,
            model.scores.test.cohen_kappa,
            model is best,
            model.scores.tuning.auroc.value,
            model.scores.tuning.cohen_kappa.value,
        )
        for label, model in labels.items()
    ]
    assert figures.forest == charts.png(charts.forest(rows))
    points = {label: model.scores.test for label, model in labels.items()}
    assert figures.operating_points == charts.png(charts.operating_points(points))


def test_the_same_facts_make_the_same_page(promoted):
    assert page(promoted) == page(promoted)
