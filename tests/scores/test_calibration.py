"""From answers to probabilities: what was put in is found again, and no study sees itself."""

import dataclasses

import numpy as np
import pytest

from benchmarks import calibration as drawing
from components.artifacts.trained_model import Offsets
from components.scores import calibration, logistic, offsets
from components.scores.studies import StudyLogits

NONE = Offsets(body_part={}, pooled=0.0)


@pytest.fixture(scope="module", params=[True, False], ids=["weighted", "plain"])
def drawn(request):
    return drawing.draw(6000, request.param, seed=11)


def answers_of(logit, abnormal, patient=None, body_part=None):
    keys = np.array([f"study{number:05}" for number in range(len(logit))])
    return StudyLogits(
        study=keys,
        patient=keys if patient is None else np.array(patient),
        body_part=np.array(["wrist"] * len(logit)) if body_part is None else np.array(body_part),
        abnormal=np.array(abnormal, np.int64),
        views=np.ones(len(logit), np.int64),
        logit=np.array(logit, np.float64),
    )


def test_a_and_b_are_found_again_within_their_errors(drawn):
    answers = drawn.answers
    design = np.stack([np.ones(len(answers)), answers.logit], axis=1)
    found = logistic.fit(design, -drawn.offset, answers.abnormal)
    error = np.sqrt(np.diag(found.covariance))
    assert (np.abs(found.coefficients - [drawing.INTERCEPT, drawing.SLOPE]) < 3 * error).all()
    assert calibration.fit(answers.logit, drawn.offset, answers.abnormal) == tuple(found.coefficients)


def test_the_offsets_of_all_body_parts_are_found_again_within_their_errors(drawn):
    answers = drawn.answers
    parts = list(drawing.MURA)
    design = np.stack([answers.logit, *(answers.body_part == part for part in parts)], axis=1).astype(float)
    found = logistic.fit(design, np.zeros(len(answers)), answers.abnormal)
    error = np.sqrt(np.diag(found.covariance))[1:]
    known = [drawn.offset[answers.body_part == part][0] for part in parts]
    assert (np.abs(found.coefficients[1:] - (drawing.INTERCEPT - np.array(known))) < 3 * error).all()


def test_the_slope_errs_as_often_as_its_error_says():
    scores = []
    for seed in range(60):
        made = drawing.draw(1000, True, seed)
        design = np.stack([np.ones(1000), made.answers.logit], axis=1)
        found = logistic.fit(design, -made.offset, made.answers.abnormal)
        scores.append((found.coefficients[1] - drawing.SLOPE) / np.sqrt(found.covariance[1, 1]))
    assert abs(np.mean(scores)) < 0.4
    assert 0.75 < np.std(scores) < 1.3


def test_only_slope_and_known_offset_mend_the_hand_of_a_weighted_loss():
    found = {name: errors["hand"] for name, errors in drawing.simulate(weighted=True).items()}
    assert found["temperature"] > 0.07
    assert found["Platt"] > 0.05
    assert found["slope and offset"] < 0.015


def test_without_weights_platt_s_way_and_ours_are_one():
    found = drawing.simulate(weighted=False)
    assert found["slope and offset"] == found["Platt"]


# Cross-fitting


def test_no_patient_has_a_part_in_its_own_probability(drawn):
    answers = dataclasses.replace(
        drawn.answers, patient=np.array([f"patient{number // 3}" for number in range(len(drawn.answers))])
    )
    fold = calibration.folds(answers.patient, answers.abnormal, seed=1)
    mine = answers.patient == "patient7"
    before = calibration.cross_fitted(answers, drawn.offset, fold)
    # Other labels and other answers of a patient change everybody's probability but its own.
    lying = dataclasses.replace(answers, abnormal=np.where(mine, 1 - answers.abnormal, answers.abnormal))
    after = calibration.cross_fitted(lying, drawn.offset, fold)
    assert after[mine].tolist() == before[mine].tolist()
    assert (after[fold != fold[mine][0]] != before[fold != fold[mine][0]]).all()


def test_a_patient_is_in_one_fold_whatever_the_order_of_studies(drawn):
    answers = drawn.answers
    patient = np.array([f"patient{number // 4}" for number in range(len(answers))])
    fold = calibration.folds(patient, answers.abnormal, seed=1)
    assert all(len(set(fold[patient == each])) == 1 for each in patient[:40])
    order = np.random.default_rng(0).permutation(len(answers))
    assert (calibration.folds(patient[order], answers.abnormal[order], seed=1) == fold[order]).all()
    assert (calibration.folds(patient, answers.abnormal, seed=2) != fold).any()


def test_folds_have_equal_shares_of_abnormal_patients(drawn):
    answers = drawn.answers
    fold = calibration.folds(answers.patient, answers.abnormal, seed=1)
    assert np.ptp(np.bincount(fold)) <= 1
    assert np.ptp(np.bincount(fold, answers.abnormal)) <= 1
    assert len(np.bincount(fold)) == calibration.FOLDS


# Little and strange data


def test_few_patients_have_as_many_folds():
    made = answers_of([-1, 1, 2, -2, 0.5], [0, 1, 1, 0, 0], patient=["a", "b", "c", "a", "b"])
    found = calibration.calibrate(made, made, NONE, seed=1)
    assert found.facts(NONE).folds == 3
    assert np.isfinite(found.tuning.probability).all()


def test_a_single_patient_keeps_the_network_s_own_probability():
    made = answers_of([-1, 1], [0, 1], patient=["a", "a"])
    assert calibration.calibrate(made, made, NONE, seed=1).tuning.probability == pytest.approx(made.raw().probability)


def test_tuning_studies_that_a_line_parts_get_sensible_probabilities():
    made = answers_of(np.r_[np.linspace(-6, -5, 10), np.linspace(5, 6, 10)], [0] * 10 + [1] * 10)
    found = calibration.calibrate(made, made, NONE, seed=1)
    assert 0 < found.line.slope < 1
    assert (found.test.probability[:10] < 0.1).all()
    assert (found.test.probability[10:] > 0.9).all()
    assert ((found.tuning.probability > 0) & (found.tuning.probability < 1)).all()


def test_a_network_that_ranks_backwards_gets_no_weight():
    made = answers_of(np.r_[np.linspace(1, 3, 30), np.linspace(-3, -1, 20)], [0] * 30 + [1] * 20)
    line = calibration.fit(made.logit, np.zeros(50), made.abnormal)
    assert line.slope == 0
    assert calibration.probability(line, made.logit, np.zeros(50)) == pytest.approx(np.full(50, 20.5 / 51))


def test_a_network_that_always_says_the_same_is_left_as_it_is():
    assert calibration.fit(np.full(9, 0.7), np.zeros(9), np.array([0, 1, 1] * 3)) == (0, 1)
    assert calibration.fit(np.full(9, 0.7) + 1e-8 * np.arange(9), np.zeros(9), np.array([0, 1, 1] * 3)) == (0, 1)


def test_one_body_part_alone_is_calibrated():
    made = drawing.draw(3000, True, seed=5)
    hand = made.answers.body_part == "hand"
    line = calibration.fit(made.answers.logit[hand], made.offset[hand], made.answers.abnormal[hand])
    assert line == pytest.approx((drawing.INTERCEPT, drawing.SLOPE), abs=0.2)
    probability = calibration.probability(line, made.answers.logit[hand], made.offset[hand])
    assert np.abs(probability - made.truth[hand]).mean() < 0.03


def test_a_body_part_that_did_not_train_the_network_has_the_pooled_offset_and_is_named():
    learned = Offsets(body_part={"wrist": 1.0}, pooled=0.4)
    made = answers_of([-1, 0, 1, 2], [0, 0, 1, 1], body_part=["wrist", "wrist", "knee", "wrist"])
    found = calibration.calibrate(made, made, learned, seed=1)
    assert found.offset["tuning"].tolist() == [1, 1, 0.4, 1]
    assert found.facts(learned).pooled_parts == ("knee",)
    assert found.test.probability[2] == calibration.probability(found.line, np.array([1.0]), np.array([0.4]))[0]


def test_the_order_of_body_parts_and_studies_changes_nothing(drawn):
    known = offsets.of_training(drawing.MURA, "body_part")
    order = np.random.default_rng(1).permutation(len(drawn.answers))
    answers = drawn.answers
    shuffled = StudyLogits(*(getattr(answers, field.name)[order] for field in dataclasses.fields(answers)))
    one, two = (calibration.calibrate(each, each, known, seed=1) for each in (answers, shuffled))
    assert two.tuning.probability == pytest.approx(one.tuning.probability[order], abs=1e-9)
