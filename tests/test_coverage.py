"""The intervals hold the truth about as often as they say: a small form of `benchmarks.coverage`."""

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage import Cell, World

REPETITIONS = 300
# Shares of 300 repetitions at 95 % lie between 0.90 and 0.985 with a probability of 0.999.
LEAST, MOST = 0.90, 0.995


@pytest.fixture(scope="module", params=[Cell(0.9, 0.5, 130, 0.25), Cell(0.98, 0.5, 60, 0.3)], ids=["usual", "edge"])
def found(request):
    return coverage.measure(request.param, REPETITIONS, np.random.default_rng(1))


def test_intervals_and_differences_hold_the_truth(found):
    for name, counted in found.items():
        assert counted.intervals > 0.95 * REPETITIONS, name
        assert counted.coverage > LEAST, name
        if "twin" not in name:
            assert counted.coverage < MOST, name


def test_the_percentile_bootstrap_holds_it_less_often():
    cell = Cell(0.98, 0.5, 60, 0.3)
    old = coverage.measure_bootstrap(cell, 60, 200, np.random.default_rng(1))
    assert old["sensitivity"].coverage < LEAST


def test_few_patients_have_no_intervals():
    found = coverage.measure(Cell(0.9, 0.0, 30, 0.02), 50, np.random.default_rng(1))
    assert found["auroc"].intervals == found["sensitivity"].intervals == 0
    assert found["specificity"].intervals == 50


def test_true_values_are_those_of_the_distributions():
    world = World(0.9, 0.25)
    true = coverage.truth(world)
    assert true["auroc"] == pytest.approx(0.9, abs=1e-5)
    # A calibrated model is right about as often as its probabilities say.
    assert 0 < true["brier"] < 0.25 * 0.75
    share = true["sensitivity"] * 0.25 / (true["sensitivity"] * 0.25 + (1 - true["specificity"]) * 0.75)
    assert true["ppv"] == pytest.approx(share, abs=1e-5)


def test_drawn_studies_have_the_prevalence_and_the_correlation_of_their_cell():
    cell = Cell(0.9, 0.5, 200, 0.25)
    one, other = coverage.draw(cell, [(World(0.9, 0.25), 0.6), (World(0.87, 0.25), 0.6)], 100, np.random.default_rng(2))
    here = one.weight > 0
    assert one.abnormal[here].mean() == pytest.approx(0.25, abs=0.01)
    assert here.sum() / (100 * 200) == pytest.approx(1.53, abs=0.02)
    assert np.array_equal(one.patient, other.patient)
    alike = np.corrcoef(one.probability[here & (one.abnormal == 0)], other.probability[here & (one.abnormal == 0)])[
        0, 1
    ]
    assert 0.4 < alike < 0.7
