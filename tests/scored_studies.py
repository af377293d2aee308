"""Labels and scores of studies, drawn and generated."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from components.scores.studies import Studies

quick = settings(max_examples=60, deadline=None)

# Few distinct values, so that ties are the rule.
scored = st.lists(
    st.tuples(st.integers(0, 1), st.one_of(st.integers(0, 4).map(lambda x: x / 4), st.floats(0, 1, width=32))),
    min_size=2,
    max_size=40,
).filter(lambda rows: {label for label, _ in rows} == {0, 1})


def columns(rows):
    return np.array([label for label, _ in rows]), np.array([value for _, value in rows], dtype=float)


def rows_of(study, patient, body_part, abnormal, probability):
    """Studies of rows in any order."""
    order = np.argsort(np.asarray(study, str), kind="stable")
    words = (np.asarray(column, str)[order] for column in (study, patient, body_part))
    return Studies(*words, np.asarray(abnormal, np.int64)[order], np.asarray(probability, np.float64)[order])


def studies_of(abnormal, probability, patient=None, body_part=None):
    n = len(abnormal)
    return rows_of(
        [f"study{i:05}" for i in range(n)],
        [f"patient{i:05}" for i in range(n)] if patient is None else patient,
        ["wrist"] * n if body_part is None else body_part,
        abnormal,
        probability,
    )


def drawn(seed, n, merit=1.6):
    random = np.random.default_rng(seed)
    abnormal = random.integers(0, 2, n)
    probability = 1 / (1 + np.exp(-(random.normal(size=n) + merit * (abnormal - 0.5))))
    return abnormal, probability
