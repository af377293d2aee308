"""Logistic regression with a known offset, whose estimates are always finite."""

from typing import NamedTuple

import numpy as np

from components.scores.studies import Array, sigmoid

STEPS = 500
"""At most; a handful is the rule."""
FARTHEST = 5.0
"""Most by which one step moves a linear predictor: as in Heinze & Schemper's logistf."""
SMALLEST = 1e-60
"""Weight of a study whose probability is 0 or 1 to the last bit: a matrix of zeros has no inverse."""
CLOSE = 1e-12
"""Change of a linear predictor that ends the search."""
NOISE = 1e-10
"""Share of the likelihood that rounding may take away."""


class Fit(NamedTuple):
    """Coefficients, and what is needed to say how sure they are."""

    coefficients: Array
    """float64 [K]"""
    covariance: Array
    """float64 [K, K], the inverse of the information"""
    scores: Array
    """float64 [S, K], what each study adds to the score, which is 0 in sum"""
    information: Array
    """float64 [S, K, K], what each study adds to the information"""


def fit(design: Array, offset: Array, abnormal: Array) -> Fit:
    """Fit logit p = design @ coefficients + offset by Firth's penalised maximum likelihood.

    Maximum likelihood has no finite estimate where a line parts the abnormal studies from the normal ones. Firth's
    penalty (Biometrika 1993; Jeffreys' prior) has one always, which is what Heinze & Schemper (Statistics in Medicine
    2002) recommend for such data. Elsewhere it removes the bias of order 1/S and differs from maximum likelihood by
    less than a standard error. It does not depend on the units of the columns.

    Args:
        design: float64 [S, K], columns that are not dependent on each other.
        offset: float64 [S], added with the coefficient 1.
        abnormal: int64 [S], 0 or 1.

    Raises:
        ValueError: a column is dependent on the others.
    """
    found, change, state = _search(design, offset, abnormal)
    back = np.linalg.inv(change)
    parts = state.weight[:, None, None] * design[:, :, None] * design[:, None, :]
    return Fit(back @ found, back @ state.inverse @ back.T, state.scores @ change, parts)


def coefficients(design: Array, offset: Array, abnormal: Array) -> Array:
    """The coefficients of `fit` alone, float64 [K]: without what each study adds, which takes K times the design.

    Args:
        design: as of `fit`.
        offset: as of `fit`.
        abnormal: as of `fit`.

    Raises:
        ValueError: a column is dependent on the others.
    """
    found, change, _ = _search(design, offset, abnormal)
    return np.asarray(np.linalg.inv(change) @ found)


def _search(design: Array, offset: Array, abnormal: Array) -> "tuple[Array, Array, _State]":
    """The estimate in orthonormal columns, the matrix that leads to them, and what holds there."""
    # Orthonormal columns: the penalty is the same, and no unit is too large or too small.
    basis, change = np.linalg.qr(design)
    if np.abs(np.diag(change)).min() <= 1e-12 * np.abs(change).max():
        raise ValueError(f"expected columns that are not dependent on each other, got {design.shape[1]} that are.")
    found = np.zeros(basis.shape[1])
    state = _State.of(basis, offset, abnormal, found)
    for _ in range(STEPS):
        # With the leverages as pseudo-counts this is Newton's step.
        step = np.linalg.solve(state.curvature, state.scores.sum(axis=0))
        moved = float(np.abs(basis @ step).max())
        step *= min(1.0, FARTHEST / max(moved, CLOSE))
        if moved <= CLOSE:
            break
        for half in range(40):
            reached = _State.of(basis, offset, abnormal, found + step / 2**half)
            if reached.likelihood >= state.likelihood - NOISE * abs(state.likelihood):
                break
        found, state = found + step / 2**half, reached
    return found, change, state


class _State(NamedTuple):
    """A point on the way: the penalised likelihood, and where it rises."""

    likelihood: float
    inverse: Array
    curvature: Array
    scores: Array
    weight: Array

    @classmethod
    def of(cls, basis: Array, offset: Array, abnormal: Array, coefficients: Array) -> "_State":
        predictor = basis @ coefficients + offset
        probability = sigmoid(predictor)
        weight = np.maximum(probability * sigmoid(-predictor), SMALLEST)
        information = basis.T @ (basis * weight[:, None])
        inverse = np.linalg.inv(information)
        # Diagonal of the hat matrix.
        leverage = weight * np.einsum("sk,kl,sl->s", basis, inverse, basis)
        residual = abnormal - probability + leverage * (0.5 - probability)
        likelihood = -np.sum(np.logaddexp(0, np.where(abnormal == 1, -predictor, predictor)))
        return cls(
            likelihood=float(likelihood + np.linalg.slogdet(information)[1] / 2),
            inverse=inverse,
            curvature=basis.T @ (basis * (weight * (1 + leverage))[:, None]),
            scores=basis * residual[:, None],
            weight=weight,
        )
