"""What each patient contributes, against small changes of the weight of a study that is a patient's only one."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored_studies import columns, drawn, quick, scored, studies_of

from components.scores import influence
from components.scores.influence import Samples


@quick
@given(scored, st.integers(0, 2**32 - 1))
def test_an_influence_is_the_change_with_a_weight(rows, seed):
    samples = Samples.of(studies_of(*columns(rows)), 0.5)
    study = np.random.default_rng(seed).integers(len(rows))
    step = 1e-6 * (np.arange(len(rows)) == study)
    more, less = (dataclasses.replace(samples, weight=samples.weight + sign * step) for sign in (1, -1))
    for name, (value, studies) in samples.metrics.items():
        if not np.isnan(value[0]):
            slope = (more.metrics[name].value - less.metrics[name].value) / 2e-6
            assert studies[0, study] == pytest.approx(slope[0], abs=1e-6), name
            assert studies.sum() == pytest.approx(0, abs=1e-12), name


def test_fillers_change_nothing():
    abnormal, probability = drawn(1, 60)
    whole = Samples.of(studies_of(abnormal, probability), 0.5)
    wider = {
        name: np.pad(getattr(whole, name), ((0, 0), (0, 7)))
        for name in ("abnormal", "probability", "weight", "patient")
    }
    padded = dataclasses.replace(whole, **wider)
    for name, (value, patients) in whole.metrics.items():
        same, alike = padded.metrics[name]
        assert same == pytest.approx(value, rel=1e-14), name
        assert alike == pytest.approx(patients, abs=1e-16), name


def test_many_samples_at_once_are_as_one_by_one():
    each = [Samples.of(studies_of(*drawn(seed, 50)), 0.4 + seed / 10) for seed in range(3)]
    names = ("abnormal", "probability", "weight", "patient", "threshold")
    together = Samples(n_patients=50, **{name: np.concatenate([getattr(one, name) for one in each]) for name in names})
    for name, (value, patients) in together.metrics.items():
        assert value == pytest.approx(np.concatenate([one.metrics[name].value for one in each])), name
        assert patients == pytest.approx(np.concatenate([one.metrics[name].patients for one in each]), abs=1e-16), name


def test_a_study_left_out_of_its_own_precision():
    # Falling: abnormal, normal, abnormal. The first has nothing above it, the last one abnormal study of two.
    samples = Samples.of(studies_of([1, 0, 1], [0.9, 0.6, 0.3]), 0.5)
    value, _, left_out = influence.average_precision(samples)
    assert (value[0], left_out[0]) == pytest.approx(((1 + 2 / 3) / 2, (1 + 1 / 2) / 2))
