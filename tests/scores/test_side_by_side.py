"""Candidates side by side, of one split."""

from conftest import around, make_scores

from components.scores import charts, side_by_side
from components.scores.side_by_side import Candidate

SPLIT = make_scores().tuning
SCORES = make_scores(test=SPLIT.model_copy(update={"auroc": around(0.7), "sensitivity": around(0.6)}))


def legend(figure):
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def test_the_forest_of_the_test_split_marks_tuning_beside_and_that_of_tuning_shows_tuning_alone():
    candidates = [Candidate("one", SCORES), Candidate("two", SCORES, strong=True)]
    assert charts.png(side_by_side.forest(candidates, "test")) == charts.png(
        charts.forest(
            [
                charts.Row(name, SCORES.test.auroc, SCORES.test.cohen_kappa, name == "two", 0.8, 0.8 - 0.2)
                for name in ("one", "two")
            ]
        )
    )
    figure = side_by_side.forest(candidates, "tuning")
    assert "0.800 (0.750 to 0.850)" in [text.get_text() for text in figure.axes[0].texts]
    assert legend(figure) == []


def test_operating_points_are_of_the_split():
    shown = {
        split: legend(side_by_side.operating_points([Candidate("one", SCORES)], split)) for split in ("tuning", "test")
    }
    assert shown == {"tuning": [f"one: AUROC {around(0.8)}"], "test": [f"one: AUROC {around(0.7)}"]}
