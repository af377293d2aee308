"""The report of an evaluation says what was measured, the result first."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import MEASURED_WITH, around, calibrated_facts
from html_page import Page, check_page
from protocols import PROTOCOL
from scored_studies import rows_of

from components.artifacts.evaluation import (
    METRIC_TITLES,
    EvaluationFacts,
    Floor,
    FloorScores,
    Interval,
    Scores,
    SecondOpinion,
)
from components.artifacts.manifest import ValidManifestFacts
from components.artifacts.shards import Cohort, ShardsFacts, SplitFacts
from components.artifacts.trained_model import Offsets, TrackedRun, TrainedModelFacts
from components.evaluate import flow
from components.evaluate.page import Measured, Split, draw, evaluation_page
from components.params.protocol import ProtocolParams
from components.scores import charts, curves, intervals, metrics


@pytest.fixture(scope="module")
def studies():
    random = np.random.default_rng(0)
    abnormal = random.integers(0, 2, 80)
    probability = 1 / (1 + np.exp(-(random.normal(size=80) + 1.5 * abnormal - 0.7)))
    keys = [f"MURA-v1.1/valid/XR_HAND/patient{i:05}/study1" for i in range(80)]
    return rows_of(keys, keys, ["hand"] * 80, abnormal, probability)


@pytest.fixture(scope="module")
def scores(studies):
    found = metrics.score(studies, 0.5)
    return Scores(tuning=found, test=found, threshold=0.5, tuning_digest="d1" * 32, test_digest="d2" * 32)


@pytest.fixture(scope="module")
def facts(scores):
    return EvaluationFacts(
        candidate="vgg16",
        architecture="vgg16",
        model_digest="a1" * 32,
        data_digest="b2" * 32,
        shards_digest="c3" * 32,
        code_revision="e4" * 20,
        params=MEASURED_WITH,
        protocol=PROTOCOL,
        seed=7,
        scores=scores,
        **calibrated_facts(scores),
    )


@pytest.fixture(scope="module")
def trained():
    return TrainedModelFacts(
        candidate="vgg16",
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
        offsets=Offsets(body_part={"hand": 1.0, "wrist": 0.37}, pooled=0.5),
        seconds=7500.0,
        data_digest="b2" * 32,
        shards_digest="c3" * 32,
        code_revision="f5" * 20,
        environment={"keras": "3"},
        run=TrackedRun(run_id="run-1", model_uri="models:/m-1"),
    )


EPOCHS = pd.DataFrame(
    {
        "epoch": range(1, 13),
        "phase": ["head"] * 2 + ["all"] * 10,
        "learning_rate": 0.001,
        "loss": 0.5,
        "tuning_loss": 0.6,
        "tuning_auroc": 0.9,
    }
)
NO_OPINIONS = pd.DataFrame(columns=["overlay", "overlay_source", "overlay_reason"])


MANIFEST = ValidManifestFacts(
    archive="MURA-v1.1.zip", images=1_234, studies=570, patients=480, sidecars=12, others=("notes.txt",),
    empty_studies=2, left_out_images=321, left_out_studies={"elbow": 100, "hand": 40}, manifest_digest="0a" * 32,
    data_digest="b2" * 32, expectations=41, warnings=("mode", "near_train"),
)  # fmt: skip


def split_facts(images, studies, abnormal, patients):
    cohort = {"images": images, "studies": studies, "abnormal_studies": abnormal, "patients": patients}
    known = {"abnormal": images // 2, "files": (), "records": (), "digest": "d1" * 32}
    return SplitFacts(**cohort, **known, body_parts={"wrist": Cohort(**cohort)})


SHARDS = ShardsFacts(
    image_size=320, data_digest="b2" * 32, train_images={},
    splits={"train": split_facts(900, 400, 160, 330), "tuning": split_facts(161, 90, 45, 80),
            "test": split_facts(170, 80, 40, 70)},
)  # fmt: skip


@pytest.fixture(scope="module")
def table(studies):
    columns = {name: getattr(studies, name) for name in ("study", "abnormal", "probability")}
    logit = 3 * np.log(studies.probability / (1 - studies.probability))
    return pd.concat([pd.DataFrame(columns | {"split": split, "logit": logit}) for split in ("tuning", "test")])


@pytest.fixture(scope="module")
def measured(facts, trained, table):
    return Measured(facts, trained, MANIFEST, SHARDS, ProtocolParams(**PROTOCOL), table, NO_OPINIONS)


@pytest.fixture(scope="module")
def split(facts, studies):
    """The test split."""
    groups = {"hand": facts.scores.test, "wrist": facts.scores.test}
    return Split("test", studies, facts.scores.test, {"body_part": groups})


@pytest.fixture(scope="module")
def figures(measured, split):
    return draw(measured, split, EPOCHS)


@pytest.fixture(scope="module")
def page(measured, split, figures):
    """The page, as HTML, of what was measured but for the changes."""

    def build(split=split, **changes):
        return evaluation_page(measured._replace(**changes), split, figures)

    return build


def test_the_page_needs_no_other_file(page):
    check_page(page())


def test_the_page_holds_its_six_charts(page):
    assert len(Page(page()).sources) == 6


def test_the_charts_are_those_of_the_studies(split, figures, studies, scores):
    curve = curves.roc_curve(studies.abnormal, studies.probability)
    assert figures.roc == charts.png(charts.roc(curve, scores.test))
    groups = charts.groups(scores.test, split.slices["body_part"])
    assert figures.subgroups == {"body_part": charts.png(groups)}
    assert figures.learning_curves == charts.png(charts.learning_curves(EPOCHS, 9))


def test_a_candidate_is_named_with_its_architecture(page, facts):
    assert "<h1>Evaluation of VGG-16 on the test split</h1>" in page()
    wide = facts.model_copy(update={"candidate": "wide"})
    html = page(facts=wide)
    assert "<h1>Evaluation of wide (VGG-16) on the test split</h1>" in html
    assert "<title>Evaluation of wide (VGG-16) on the test split</title>" in html


def test_the_verdict_comes_before_the_first_table(page, scores):
    head = page().split("<table")[0]
    for interval in (scores.test.auroc, scores.test.cohen_kappa, scores.test.sensitivity, scores.test.specificity):
        assert f"{interval.value:.3f}" in head
        assert f"{interval.low:.3f} to {interval.high:.3f}" in head
    assert "80 studies of 80 patients" in Page(page()).words


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("kappa", "highest Cohen's kappa, chosen on the tuning split"),
        ("sensitivity", "highest threshold with a sensitivity of at least 0.9, chosen on the tuning split"),
        ("half", "(abnormal is more probable than normal)"),
    ],
)
def test_the_page_says_how_the_threshold_was_chosen(page, measured, rule, words):
    protocol = measured.protocol.model_copy(update={"operating_point": rule, "target": 0.9})
    assert words in Page(page(protocol=protocol)).words


def test_provenance_is_complete(page, facts, trained):
    words = Page(page()).words
    for digest in (facts.data_digest, facts.shards_digest, facts.model_digest, facts.scores.test_digest):
        assert digest in words
    for detail in (facts.code_revision, trained.code_revision, "models:/m-1"):
        assert detail in words


def test_the_page_names_the_method_of_each_interval_with_its_source(page):
    words = Page(page()).words
    for name, method in intervals.METHODS.items():
        assert f"{METRIC_TITLES[name]}: {method.words} ({method.source}). It needs {method.needs}." in words


def test_too_few_patients_are_said_on_the_page(page, facts, scores, split):
    few = Interval(value=scores.test.sensitivity.value, low=None, high=None)
    test = scores.test.model_copy(update={"sensitivity": few})
    found = facts.model_copy(update={"scores": scores.model_copy(update={"test": test})})
    words = Page(page(split._replace(scores=test), facts=found)).words
    assert f"{few.value:.3f} (too few)" in words
    assert "too few patients for an interval" in words


def test_the_confusion_matrix_is_the_test_splits(page, scores):
    matrix = page().split('<table class="matrix">')[1].split("</table>")[0]
    counts = [int(found) for found in re.findall(r"<b>(\d+)</b>", matrix)]
    confusion = scores.test.confusion
    assert counts == [
        confusion.true_positive,
        confusion.false_negative,
        confusion.false_positive,
        confusion.true_negative,
    ]


def test_the_worst_errors_are_listed_by_study(page, studies):
    missed, alarms = metrics.confident_errors(studies, 0.5, 10)
    words = Page(page()).words
    assert missed
    assert alarms
    assert all(error.study in words for error in [*missed, *alarms])


def test_a_model_without_errors_has_none_to_list(page, split):
    perfect = rows_of(["a", "b"], ["p", "q"], ["hand"] * 2, [0, 1], [0.1, 0.9])
    assert page(split._replace(studies=perfect)).count("<p>None.</p>") == 2


def test_what_is_not_defined_is_written_as_such(page, split):
    lone = metrics.score(rows_of(["a"], ["p"], ["hand"], [1], [0.9]), 0.5)
    html = page(split._replace(slices={"body_part": {"hand": lone, "humerus": lone}}))
    row = html.split('<th scope="row">humerus</th>')[1].split("</tr>")[0]
    assert "n/a" in row
    assert "None" not in Page(html).words.replace("None.", "")
    assert "All test studies are of one class" in Page(page(split._replace(scores=lone))).words


def test_an_overlay_that_changes_no_test_study_is_reported_so(page, facts, scores):
    def opinion(studies):
        second = SecondOpinion(overlay_digest="0e" * 32, studies=studies, test=scores.test)
        return Page(page(facts=facts.model_copy(update={"second_opinion": second}))).words

    assert "the result stands as it is" in opinion(0)
    assert "gives 2 of the" in opinion(2)
    assert "second opinion" not in Page(page()).words


def test_names_from_outside_are_escaped(page, split, scores):
    names = ("wrist", "<script>alert(1)</script>")
    html = page(split._replace(slices={"body_part": dict.fromkeys(names, scores.test)}))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_relabelled_studies_are_listed_with_the_surest_prediction_first(page, facts, scores, studies):
    sure, unsure = np.argsort(-np.abs(studies.probability - 0.5))[[0, -1]]
    names = studies.study[[unsure, sure]]
    columns = {"overlay": [0, 1], "overlay_source": ["reader"] * 2, "overlay_reason": ["<b>plate</b>", "screw"]}
    opinions = pd.DataFrame(columns, index=names)
    second = SecondOpinion(overlay_digest="0e" * 32, studies=2, test=scores.test)
    html = page(facts=facts.model_copy(update={"second_opinion": second}), opinions=opinions)
    table = html.split("The studies in doubt")[1].split("</table>")[0]
    assert table.index(names[1]) < table.index(names[0])
    assert "&lt;b&gt;plate&lt;/b&gt;" in table
    official = [("normal", "abnormal")[label] for label in studies.abnormal[[sure, unsure]]]
    assert re.findall(r"<td>(normal|abnormal)</td>", table) == [official[0], "abnormal", official[1], "normal"]


@pytest.mark.parametrize("official", [0, 1])
def test_the_official_label_of_a_study_in_doubt_is_its_own(page, facts, scores, studies, official):
    name = studies.study[studies.abnormal == official][0]
    opinion = {"overlay": [official], "overlay_source": ["reader"], "overlay_reason": ["again"]}
    second = SecondOpinion(overlay_digest="0e" * 32, studies=1, test=scores.test)
    html = page(facts=facts.model_copy(update={"second_opinion": second}), opinions=pd.DataFrame(opinion, index=[name]))
    table = html.split("The studies in doubt")[1].split("</table>")[0]
    assert re.findall(r"<td>(normal|abnormal)</td>", table) == [("normal", "abnormal")[official]] * 2


def test_chosen_body_parts_are_named(page, facts):
    chosen = Page(page(facts=facts.model_copy(update={"body_parts": ("elbow", "wrist")}))).words
    assert "studies of elbow and wrist only, in training, tuning and test" in chosen
    assert " only, in training" not in Page(page()).words


def test_the_page_of_the_tuning_split_shows_nothing_of_the_test_split(measured, split, scores, studies, table):
    other = metrics.score(studies, 0.31)
    second = SecondOpinion(overlay_digest="0e" * 32, studies=2, test=other)
    of_both = scores.model_copy(update={"test": other})
    changes = {"scores": of_both, "second_opinion": second} | calibrated_facts(of_both)
    rows = table.assign(probability=table["probability"].mask(table["split"] == "test", 0.123))
    of_both = measured._replace(facts=measured.facts.model_copy(update=changes), studies=rows)
    tuning = split._replace(name="tuning")
    html = evaluation_page(of_both, tuning, draw(of_both, tuning, EPOCHS))
    words = Page(html).words
    assert "Evaluation of VGG-16 on the tuning split" in words
    assert "These numbers are for choosing." in words
    assert "second opinion" not in words
    assert "test.html" in words
    shown = set(re.findall(r"\d\.\d{3}", words))
    names = ("auroc", "cohen_kappa", "sensitivity", "brier", "f1")
    here, there = ({f"{getattr(each, name).value:.3f}" for name in names} for each in (scores.tuning, other))
    assert here <= shown
    assert not (there - here) & shown
    assert html == evaluation_page(measured, tuning, draw(measured, tuning, EPOCHS))


def test_without_slices_there_is_no_section_of_them(measured, split):
    whole = split._replace(slices={})
    html = evaluation_page(measured, whole, draw(measured, whole))
    assert "Subgroups" not in Page(html).words
    assert "Measured apart by nothing" in Page(html).words
    assert len(Page(html).sources) == 4


def test_each_slice_has_its_groups_or_a_sentence(page, split, scores):
    slices = {"body_part": {"hand": scores.test, "wrist": scores.test}, "views": {"2": scores.test}, "mode": {}}
    html = page(split._replace(slices=slices))
    words = Page(html).words
    assert "How to read many intervals at once." in words
    assert "Number of views All 80 test studies are of one group: 2." in words
    assert "PNG mode The data do not know it: the manifest has no column mode ." in words
    rows = html.split("<h3>Body part</h3>")[1].split("</table>")[0].split("<tr>")[2:]
    told = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in rows]
    share = f"{scores.test.n_abnormal} ({100 * scores.test.n_abnormal / 80:.0f} %)"
    values = " ".join(
        str(getattr(scores.test, name)) for name in ("auroc", "cohen_kappa", "sensitivity", "specificity")
    )
    assert told == [f"{name} 80 80 {share} {values}" for name in ("hand", "wrist")]
    assert "Measured apart by Body part; Number of views; PNG mode" in words


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (around(0.2), "The model knows more: the interval of the difference in AUROC lies above 0."),
        (around(0.0), "The model is not shown to know more. The interval of the difference in AUROC holds 0."),
        (around(-0.2), "The model knows less."),
        (Interval(value=0.1, low=None, high=None), "There are too few patients to say whether the model knows more."),
    ],
    ids=["more", "as much", "less", "too few"],
)
def test_the_floor_is_measured_beside_the_model(page, facts, scores, gain, words):
    low = FloorScores(auroc=around(0.6), cohen_kappa=around(0.1), auroc_gain=gain, cohen_kappa_gain=around(0.3))
    other = facts.floor.tuning
    found = Floor(threshold=0.4321, tuning=other, test=low)
    said = Page(page(facts=facts.model_copy(update={"floor": found}))).words
    assert words in said
    assert f"AUROC {scores.test.auroc} {around(0.6)} {gain}" in said
    assert "a threshold of its own, 0.4321" in said


def test_what_the_data_do_not_tell_is_said_and_nothing_else(page):
    assert (
        "The data do not tell age at examination, sex, origin, side of the body, scanner, hospital"
        in Page(page()).words
    )
    told = MANIFEST.model_copy(update={"kept": ("manufacturer", "sex", "age")})
    said = Page(page(manifest=told)).words
    assert "The data do not tell origin, side of the body, the device beside its manufacturer, hospital" in said


def test_the_protocol_is_on_the_page(page, measured):
    words = Page(page()).words
    assert measured.facts.protocol_digest[:12] in words
    assert "it may refuse a promotion, by the rules after the gain" in words
    reported = measured.protocol.model_copy(update={"test_role": "report"})
    assert "is reported; nothing depends on it" in Page(page(protocol=reported)).words


def test_the_cohort_of_each_split_is_on_the_page(page):
    rows = page().split("Who is in which split")[1].split("<tr")
    told = [re.sub(r"<[^>]+>|\s+", " ", row) for row in rows]
    assert any(re.search(r"tuning\s+all\s+80\s+90\s+161\s+45\s+\(50 %\)", row) for row in told)
    assert any(re.search(r"wrist\s+330\s+400\s+900\s+160\s+\(40 %\)", row) for row in told)


def test_the_diagram_says_what_was_left_out_and_why():
    words = Page(flow.diagram(MANIFEST, SHARDS)).words
    for said in (
        "MURA-v1.1.zip", "1,555 images", "321 images of 140 studies", "elbow and", "12 AppleDouble files",
        "1 other file, no images", "2 studies without an", "1,234 images", "570 studies, 480 patients",
        "(39 of 41 expectations", "mode, near_train", "3 images in no split", "Train", "50 % abnormal",
    ):  # fmt: skip
        assert said in words, said


def test_names_in_the_diagram_are_escaped_and_cut():
    odd = MANIFEST.model_copy(update={"archive": "<script>" + "x" * 60, "warnings": ("<b>",)})
    drawn = flow.diagram(odd, SHARDS)
    assert "<script>" not in drawn
    assert "<b>" not in drawn
    assert "x" * 40 not in drawn
