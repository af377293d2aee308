"""The part of the report that is about probabilities says how they come about and how good they are."""

import numpy as np
import pandas as pd
import pytest
from conftest import MEASURED_WITH, calibrated_facts, make_scores
from html_page import Page
from protocols import PROTOCOL

from components.artifacts.evaluation import EvaluationFacts
from components.artifacts.trained_model import Offsets
from components.evaluate import calibration_page
from components.evaluate.calibration_page import calibration_section, draw_calibration
from components.pages.render import render
from components.params.protocol import ProtocolParams

SCORES = make_scores()
FACTS = EvaluationFacts(
    candidate="vgg16",
    architecture="vgg16",
    model_digest="a1" * 32,
    data_digest="b2" * 32,
    shards_digest="c3" * 32,
    code_revision="e4" * 20,
    params=MEASURED_WITH,
    protocol=PROTOCOL,
    seed=1,
    scores=SCORES,
    **calibrated_facts(SCORES),
)
LEARNED = Offsets(body_part={"hand": 1.006, "wrist": -0.2}, pooled=0.5)
TEMPLATE = calibration_page.TEMPLATE


@pytest.fixture(scope="module")
def studies():
    random = np.random.default_rng(0)
    abnormal = np.arange(120) % 2
    logit = 2 * abnormal - 1 + random.normal(size=120)
    columns = {"abnormal": abnormal, "logit": logit, "probability": 1 / (1 + np.exp(-logit / 2))}
    return pd.DataFrame(columns | {"split": np.repeat(["tuning", "test"], 60)})


@pytest.fixture(scope="module")
def words(studies):
    figures = {split: draw_calibration(FACTS, studies, split) for split in ("tuning", "test")}

    def build(split="test", facts=FACTS):
        protocol = ProtocolParams.model_validate(PROTOCOL)
        section = calibration_section(facts, LEARNED, protocol, split, figures[split])
        return Page(render(TEMPLATE, calibrated=section)).words

    return build


def calibrated(**changes):
    return FACTS.model_copy(update={"calibration": FACTS.calibration.model_copy(update=changes)})


def test_the_formula_has_its_numbers(words):
    told = words()
    assert "a = 0.200 and b = 0.600" in told
    assert "+1.01" in told
    assert "-0.20" in told


def test_raw_stands_beside_calibrated(words):
    told = words()
    assert "0.120 (by chance 0.060)" in told
    assert "0.040 (by chance 0.060)" in told
    assert "10 bins of equal width" in told
    assert told.index("0.400 (0.350 to 0.450)") < told.index("0.900 (0.850 to 0.950)")


def test_all_operating_points_are_shown_and_one_decides(words):
    told = words()
    rules = ["highest Cohen's kappa decides", "highest threshold with a sensitivity of at least 0.9", "more probable"]
    assert all(rule in told for rule in rules)
    assert told.count(" decides ") == 1


def test_only_the_page_of_tuning_speaks_of_folds(words):
    assert "10 folds of patients" in words("tuning")
    assert "folds of patients" not in words("test")
    assert "Test studies" not in words("tuning")


def test_a_network_that_ranks_backwards_is_named(words):
    assert "ranks backwards on the tuning split" in words(facts=calibrated(slope=0.0))
    assert "ranks backwards" not in words()


def test_body_parts_with_the_pooled_offset_are_named(words):
    told = words(facts=calibrated(pooled_parts=("elbow", "knee")))
    assert "no images of elbow and knee, or images of one label only" in told
    assert "all body parts together, +0.50" in told
