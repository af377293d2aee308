"""Bands of curves: where they are, and how wide."""

import dataclasses

import numpy as np
import pytest
from scored_studies import drawn, studies_of

from components.scores import curves
from components.scores.bands import bands
from components.scores.intervals import wilson

DRAWS = 200


def pairs(n):
    return [f"patient{i // 2:04}" for i in range(n)]


def inside(band):
    there = ~np.isnan(band.low)
    return there, band.low[there], band.high[there]


@pytest.mark.parametrize("merit", [0.0, 1.6, 4.0])
def test_a_band_holds_its_curve(merit):
    abnormal, probability = drawn(3, 160, merit)
    found = bands(studies_of(abnormal, probability, pairs(160)), 1, DRAWS)
    roc = curves.roc_curve(abnormal, probability, points=1000)
    there, low, high = inside(found.roc)
    # At a vertical part of the curve, its upper end.
    y = np.array([roc.sensitivity[roc.false_positive_rate <= x + 1e-9].max() for x in found.roc.x[there]])
    assert (low <= y + 1e-9).all()
    assert (high >= y - 1 / abnormal.sum()).all()
    for band in found:
        there, low, high = inside(band)
        assert (low >= 0).all()
        assert (low < high).all()
        assert (high <= 1).all()


def test_where_one_study_decides_there_is_no_band():
    abnormal, probability = drawn(3, 160)
    n, m = 160 - abnormal.sum(), abnormal.sum()
    found = bands(studies_of(abnormal, probability), 1, DRAWS)
    for band, studies in ((found.roc, n), (found.precision_recall, m)):
        there, _, _ = inside(band)
        x = band.x[there]
        assert 1 / studies <= x.min() < 1 / studies + 0.011
        assert 1 - 1 / studies >= x.max() > 1 - 1 / studies - 0.011
        assert np.isnan(band.high[[0, -1]]).all()


def test_a_seed_gives_one_band():
    abnormal, probability = drawn(3, 160)
    studies = studies_of(abnormal, probability)
    one = bands(studies, 1, DRAWS)
    again, other = bands(studies, 1, DRAWS), bands(studies, 2, DRAWS)
    assert all(
        np.array_equal(a, b, equal_nan=True) for x, y in zip(one, again, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert not np.array_equal(one.roc.low, other.roc.low, equal_nan=True)


def test_where_the_threshold_is_nearly_known_the_band_is_wilsons():
    abnormal = (np.arange(6000) < 100).astype(int)
    probability = np.random.default_rng(0).beta(1 + 2 * abnormal, 3)
    found = bands(studies_of(abnormal, probability), 1, 400).roc
    place = int(np.argmin(np.abs(found.x - 0.3)))
    share = np.mean(probability[abnormal == 1] > np.quantile(probability[abnormal == 0], 0.7))
    low, high = wilson(np.array([share]), np.array([100.0]))
    assert (found.low[place], found.high[place]) == pytest.approx((low[0], high[0]), abs=0.02)


def test_studies_of_a_patient_that_are_alike_make_the_band_wider():
    abnormal, probability = drawn(4, 100)
    twice = [np.repeat(each, 2) for each in (abnormal, probability)]
    apart = bands(studies_of(*twice), 1, DRAWS)
    together = bands(studies_of(*twice, pairs(200)), 1, DRAWS)
    for one, other in zip(apart, together, strict=True):
        assert 1.25 < np.nanmean(other.high - other.low) / np.nanmean(one.high - one.low) < 1.5


def test_a_perfect_ranking_has_a_band():
    abnormal = np.arange(60) % 2
    found = bands(studies_of(abnormal, 0.2 + 0.6 * abnormal), 1, DRAWS)
    for band in found:
        _there, low, high = inside(band)
        assert (high == 1).all()
        assert (low < 0.97).all()


def test_answers_that_are_all_alike_have_the_band_of_the_diagonal():
    abnormal = np.arange(80) % 2
    found = bands(studies_of(abnormal, np.full(80, 0.4)), 1, DRAWS)
    there, low, high = inside(found.roc)
    x = found.roc.x[there]
    assert (low <= x).all()
    assert (x <= high).all()
    there, low, high = inside(found.precision_recall)
    assert (low < 0.5).all()
    assert (high > 0.5).all()


@pytest.mark.parametrize("rare", [0, 1])
def test_too_few_patients_of_a_class_have_no_band(rare):
    abnormal = np.where(np.arange(60) < 12, rare, 1 - rare)
    studies = studies_of(abnormal, np.random.default_rng(0).random(60))
    assert bands(studies, 1, DRAWS) is not None
    few = studies.patient.copy()
    few[:3] = few[0]
    assert bands(dataclasses.replace(studies, patient=few), 1, DRAWS) is not None
    few[:4] = few[0]
    assert bands(dataclasses.replace(studies, patient=few), 1, DRAWS) is None
