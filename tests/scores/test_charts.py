"""Pictures are drawn, legible in size, and the same for the same numbers."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.artifacts.evaluation import Interval
from components.scores import charts, metrics
from components.scores.metrics import Studies


@pytest.fixture(scope="module")
def studies():
    random = np.random.default_rng(0)
    abnormal = random.integers(0, 2, 140)
    probability = 1 / (1 + np.exp(-(random.normal(size=140) + 1.5 * abnormal - 0.7)))
    part = np.array(["wrist", "hand"])[random.integers(0, 2, 140)]
    keys = [f"study{i:03}" for i in range(140)]
    return Studies.of_images(keys, keys, part, abnormal, probability)


@pytest.fixture(scope="module")
def scores(studies):
    return metrics.score(studies, 0.5, 2000, 1)


@pytest.fixture(scope="module")
def one_class():
    return metrics.score(Studies.of_images(["a", "b"], ["p", "q"], ["hand"] * 2, [1, 1], [0.4, 0.9]), 0.5, 2000, 1)


@pytest.fixture(scope="module")
def perfect():
    keys = list("abcd")
    return metrics.score(Studies.of_images(keys, keys, ["hand"] * 4, [0, 0, 1, 1], [0, 0.1, 0.9, 1]), 0.5, 2000, 1)


def curves(epochs):
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "phase": np.where(epoch <= 2, "head", "all"),
            "learning_rate": 1e-3 / epoch,
            "loss": 1 / epoch,
            "tuning_loss": 1.1 / epoch,
            "tuning_auroc": 1 - 0.5 / epoch,
        }
    )


@pytest.fixture(scope="module")
def draw(studies, scores, one_class, perfect):
    """Every chart by name, as a function that draws it anew."""
    abnormal, probability = studies.abnormal, studies.probability
    roc = metrics.roc_curve(abnormal, probability)
    rows = [
        charts.Row(
            "VGG-16 v1", scores.auroc, scores.cohen_kappa, strong=True, tuning_auroc=0.9, tuning_cohen_kappa=-0.1
        ),
        charts.Row("none", one_class.auroc, one_class.cohen_kappa),
    ]
    return {
        "roc": lambda: charts.roc(roc, scores),
        "operating points": lambda: charts.roc_overlay({"one": scores, "two": one_class}, {}),
        "overlay": lambda: charts.roc_overlay({f"m{i}": scores for i in range(7)}, {"m1": roc}),
        "precision recall": lambda: charts.precision_recall(
            metrics.precision_recall_curve(abnormal, probability), scores
        ),
        "calibration": lambda: charts.calibration(metrics.calibration_curve(abnormal, probability), scores),
        "body parts": lambda: charts.body_parts(scores, {"wrist": scores, "hand": one_class}),
        "perfect body part": lambda: charts.body_parts(perfect, {"hand": perfect}),
        "perfect operating point": lambda: charts.roc_overlay({"one": perfect}, {}),
        "nobody's operating point": lambda: charts.roc_overlay({"one": one_class}, {}),
        "forest": lambda: charts.forest(rows),
        "nothing defined": lambda: charts.forest([rows[1]]),
        "learning curves": lambda: charts.learning_curves(curves(12), 7),
        "one epoch": lambda: charts.learning_curves(curves(1), 1),
        "many epochs": lambda: charts.learning_curves(curves(60), 60),
    }


NAMES = (
    "roc",
    "operating points",
    "overlay",
    "precision recall",
    "calibration",
    "body parts",
    "perfect body part",
    "perfect operating point",
    "nobody's operating point",
    "forest",
    "nothing defined",
    "learning curves",
    "one epoch",
    "many epochs",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_is_a_png_of_readable_size_with_ink_on_white(draw, name):
    image = Image.open(io.BytesIO(draw[name]()))
    assert image.format == "PNG"
    assert 600 <= image.width <= 1500
    grey = np.asarray(image.convert("L"))
    assert grey[0, 0] == 255
    assert 0.005 < (grey < 200).mean() < 0.5


@pytest.mark.parametrize("name", ["roc", "calibration", "forest"])
def test_the_same_numbers_give_the_same_bytes(draw, name):
    first = draw[name]()
    assert first == draw[name]()
    assert Image.open(io.BytesIO(first)).text == {}


def test_drawing_leaves_the_style_of_others_alone(draw):
    before = dict(mpl.rcParams)
    draw["roc"]()
    assert dict(mpl.rcParams) == before


def test_the_forest_grows_with_its_rows():
    row = charts.Row("x", *[Interval(value=0.8, low=0.7, high=0.9)] * 2)
    heights = [Image.open(io.BytesIO(charts.forest([row] * n))).height for n in (2, 8)]
    assert heights[0] < heights[1]


def test_another_operating_point_is_another_picture(studies, scores):
    curve = metrics.roc_curve(studies.abnormal, studies.probability)
    other = metrics.score(studies, 0.7, 2000, 1)
    assert charts.roc(curve, scores) != charts.roc(curve, other)
