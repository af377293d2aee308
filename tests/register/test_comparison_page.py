"""The page that compares the candidates reads well, whatever they are."""

import re

import numpy as np
import pytest
from compared import entry, predicted
from html_page import Page, check_page

from components.artifacts.evaluation import METRIC_TITLES
from components.artifacts.registration import Opened, RegistrationFacts, ranked
from components.artifacts.trained_model import Member
from components.register.comparison import with_first
from components.register.page import Compared, draw, registration_page

OPENED = Opened(models=7, protocols=())


def compared(entries, aliases=None, contrasts=()):
    versions = tuple(each.version for each in entries)
    by_number = {each.version.version: each for each in entries}
    ordered = [by_number[version.version] for version in ranked(versions, "auroc")]
    among = with_first(ordered)
    facts = RegistrationFacts(versions=versions, opened=OPENED)
    return Compared.of(facts, ordered, aliases or {}, [*([among] if among else []), *contrasts])


def page(entries, **more):
    found = compared(entries, **more)
    html = registration_page(found, draw(found))
    check_page(html)
    # Each table and each picture says what it is.
    assert html.count("<table") == html.count("<caption")
    return html


def words(html):
    return Page(html).words


def sections(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


EVERY = [
    "Ranking",
    "Paired differences",
    "ROC and precision-recall curves",
    "Calibration",
    "By body part",
    "Confusion matrices",
    "Training and cost",
    "Provenance",
]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    place = tmp_path_factory.mktemp("three")
    return [
        entry(place, 1, predicted(2, 1.0), "poor", parameters=1_000_000, device="CPU", seconds=600.0),
        entry(place, 2, predicted(1, 2.4), "good", device="NVIDIA H200", precision="bfloat16"),
        entry(place, 3, predicted(3, 1.6), "fair"),
    ]


@pytest.fixture(scope="module")
def html(three):
    return page(three, aliases={2: ("champion",), 9: ("gone",)})


def test_all_sections_are_there_and_the_splits_are_told_apart(html, three):
    assert sections(html) == EVERY
    said = words(html)
    assert "Of 3 candidates, good (VGG-16) v2 ranks first" in said
    assert "120 studies of 60 patients; 48 of the studies are abnormal" in said
    assert "No choice was made by numbers of the test split" in said
    assert "7 models that this registry knows were ever measured on this test split" in said
    assert html.count('<span class="on test">') == html.count('<span class="on tuning">') > 8
    # The forest, the differences, the learning curves, and four of each split.
    assert len(Page(html).sources) == 11


def test_the_ranking_is_of_tuning_and_shows_the_alias(html):
    table = html.split("<h2>Ranking</h2>")[1].split("</table>")[0]
    assert table.index("good") < table.index("fair") < table.index("poor")
    assert "good (VGG-16) v2 <small>champion</small>" in table


def test_the_numbers_of_every_section_are_those_of_the_candidates(html, three):
    said = words(html)
    for each in three:
        for split in ("tuning", "test"):
            scores, reliability = each.version.scores.of(split), each.evaluation.reliability.of(split).calibrated
            assert f"{scores.auroc.value:.3f}" in said
            assert f"{reliability.expected_error:.3f}" in said
            counts = scores.confusion
            matrix = f"abnormal {counts.true_positive} {counts.false_negative} missed normal {counts.false_positive}"
            assert matrix in said
        assert f"abnormal from a probability of {each.threshold:.4f}" in said
    (row, _) = with_first([three[1], three[2], three[0]]).rows
    assert f"{row.test.cohen_kappa.value:+.3f} ({row.test.cohen_kappa.low:+.3f} to" in said
    assert "10.0 MB" not in said
    assert "1,000,000" in said
    assert "NVIDIA H200 bfloat16" in said
    assert "10 min 00 s" in said


def test_an_interval_beside_0_is_said_in_words(html):
    table = html.split("<h3>Compared with good (VGG-16) v2, the first</h3>")[1].split("</table>")[0]
    assert re.search(r"<b>-0\.\d{3}</b> <small>\(-0\.\d{3} to -0\.\d{3}\) lower</small>", table)
    assert "higher</small>" not in table


def test_one_candidate_has_a_page_of_its_own_without_differences(three):
    html = page(three[1:2])
    assert sections(html) == [title for title in EVERY if title != "Paired differences"]
    said = words(html)
    assert said.startswith("good (VGG-16) v2 good (VGG-16) v2 One candidate was registered")
    for word in ("paired differences", "ranks first", "overlap", "Comparison"):
        assert word not in said


@pytest.mark.long
def test_a_tie_is_said(three, tmp_path):
    twin = entry(tmp_path, 4, predicted(1, 2.4), "twin")
    said = words(page([three[1], twin, three[0]]))
    assert "the second has the same value, and the lower Brier score on tuning decides, then the name" in said
    assert "+0.000 (-0.000 to +0.000)" in said


def perfect(abnormal):
    return 8.0 * abnormal - 4 + np.linspace(-0.4, 0.4, len(abnormal))


def constant(abnormal):
    return np.full(len(abnormal), 0.25)


def backwards(abnormal):
    return -perfect(abnormal)


@pytest.mark.long
@pytest.mark.parametrize("answers", [perfect, constant, backwards])
def test_extreme_candidates_have_a_page(answers, three, tmp_path):
    odd = entry(tmp_path, 5, predicted(1, answers=answers), "odd")
    for entries in ([odd], [odd, three[0]]):
        html = page(entries)
        assert not re.search(r"\bnan\b|\binf\b|None", words(html))
    assert f"{odd.version.scores.test.auroc.value:.3f}" in words(html)


@pytest.mark.long
def test_too_few_patients_everywhere_is_said(tmp_path):
    entries = [entry(tmp_path, n, predicted(n, tuning=16, test=14), f"c{n}") for n in (1, 2)]
    html = page(entries)
    said = words(html)
    assert "Too few patients for intervals: each class needs 10. Such differences may be chance." in said
    assert "No band on either split: it needs 10 patients of each class." in said
    table = html.split("<h3>Compared with ")[1].split("</table>")[0]
    assert table.count("(too few)") == 6
    assert "one in twenty of the" not in said


@pytest.mark.long
def test_one_split_with_too_few_patients_has_no_band_alone(tmp_path):
    said = words(page([entry(tmp_path, 1, predicted(1, test=14))]))
    assert "The band is that of vgg16" not in said
    assert "The band is that of VGG-16 v1" in said
    assert "No band on test: it needs 10 patients of each class." in said


@pytest.mark.long
def test_without_slices_or_with_one_body_part_there_is_no_such_section(tmp_path):
    for entries in (
        [entry(tmp_path, 1, predicted(1), protocol={"slices": []})],
        [entry(tmp_path, 2, predicted(1, parts=("wrist",)))],
    ):
        assert "By body part" not in sections(page(entries))


@pytest.mark.long
def test_what_a_card_does_not_say_is_left_out(three, tmp_path):
    # An ensemble has no training of its own.
    member = Member(
        candidate="vgg19",
        architecture="vgg19",
        params={},
        seed=1,
        parameters=10,
        model_digest="0" * 64,
        evaluation_digest="e" * 64,
        intercept=0.1,
        slope=1.0,
    )
    untrained = {"architecture": "ensemble", "members": (member,), "seed": None, "epochs": 0, "best_epoch": 0}
    bare = entry(tmp_path, 6, predicted(4), "bare", parameters=0, seconds=0.0, **untrained)
    bare.model.curves.unlink()
    bare.model.weights.unlink()
    said = words(page([three[0], bare]))
    assert "Without learning curves: bare (VGG-16) v6." in said
    assert "bare (VGG-16) v6 n/a n/a n/a n/a n/a n/a CPU" in said
    assert "Without learning curves" not in words(page([three[0]]))
    alone = page([bare])
    assert "AUROC on tuning by epoch" not in alone


@pytest.mark.long
def test_the_metric_of_the_protocol_is_named(tmp_path):
    entries = [entry(tmp_path, 1, predicted(1), protocol={"primary_metric": "cohen_kappa"})]
    assert f"with {METRIC_TITLES['cohen_kappa']}" in words(page(entries))


@pytest.mark.long
def test_the_same_candidates_make_the_same_page(three, html):
    assert page(three, aliases={2: ("champion",), 9: ("gone",)}) == html


@pytest.mark.long
def test_five_candidates_of_muras_size_fit_into_two_megabytes(tmp_path):
    parts = ("elbow", "finger", "forearm", "hand", "humerus", "shoulder", "wrist")
    entries = [entry(tmp_path, n, predicted(n, 1 + n / 4, 1500, 1200, parts), f"candidate_{n}") for n in range(1, 6)]
    assert len(page(entries)) < 2_000_000
