"""One row per study, and the AUROC that training stops by."""

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from scored_studies import columns, quick, rows_of, scored

from components.base import code
from components.scores.studies import StudyLogits, auroc, sigmoid, study_logit


@pytest.mark.parametrize(
    ("probability", "message"),
    [([0.5], "one label per probability"), ([0.5, 1.5], r"in \[0, 1\], got 1.5"), ([0.5, float("nan")], "got nan"),
     ([-0.1, 0.5], "got -0.1")],
)  # fmt: skip
def test_what_is_no_probability_is_refused(probability, message):
    with pytest.raises(ValueError, match=message):
        auroc([0, 1], probability)


def test_no_study_has_no_auroc():
    with pytest.raises(ValueError, match="at least one study"):
        auroc([], [])


def test_some_of_the_studies_keep_their_facts():
    studies = rows_of(["b", "a"], ["p2", "p1"], ["hand", "wrist"], [1, 0], [0.4, 0.1])
    assert studies.study.tolist() == ["a", "b"]
    assert studies.where(studies.body_part == "hand").study.tolist() == ["b"]
    assert studies.where(studies.body_part == "hand").probability == pytest.approx([0.4])


@pytest.mark.parametrize(
    ("patient", "part", "label", "named"),
    [
        (["p1", "p2"], ["hand", "hand"], [1, 1], "patient"),
        (["p1", "p1"], ["hand", "wrist"], [1, 1], "body_part"),
        (["p1", "p1"], ["hand", "hand"], [1, 0], "abnormal"),
    ],
)
def test_views_of_a_study_that_disagree_are_refused(patient, part, label, named):
    with pytest.raises(ValueError, match=f"wrist/study1: expected one {named} for all its views"):
        StudyLogits.of_images(["wrist/study1"] * 2, patient, part, label, [0.1, 0.2])


def test_a_label_other_than_0_and_1_is_refused():
    with pytest.raises(ValueError, match=r"labels 0 \(normal\) and 1 \(abnormal\), got \[2\]"):
        StudyLogits.of_images(["a"], ["p"], ["hand"], [2], [0.1])


@quick
@given(scored)
def test_inverted_labels_give_the_other_side_of_auroc(rows):
    abnormal, probability = columns(rows)
    assert auroc(1 - abnormal, probability) == pytest.approx(1 - auroc(abnormal, probability))


@quick
@given(scored)
def test_auroc_sees_the_order_of_scores_only(rows):
    abnormal, probability = columns(rows)
    # Halving is exact but for subnormals, which no float32 becomes here.
    assert auroc(abnormal, probability) == auroc(abnormal, probability / 2)


@quick
@given(scored)
def test_auroc_agrees_with_scikit_learn(rows):
    abnormal, probability = columns(rows)
    assert auroc(abnormal, probability) == pytest.approx(oracle.roc_auc_score(abnormal, probability))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auroc(label):
    assert auroc([label, label], [0.2, 0.3]) is None


def test_sigmoid_stays_finite_for_any_logit():
    assert sigmoid([-1e4, -2.0, 0.0, 2.0, 1e4]) == pytest.approx([0, 0.1192029, 0.5, 0.8807971, 1])


# Logits of studies


@quick
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-30, 30, width=32)), min_size=1, max_size=20))
def test_the_logit_of_a_study_is_that_of_its_mean_probability(rows):
    study, logit = (np.array(column) for column in zip(*rows, strict=True))
    distinct = np.unique(study)
    mean = [sigmoid(logit[study == each]).mean() for each in distinct]
    found, views = study_logit(logit, study)
    assert sigmoid(found) == pytest.approx(mean, rel=1e-9)
    assert views.tolist() == [int(np.sum(study == each)) for each in distinct]


@quick
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9), st.randoms())
def test_the_logit_of_a_study_is_finite_and_turns_with_the_label_and_not_with_the_order(logit, random):
    study = ["a"] * len(logit)
    (found,), _ = study_logit(logit, study)
    assert np.isfinite(found)
    assert min(logit) - 1e-6 * abs(found) - 1e-9 <= found <= max(logit) + 1e-6 * abs(found) + 1e-9
    assert study_logit(-np.array(logit), study)[0] == pytest.approx([-found])
    random.shuffle(logit)
    assert study_logit(logit, study)[0].tolist() == [found]


def test_answers_to_studies_have_their_columns():
    made = StudyLogits.of_images(["b", "a", "b"], ["p", "q", "p"], ["hand", "wrist", "hand"], [1, 0, 1], [2, -1, 2])
    assert [made.study.tolist(), made.patient.tolist(), made.body_part.tolist(), made.abnormal.tolist()] == [
        ["a", "b"],
        ["q", "p"],
        ["wrist", "hand"],
        [0, 1],
    ]
    assert made.logit == pytest.approx([-1, 2])
    assert made.views.tolist() == [1, 2]
    assert made.raw().probability == pytest.approx(sigmoid([-1, 2]))


@pytest.mark.parametrize(
    ("logit", "study", "message"),
    [([], [], "at least one image"), ([1.0], ["a", "b"], "one logit per image"), ([np.inf], ["a"], "finite logits")],
)
def test_what_is_no_logit_is_refused(logit, study, message):
    with pytest.raises(ValueError, match=message):
        study_logit(logit, study)


def test_training_reads_the_answers_and_the_offsets_of_the_scores_and_nothing_else():
    """Otherwise a change of an interval or of a chart would train every network again."""
    read = {name for name in code.files("components.train") if "/scores/" in name}
    assert read == {f"components/scores/{name}.py" for name in ("__init__", "offsets", "studies")}
