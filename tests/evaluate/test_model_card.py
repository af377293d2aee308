"""The model card is true for the phantom and for MURA, says what is not known, and is the same in both forms."""

import re

import pytest
from conftest import COMMIT, MEASURED_WITH, around, calibrated_facts, make_scores
from html_page import Page, check_page
from markdown_it import MarkdownIt
from protocols import PROTOCOL

from components.archive import mura_v1_1
from components.artifacts.evaluation import (
    METRIC_TITLES,
    Both,
    Calibration,
    EvaluationFacts,
    Floor,
    FloorScores,
    Interval,
    SecondOpinion,
)
from components.artifacts.manifest import ValidManifestFacts
from components.artifacts.shards import Cohort, PartFacts, ShardsFacts, SplitFacts
from components.artifacts.trained_model import Offsets, TrackedRun, TrainedModelFacts
from components.evaluate.model_card import card_page, model_card
from components.evaluate.page import Figures, Measured, Split
from components.pages.prose import Chart, Table, html, markdown
from components.params.protocol import ProtocolParams
from components.scores import charts

# The names of Mitchell et al. 2019, section 4, and two of Hugging Face's.
HEADINGS = (
    "Model details", "Intended use", "Out-of-scope use", "Factors", "Metrics", "Evaluation data", "Training data",
    "Training procedure", "Quantitative analyses", "Ethical considerations", "Caveats and recommendations", "Citation",
)  # fmt: skip
SCORES = make_scores(0.8, tuning=make_scores(0.83).tuning)
FEW = SCORES.test.model_copy(update={"auroc": Interval(value=0.9, low=None, high=None)})
GROUPS = {"wrist": make_scores(0.71).test, "hand": make_scores(0.86).test, "elbow": FEW}
PNG = charts.png(charts.words("a chart"))


def evaluation(**changes):
    groups = {
        "body_part": GROUPS,
        "views": {"1": SCORES.test, "2": make_scores(0.84).test},
        "mode": {},
        "second_opinion": {"none": SCORES.test},
    }
    known = {
        "candidate": "wide", "architecture": "vgg16", "model_digest": "a1" * 32, "data_digest": "b2" * 32,
        "shards_digest": "c3" * 32, "code_revision": COMMIT, "params": MEASURED_WITH,
        "protocol": PROTOCOL | {"slices": list(groups)}, "seed": 7, "scores": SCORES, **calibrated_facts(SCORES),
    } | {"slices": Both(tuning={}, test=groups)}  # fmt: skip
    return EvaluationFacts(**known | changes)


def trained(**changes):
    known = {
        "candidate": "wide", "architecture": "vgg16", "image_size": 320, "parameters": 14_715_201,
        "params": {"learning_rate": 0.0001, "weights": "imagenet"}, "seed": 7, "precision": "float32",
        "device": "a device", "phases": ("head", "all"), "epochs": 12, "best_epoch": 9, "tuning": {"auroc": 0.9},
        "offsets": Offsets(body_part={"hand": 1.0}, pooled=0.5), "seconds": 7500.0, "data_digest": "b2" * 32,
        "shards_digest": "c3" * 32, "code_revision": "f5" * 20, "environment": {"keras": "3"},
        "run": TrackedRun(run_id="run-1", model_uri="models:/m-1"),
    }  # fmt: skip
    return TrainedModelFacts(**known | changes)


def manifest(**changes):
    known = {
        "archive": "bones.zip", "archive_md5": "0d" * 16, "images": 1_234, "studies": 570, "patients": 480,
        "sidecars": 0, "others": (), "manifest_digest": "0a" * 32, "data_digest": "b2" * 32, "expectations": 41,
        "warnings": ("mode", "near_train"),
    }  # fmt: skip
    return ValidManifestFacts(**known | changes)


def cohort(images, studies, abnormal, patients, digest):
    people = {"images": images, "studies": studies, "abnormal_studies": abnormal, "patients": patients}
    return SplitFacts(
        **people, abnormal=images // 2, files=(), records=(), digest=digest * 32, body_parts={"hand": Cohort(**people)}
    )


SHARDS = ShardsFacts(
    image_size=320,
    data_digest="b2" * 32,
    train_images={part: PartFacts(normal=500, abnormal=400) for part in ("hand", "elbow", "wrist")},
    splits={
        "train": cohort(900, 400, 160, 330, "d0"),
        "tuning": cohort(161, 90, 45, 80, "d1"),
        "test": cohort(173, 100, 50, 90, "d2"),
    },
)


def build(facts=None, model=None, data=None):
    """The blocks of a card, and what it was made of."""
    facts = facts or evaluation()
    protocol = ProtocolParams(**facts.protocol)
    measured = Measured(facts, model or trained(), data or manifest(), SHARDS, protocol, None, None)
    slices = facts.slices.test
    figures = Figures(
        roc=PNG, precision_recall=PNG, calibration=None, learning_curves=None,
        subgroups={name: PNG for name, found in slices.items() if len(found) > 1},
    )  # fmt: skip
    return model_card(measured, Split("test", None, facts.scores.test, slices), figures), measured


def text(*made):
    """The card as people read it, from its Markdown."""
    words = Page(READER.render(markdown(build(*made)[0]))).words
    # A mark after a piece in other letters stands apart.
    return re.sub(r" ([,.:])", r"\1", words)


READER = MarkdownIt("commonmark", {"html": True}).enable("table")
DRAWN = manifest(archive="phantom.zip")
STANFORD = manifest(archive="MURA-v1.1.zip", images=mura_v1_1.IMAGES, studies=mura_v1_1.STUDIES)


def test_the_card_has_the_headings_of_the_field():
    lines = markdown(build()[0]).splitlines()
    assert lines[0] == "# Model card: wide (VGG-16)"
    found = [line.lstrip("# ") for line in lines if line.startswith("#")]
    assert [name for name in found if name in HEADINGS] == list(HEADINGS)


def test_the_markdown_is_read_as_the_page_says_it():
    blocks, measured = build()
    page = Page(card_page(blocks, measured))
    read = Page(READER.render(markdown(blocks)))
    tables = [block for block in blocks if isinstance(block, Table)]
    assert read.tags.count("table") == page.tags.count("table") == len(tables)
    assert read.tags.count("td") == sum(len(table.head) * len(table.rows) for table in tables)
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.head)}
    # The page has charts besides, with their captions.
    without = [block for block in blocks if not isinstance(block, Chart)]
    assert len(without) < len(blocks)
    assert Page(str(html(without))).words == read.words


def test_the_page_needs_no_other_file():
    check_page(card_page(*build()))


def test_equal_inputs_give_equal_cards():
    assert markdown(build()[0]) == markdown(build()[0])
    assert card_page(*build()) == card_page(*build())


def test_every_metric_of_test_has_its_interval():
    said = text()
    for key, name in METRIC_TITLES.items():
        assert f"{name} {getattr(SCORES.test, key)} {getattr(SCORES.tuning, key)}" in said
    assert "AUROC is 0.800 (0.750 to 0.850)" in said
    # A number with three digits behind the point has an interval, or is the end of one, or is a threshold's.
    estimates = re.findall(r"(?<![\w.(])(?<!to )-?\d\.\d{3}(?!\d)(?! \()", said)
    assert estimates == []


def test_data_are_named_with_counts_and_digests():
    said = text()
    for row in ("train 330 400 900 160 (40 %) d0d0d0d0d0d0", "tuning 80 90 161 45 (50 %)", "test 90 100 173 50 (50 %)"):
        assert row in said
    for digest in ("a1" * 32, "b2" * 32, "0d" * 16, "f5" * 20, COMMIT):
        assert digest in said
    assert "elbow 500 400 +0.5000 hand 500 400 +1.0000" in said
    assert "learning_rate 0.0001" in said
    assert "pretrained on ImageNet" in said


def test_the_card_of_the_phantom_says_that_the_bones_are_drawn():
    said = text(None, None, DRAWN)
    assert "The images are drawn." in said
    assert "X-ray study of drawn bones" in said
    assert "It is the phantom" in said
    assert "no person's data" in said
    for false in ("Stanford", "radiologists called", "pictures are of people"):
        assert false not in said


def test_the_card_of_mura_says_where_its_pictures_come_from():
    said = text(None, None, STANFORD)
    assert "It holds 40,005 images of 14,656 studies, as MURA v1.1 as published." in said
    assert "Stanford Hospital" in said
    assert "pictures are of people" in said
    assert "drawn" not in said


def test_some_body_parts_of_mura_are_of_mura():
    chosen = {"images": 30_005, "left_out_images": 10_000, "studies": 10_656, "left_out_studies": {"hand": 4_000}}
    said = text(None, None, STANFORD.model_copy(update=chosen | {"body_parts": ("elbow", "wrist")}))
    assert "Stanford Hospital" in said
    assert "Only studies of elbow and wrist were chosen" in said


def test_an_archive_that_is_neither_is_not_called_one():
    said = text()
    assert "layout of MURA v1.1, and not its size. It holds 1,234 images of 570 studies" in said
    for false in ("Stanford", "drawn", "is the phantom"):
        assert false not in said


def test_groups_are_listed_and_what_is_not_known_of_them_is_said():
    said = text()
    assert "Test studies by body part." in said
    assert f"wrist 100 50 (50 %) {GROUPS['wrist'].auroc}" in said
    assert "PNG mode: the data do not know it, they have no column mode." in said
    assert "Second opinion on the label: all test studies are of one group, none." in said
    assert f"Body part: the lowest AUROC is that of wrist, {GROUPS['wrist'].auroc}. The lowest of 2" in said
    assert "Body part: too few patients to say how good the model is for elbow." in said
    without = evaluation(protocol=PROTOCOL | {"slices": []}, slices=Both(tuning={}, test={}))
    assert "Nothing was measured apart" in text(without)
    assert "Subgroups" not in text(without)


AGES = {"30-39": SCORES.test, "40-49": SCORES.test}


def kept(*names, slices=()):
    """The card of an archive that tells something of its patients, measured by some of it."""
    groups = dict.fromkeys(slices, AGES)
    facts = evaluation(protocol=PROTOCOL | {"slices": list(groups)}, slices=Both(tuning={}, test=groups))
    return text(facts, None, manifest(kept=names))


def test_what_the_archive_tells_of_its_patients_is_not_said_to_be_unknown():
    said = text()
    assert "by age or sex: the data do not tell age or sex" in said
    assert "Not in the data, so not measured: age at examination, sex, origin, side of the body, scanner," in said
    assert "worse for some people than for others is unknown" in said
    said = kept("manufacturer", "sex", "age", slices=("manufacturer", "sex", "age"))
    assert "the data do not tell" not in said
    assert "Not in the data, so not measured: origin, side of the body, the device beside its manufacturer," in said
    assert "than for others is known as far as the tables of subgroups show it" in said
    said = kept("sex", "age", slices=("age",))
    assert "In the data, and not measured apart: Sex." in said
    said = kept("sex", slices=("sex",))
    assert "any other group by age: the data do not tell age, so" in said
    said = kept("age", "sex")
    assert "any other group by age or sex: nothing was measured by them." in said
    assert "In the data, and not measured apart: Age in years; Sex." in said


NO_INTERVAL = Interval(value=0.2, low=None, high=None)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (around(0.2), "its AUROC is 0.200 (0.150 to 0.250) higher"),
        (around(0.01), "is not shown to know more than body part, views and picture size"),
        (NO_INTERVAL, "too few patients to say whether the model knows more"),
    ],
    ids=["more", "not more", "too few"],
)
def test_the_floor_is_said_in_words(gain, words):
    low = FloorScores(auroc=around(0.6), cohen_kappa=around(0.1), auroc_gain=gain, cohen_kappa_gain=around(0.5))
    said = text(evaluation(floor=Floor(threshold=0.4, tuning=low, test=low)))
    assert words in said
    assert f"AUROC {SCORES.test.auroc} {around(0.6)} {gain}" in said


def test_limits_come_from_what_was_found():
    said = text()
    assert "with 2 warnings: mode, near_train." in said
    assert "Nobody gave a second opinion" in said
    assert "sees 320 x 320 pixels" in said
    assert "no localisation" in said
    opinion = SecondOpinion(overlay_digest="0e" * 32, studies=2, test=make_scores(0.77).test)
    calibration = Calibration(intercept=0.2, slope=0.0, folds=10, pooled_parts=("elbow",))
    said = text(evaluation(second_opinion=opinion, calibration=calibration))
    assert f"second opinions would change those of 2 test studies. By them the AUROC is {opinion.test.auroc}." in said
    assert "Second opinions give 2 test studies another label." in said
    assert "ranks backwards on the tuning split" in said
    assert "Training had no images of elbow" in said


@pytest.mark.parametrize(
    ("slope", "words"),
    [
        (around(0.4), "The probabilities are too extreme on test: the calibration slope is 0.400 (0.350 to 0.450)."),
        (around(1.4), "The probabilities are not extreme enough on test"),
        (around(1.01), None),
        (NO_INTERVAL, None),
    ],
)
def test_a_slope_that_is_not_1_is_a_limit(slope, words):
    reliability = evaluation().reliability
    calibrated = reliability.test.calibrated.model_copy(update={"slope": slope})
    found = reliability.model_copy(update={"test": reliability.test.model_copy(update={"calibrated": calibrated})})
    said = text(evaluation(reliability=found))
    assert words in said if words else "extreme" not in said


def test_names_from_outside_are_text():
    odd = "<script>|`*_\n# x"
    blocks, measured = build(evaluation(), trained(), manifest(archive=odd))
    for page in (card_page(blocks, measured), READER.render(markdown(blocks))):
        assert "<script>" not in page
        assert "<script>|`*_\\n# x" in Page(page).words
