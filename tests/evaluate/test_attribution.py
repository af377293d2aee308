"""The studies whose maps the report shows, and how it shows them."""

from html_page import Page
from scored_studies import studies_of

from components.evaluate.attribution import TEMPLATE, Attribution, Explained, Kind, View, surest
from components.pages.render import render, square_picture

PNG = square_picture(b"png", "a view of the study", 150)


def test_the_surest_studies_of_each_label_and_answer_are_chosen_surest_first() -> None:
    probability = [0.9, 0.6, 0.8, 0.1, 0.3, 0.2, 0.7, 0.45]
    abnormal = [1, 1, 1, 0, 0, 1, 0, 0]
    assert surest(studies_of(abnormal, probability), 0.5, most=2) == {
        "Abnormal, rightly called abnormal": [0, 2],
        "Normal, rightly called normal": [3, 4],
        "Abnormal, wrongly called normal": [5],
        "Normal, wrongly called abnormal": [6],
    }


def test_at_the_threshold_a_study_is_called_abnormal() -> None:
    found = surest(studies_of([1, 0], [0.5, 0.5]), 0.5)
    assert [len(rows) for rows in found.values()] == [1, 0, 0, 1]


def page() -> str:
    view = View("image1.png", PNG, PNG)
    study = Explained("MURA-v1.1/train/XR_HAND/<b>patient1/study1_positive", "hand", 0.987, [view, view], 4)
    kinds = [Kind("Abnormal, rightly called abnormal", [study]), Kind("Normal, rightly called normal", [])]
    return render(TEMPLATE, attribution=Attribution("tuning", kinds, (7, 7)))


def test_views_are_named_and_the_map_lies_over_each() -> None:
    html, words = page(), Page(page()).words
    assert words.count("image1.png") == 2
    assert html.count('<div class="over"><img') == 2
    for told in ("Probability 0.987, hand", "4 views not shown", "7 x 7 cells", "tuning studies", "None."):
        assert told in words
    assert "&lt;b&gt;patient1/<wbr>study1_positive" in html


def test_that_the_mirror_image_was_asked_too_is_said() -> None:
    words = "the mean of that of the view and of its mirror image"
    asked = render(TEMPLATE, attribution=Attribution("tuning", [], (7, 7), flips=True))
    assert words in Page(asked).words
    assert words not in Page(page()).words


def test_the_caveat_is_printed() -> None:
    assert "Attribution is no localisation." in Page(page()).words
