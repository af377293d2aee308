"""Pages say what the facts say, lead with the verdict, and need nothing but themselves."""

import re

import numpy as np
import pytest
from html_page import Page

from components.artifacts.evaluation import EvaluationFacts, Interval, Scores, SecondOpinion
from components.artifacts.promotion import Decision, PromotionFacts
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModelFacts
from components.evaluate.page import EvaluationFigures, evaluation_page
from components.pages.render import duration, name
from components.params.evaluate import EvaluateParams
from components.params.promote import PromoteParams
from components.promote.page import promotion_page
from components.scores import metrics
from components.scores.charts import Row, forest
from components.scores.metrics import Studies


@pytest.fixture(scope="module")
def studies():
    random = np.random.default_rng(0)
    abnormal = random.integers(0, 2, 80)
    probability = 1 / (1 + np.exp(-(random.normal(size=80) + 1.5 * abnormal - 0.7)))
    keys = [f"MURA-v1.1/valid/XR_HAND/patient{i:05}/study1" for i in range(80)]
    return Studies.of_images(keys, keys, ["hand"] * 80, abnormal, probability)


@pytest.fixture(scope="module")
def scores(studies):
    found = metrics.score(studies, 0.5, 2000, 1)
    return Scores(tuning=found, test=found, threshold=0.5, tuning_digest="d1" * 32, test_digest="d2" * 32)


@pytest.fixture(scope="module")
def facts(scores):
    return EvaluationFacts(
        architecture="vgg16",
        model_digest="a1" * 32,
        data_digest="b2" * 32,
        shards_digest="c3" * 32,
        code_revision="e4" * 20,
        scores=scores,
    )


@pytest.fixture(scope="module")
def trained():
    return TrainedModelFacts(
        architecture="vgg16",
        image_size=320,
        parameters=14_715_201,
        params={"learning_rate": 0.0001},
        seed=7,
        precision="float32",
        device="CPU",
        phases=("head", "all"),
        epochs=12,
        best_epoch=9,
        tuning={"auroc": 0.9},
        seconds=7500.0,
        data_digest="b2" * 32,
        shards_digest="c3" * 32,
        code_revision="f5" * 20,
        environment={"keras": "3"},
        run=TrackedRun(run_id="run-1", model_uri="models:/m-1"),
    )


@pytest.fixture(scope="module")
def png():
    return forest([Row("x", *[Interval(value=0.8, low=0.7, high=0.9)] * 2)])


def params(rule="kappa"):
    return EvaluateParams(operating_point=rule, target=0.9, bootstrap_draws=2345, batch_size=8)


@pytest.fixture(scope="module")
def evaluation(facts, trained, studies, png):
    def build(facts=facts, body_parts=None, rule="kappa"):
        parts = {"hand": facts.scores.test} if body_parts is None else body_parts
        return evaluation_page(facts, trained, parts, studies, EvaluationFigures(*[png] * 5), params(rule), seed=31)

    return build


@pytest.fixture(scope="module")
def registered(scores):
    def build(version, tuning_auroc, architecture="vgg16", test_digest="d2" * 32, **changes):
        auroc = Interval(value=tuning_auroc, low=None, high=None)
        tuning = scores.tuning.model_copy(update={"auroc": auroc})
        return RegisteredModel(
            model="mura",
            version=version,
            run_id=f"run-{version}",
            architecture=architecture,
            model_digest="a1" * 32,
            evaluation_digest="b1" * 32,
            data_digest="b2" * 32,
            code_revision="e4" * 20,
            training_seconds=3900.0,
            scores=scores.model_copy(update={"tuning": tuning, "test_digest": test_digest}),
        ).model_copy(update=changes)

    return build


GATE = PromoteParams(alias="champion", metric="auroc", min_gain=0.002, min_auroc=0.8, max_loss=0.01)


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


@pytest.fixture(scope="module")
def promoted(registered):
    best, second = registered(4, 0.91, "inception_v3"), registered(3, 0.88, "custom_cnn")
    return promotion("promoted", best, registered(1, 0.85, "vgg19"), best, [second, best])


@pytest.fixture(params=["evaluation", "promotion"])
def html(request, evaluation, promoted):
    return evaluation() if request.param == "evaluation" else promotion_page(promoted, GATE)


# Both pages


def test_a_page_needs_no_other_file_and_runs_nothing(html):
    page = Page(html)
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", html)


def test_a_page_says_that_it_is_for_research_only(html):
    assert "Research only. Not a medical device." in Page(html).words


def test_a_page_has_light_dark_and_print_styles(html):
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_every_picture_has_words_and_a_size(html):
    images = re.findall(r"<img [^>]*>", html)
    assert images
    assert all(re.search(r'width="\d+" height="\d+" alt="[^"]{10,}"', image) for image in images)


# Evaluation


def test_the_verdict_comes_before_the_first_table(evaluation, scores):
    head = evaluation().split("<table")[0]
    for interval in (scores.test.auroc, scores.test.cohen_kappa, scores.test.sensitivity, scores.test.specificity):
        assert f"{interval.value:.3f}" in head
        assert f"{interval.low:.3f} to {interval.high:.3f}" in head
    assert "80 studies of 80 patients" in Page(evaluation()).words


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("kappa", "highest Cohen's kappa, chosen on the tuning split"),
        ("youden", "highest sum of sensitivity and specificity, chosen on the tuning split"),
        ("sensitivity", "highest threshold with a sensitivity of at least 0.9, chosen on the tuning split"),
        ("fixed", "(set in advance to 0.9)"),
    ],
)
def test_the_page_says_how_the_threshold_was_chosen(evaluation, rule, words):
    assert words in Page(evaluation(rule=rule)).words


def test_provenance_is_complete(evaluation, facts, trained):
    words = Page(evaluation()).words
    for digest in (facts.data_digest, facts.shards_digest, facts.model_digest, facts.scores.test_digest):
        assert digest in words
    for detail in (facts.code_revision, trained.code_revision, "training 7, bootstrap 31 (2,345 draws", "models:/m-1"):
        assert detail in words


def test_the_confusion_matrix_is_the_test_splits(evaluation, scores):
    matrix = evaluation().split('<table class="matrix">')[1].split("</table>")[0]
    counts = [int(found) for found in re.findall(r"<b>(\d+)</b>", matrix)]
    confusion = scores.test.confusion
    assert counts == [
        confusion.true_positive,
        confusion.false_negative,
        confusion.false_positive,
        confusion.true_negative,
    ]


def test_the_worst_errors_are_listed_by_study(evaluation, studies):
    missed, alarms = metrics.confident_errors(studies, 0.5, 10)
    words = Page(evaluation()).words
    assert missed
    assert alarms
    assert all(error.study in words for error in [*missed, *alarms])


def test_a_model_without_errors_has_none_to_list(trained, facts, png):
    perfect = Studies.of_images(["a", "b"], ["p", "q"], ["hand"] * 2, [0, 1], [0.1, 0.9])
    html = evaluation_page(facts, trained, {}, perfect, EvaluationFigures(*[png] * 5), params(), 1)
    assert html.count("<p>None.</p>") == 2


def test_what_is_not_defined_is_written_as_such(evaluation, facts):
    lone = metrics.score(Studies.of_images(["a"], ["p"], ["hand"], [1], [0.9]), 0.5, 2000, 1)
    html = evaluation(body_parts={"humerus": lone})
    row = html.split('<th scope="row">humerus</th>')[1].split("</tr>")[0]
    assert "n/a" in row
    assert "None" not in Page(html).words.replace("None.", "")
    undefined = facts.model_copy(update={"scores": facts.scores.model_copy(update={"test": lone})})
    assert "only one class" in Page(evaluation(facts=undefined)).words


def test_an_overlay_that_touches_no_test_study_is_said_to_change_nothing(evaluation, facts, scores):
    def opinion(studies):
        second = SecondOpinion(overlay_digest="0e" * 32, studies=studies, test=scores.test)
        return Page(evaluation(facts=facts.model_copy(update={"second_opinion": second}))).words

    assert "the result stands as it is" in opinion(0)
    assert "gives 2 of the" in opinion(2)
    assert "second opinion" not in Page(evaluation()).words


def test_names_from_outside_are_escaped(evaluation, scores):
    html = evaluation(body_parts={"<script>alert(1)</script>": scores.test})
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


# Promotion


@pytest.mark.parametrize(
    ("outcome", "heading"),
    [
        ("promoted", "VGG-16 version 4 is the new champion"),
        ("kept", "VGG-19 version 1 stays champion"),
        ("refused", "VGG-16 version 4 may not become champion"),
    ],
)
def test_the_decision_is_the_heading_and_its_reasons_follow(registered, outcome, heading):
    challenger, previous = registered(4, 0.91), registered(1, 0.85, "vgg19")
    current = challenger if outcome == "promoted" else previous
    facts = promotion(outcome, challenger, previous, current, [challenger], reasons=("first reason", "a < b"))
    html = promotion_page(facts, GATE)
    assert heading in Page(html.split("<h1>")[1].split("</h1>")[0]).words
    assert "first reason" in html.split("<table")[0]
    assert "a &lt; b" in html


def test_the_first_model_and_the_refused_first_model_have_no_champion_before(registered):
    only = registered(1, 0.7)
    first = Page(promotion_page(promotion("promoted", only, None, only, [only]), GATE)).words
    assert "champion before none" in first
    refused = Page(promotion_page(promotion("refused", only, None, None, [only]), GATE)).words
    assert "champion now none" in refused
    kept = Page(promotion_page(promotion("kept", only, None, None, [only]), GATE)).words
    assert "Nobody is champion" in kept


def test_candidates_are_ranked_on_tuning(promoted):
    table = promotion_page(promoted, GATE).split("<h2>Candidates</h2>")[1].split("</table>")[0]
    assert table.index("Inception V3") < table.index("Custom CNN")
    assert "AUROC, tuning" in table
    assert "1 h 05 min" in table


def test_a_candidate_whose_metric_is_not_defined_is_last(registered):
    best, unknown = registered(1, 0.6, "vgg16"), registered(2, None, "vgg19")
    html = promotion_page(promotion("kept", best, best, best, [unknown, best]), GATE)
    table = html.split("<h2>Candidates</h2>")[1].split("</table>")[0]
    assert table.index("VGG-16") < table.index("VGG-19")


def test_other_test_studies_are_pointed_out(registered, promoted):
    assert "measured on the same test studies with the same labels" in Page(promotion_page(promoted, GATE)).words
    best = registered(4, 0.91)
    mixed = promotion("promoted", best, registered(1, 0.9, test_digest="99" * 32), best, [best])
    assert "Not all versions on this page" in Page(promotion_page(mixed, GATE)).words


def test_roc_curves_are_drawn_where_they_are_at_hand(promoted, studies):
    curve = metrics.roc_curve(studies.abnormal, studies.probability)
    assert promotion_page(promoted, GATE, {4: curve}) != promotion_page(promoted, GATE)


def test_the_same_facts_make_the_same_page(promoted):
    assert promotion_page(promoted, GATE) == promotion_page(promoted, GATE)


# Words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_read_well(seconds, words):
    assert duration(seconds) == words


def test_an_unknown_architecture_keeps_its_name():
    assert [name("inception_v3"), name("my_net")] == ["Inception V3", "my net"]
