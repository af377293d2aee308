"""Logistic regression with an offset, against scikit-learn, scipy and hand-made values."""

import numpy as np
import pytest
import sklearn.linear_model as oracle
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scored_studies import quick

from components.scores import logistic


def with_one(*columns):
    return np.stack([np.ones(len(columns[0])), *columns], axis=1)


def drawn(seed, studies=400):
    random = np.random.default_rng(seed)
    x, offset = random.normal(0, 3, studies), random.choice([-1.0, 0.0, 1.0], studies)
    abnormal = (random.random(studies) < 1 / (1 + np.exp(-(0.3 + 0.5 * x + offset)))).astype(np.int64)
    return with_one(x), offset, abnormal


def test_the_estimate_is_the_highest_penalised_likelihood():
    design, offset, abnormal = drawn(0)

    def loss(coefficients):
        predictor = design @ coefficients + offset
        weight = 1 / (2 + np.exp(predictor) + np.exp(-predictor))
        information = design.T @ (design * weight[:, None])
        likelihood = -np.logaddexp(0, np.where(abnormal == 1, -predictor, predictor)).sum()
        return -likelihood - np.linalg.slogdet(information)[1] / 2

    best = optimize.minimize(loss, [0, 1], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}).x
    assert logistic.fit(design, offset, abnormal).coefficients == pytest.approx(best, abs=1e-6)


def test_of_many_studies_it_is_the_maximum_likelihood_of_scikit_learn():
    design, _, abnormal = drawn(1, 50_000)
    network = oracle.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(design, abnormal)
    found = logistic.fit(design, np.zeros(len(abnormal)), abnormal)
    assert found.coefficients == pytest.approx(network.coef_[0], abs=1e-4)


def test_an_intercept_alone_adds_half_a_study_of_either_label():
    # Firth's penalty of a single proportion is Jeffreys' prior: (y + 1/2) / (n + 1).
    found = logistic.fit(np.ones((8, 1)), np.zeros(8), np.array([1] * 3 + [0] * 5)).coefficients[0]
    assert found == pytest.approx(np.log(3.5 / 5.5))


def test_two_studies_apart_have_the_estimate_of_their_table():
    # Of a 2 x 2 table the penalty adds 1/2 to each cell.
    found = logistic.fit(with_one(np.array([-1.0, 1.0])), np.zeros(2), np.array([0, 1])).coefficients
    assert found == pytest.approx([0, np.log(3)], abs=1e-9)


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.floats(-40, 40, width=32), st.floats(-3, 3)), min_size=2, max_size=30
    ).filter(lambda rows: np.ptp([x for _, x, _ in rows]) > 1e-3)
)
def test_every_estimate_is_finite_and_has_no_score_left(rows):
    abnormal, x, offset = (np.array(column) for column in zip(*rows, strict=True))
    found = logistic.fit(with_one(x.astype(float)), offset.astype(float), abnormal)
    assert np.isfinite(found.coefficients).all()
    assert found.scores.sum(axis=0) == pytest.approx([0, 0], abs=1e-5 * max(1, np.abs(x).max()))


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_a_column_does_not_matter(unit):
    design, offset, abnormal = drawn(2, 60)
    plain = logistic.fit(design, offset, abnormal)
    scaled = logistic.fit(design * [1, unit], offset, abnormal)
    assert scaled.coefficients * [1, unit] == pytest.approx(plain.coefficients, rel=1e-8)
    assert np.diag(scaled.covariance) * [1, unit**2] == pytest.approx(np.diag(plain.covariance), rel=1e-6)


def test_the_covariance_is_what_repeated_draws_show():
    found = [logistic.fit(*drawn(seed, 300)) for seed in range(300)]
    spread = np.std([each.coefficients for each in found], axis=0)
    said = np.mean([np.sqrt(np.diag(each.covariance)) for each in found], axis=0)
    assert said == pytest.approx(spread, rel=0.12)


def test_dependent_columns_are_refused():
    design, offset, abnormal = drawn(0)
    with pytest.raises(ValueError, match="not dependent on each other, got 3 that are"):
        logistic.fit(np.hstack([design, design[:, 1:]]), offset, abnormal)
