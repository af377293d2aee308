"""Intervals: against independent implementations, at the edges, and with patients as clusters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scored_studies import drawn, quick, studies_of

from components.artifacts.evaluation import FEWEST_PATIENTS, METRIC_TITLES
from components.scores import intervals, metrics
from components.scores.influence import Samples

RATES = ("sensitivity", "specificity", "ppv", "npv")


def clustered(seed, patients, each=3):
    """Labels and probabilities of patients with 1 to `each` studies that are alike, and whose they are."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), random.integers(1, each + 1, patients))
    alike = random.normal(size=patients)[patient]
    abnormal = (random.normal(size=len(patient)) + alike > 0.4).astype(int)
    score = 1.5 * abnormal + random.normal(size=len(patient)) + alike
    return abnormal, 1 / (1 + np.exp(1 - score)), [f"patient{number:04}" for number in patient]


@pytest.fixture(scope="module")
def scores():
    return metrics.score(studies_of(*drawn(8, 200)), 0.5)


@pytest.fixture(scope="module")
def perfect():
    """Ten abnormal patients among 60, all told apart."""
    abnormal = np.arange(60) < FEWEST_PATIENTS
    return metrics.score(studies_of(abnormal.astype(int), 0.1 + 0.8 * abnormal), 0.5)


def test_every_metric_has_a_method_with_a_source():
    assert list(intervals.METHODS) == list(METRIC_TITLES)
    assert all(method.words and method.source and method.needs for method in intervals.METHODS.values())


@pytest.mark.parametrize("name", RATES)
def test_a_rate_of_patients_with_one_study_each_has_scipys_wilson_interval(scores, name):
    cells = scores.confusion
    right, all_ = {
        "sensitivity": (cells.true_positive, cells.true_positive + cells.false_negative),
        "specificity": (cells.true_negative, cells.true_negative + cells.false_positive),
        "ppv": (cells.true_positive, cells.true_positive + cells.false_positive),
        "npv": (cells.true_negative, cells.true_negative + cells.false_negative),
    }[name]
    expected = stats.binomtest(right, all_).proportion_ci(method="wilson")
    found = getattr(scores, name)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_the_variance_with_patients_as_clusters_is_statsmodels():
    samples = Samples.of(studies_of(*clustered(2, 40)), 0.5)
    # bse of statsmodels 0.15.0, OLS(right, 1).fit(cov_type="cluster"), groups by patient, without use_correction.
    theirs = {
        "sensitivity": (0.7631578947368421, 0.06644591587983928),
        "specificity": (0.7857142857142856, 0.062208643395142406),
        "brier": (0.11825842027985252, 0.016579792341829595),
    }
    for name, (value, error) in theirs.items():
        found, patients = samples.metrics[name]
        present = intervals.METHODS[name].patients(samples) if name != "brier" else np.array([40])
        # It leaves out the correction for few patients.
        ours = intervals.variance(patients, present) * (present - 1) / present
        assert (found[0], ours[0] ** 0.5) == pytest.approx((value, error), rel=1e-12)


def test_the_variance_of_the_auroc_is_delongs_for_patients_with_one_study_each():
    abnormal, probability = drawn(3, 90)
    positive, negative = probability[abnormal == 1], probability[abnormal == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    expected = np.var(wins.mean(axis=1), ddof=1) / len(positive) + np.var(wins.mean(axis=0), ddof=1) / len(negative)
    samples = Samples.of(studies_of(abnormal, probability), 0.5)
    value, variance, _ = intervals.clustered_auroc(samples)
    assert (value[0], variance[0]) == pytest.approx((wins.mean(), expected), rel=2e-2)
    found = metrics.score(studies_of(abnormal, probability), 0.5).auroc
    assert found.high - found.low == pytest.approx(2 * 1.96 * expected**0.5, rel=0.1)


def test_the_variance_of_the_auroc_is_obuchowskis_for_patients_with_several():
    abnormal, probability, patient = clustered(2, 40)
    samples = Samples.of(studies_of(abnormal, probability, patient), 0.5)
    value, variance, _ = intervals.clustered_auroc(samples)
    # Biometrics 53 (1997), written out patient by patient.
    positive, negative = np.flatnonzero(abnormal), np.flatnonzero(abnormal == 0)
    wins = {
        (i, j): float(probability[i] > probability[j]) + 0.5 * (probability[i] == probability[j])
        for i in positive
        for j in negative
    }
    m, n = len(positive), len(negative)
    area = sum(wins.values()) / (m * n)
    v10 = {i: sum(wins[i, j] for j in negative) / n for i in positive}
    v01 = {j: sum(wins[i, j] for i in positive) / m for j in negative}
    patients = sorted(set(patient))
    one = [sum(v10[i] - area for i in positive if patient[i] == each) for each in patients]
    two = [sum(v01[j] - area for j in negative if patient[j] == each) for each in patients]
    has_one, has_two = (len({patient[i] for i in rows}) for rows in (positive, negative))
    total = len(patients)
    s10 = has_one / ((has_one - 1) * m) * sum(x * x for x in one)
    s01 = has_two / ((has_two - 1) * n) * sum(x * x for x in two)
    s11 = total / (total - 1) * sum(x * y for x, y in zip(one, two, strict=True))
    assert (value[0], variance[0]) == pytest.approx((area, s10 / m + s01 / n + 2 * s11 / (m * n)), rel=1e-12)


def test_kappas_standard_error_is_that_of_fleiss_cohen_and_everitt():
    abnormal, probability = drawn(4, 300)
    found = metrics.score(studies_of(abnormal, probability), 0.5)
    cells = found.confusion
    p = np.array([[cells.true_positive, cells.false_negative], [cells.false_positive, cells.true_negative]]) / 300
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    kappa, chance = found.cohen_kappa.value, rows @ columns
    # Psychological Bulletin 72 (1969), equation 13.
    diagonal = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in (0, 1))
    off = sum(p[i, j] * (columns[i] + rows[j]) ** 2 for i in (0, 1) for j in (0, 1) if i != j)
    error = ((diagonal + (1 - kappa) ** 2 * off - (kappa - chance * (1 - kappa)) ** 2) / 300) ** 0.5 / (1 - chance)
    half = stats.t.ppf(0.975, 299) * error / (1 - kappa**2) * (300 / 299) ** 0.5
    expected = np.tanh(np.arctanh(kappa) + np.array([-half, half]))
    # Nearly as many degrees of freedom.
    assert [found.cohen_kappa.low, found.cohen_kappa.high] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", METRIC_TITLES)
def test_the_interval_holds_its_value(scores, name):
    interval = getattr(scores, name)
    assert interval.low < interval.value < interval.high


@pytest.mark.parametrize("name", METRIC_TITLES)
def test_copies_of_a_patients_studies_add_nothing(name):
    abnormal, probability = drawn(0, 80)
    alone = getattr(metrics.score(studies_of(abnormal, probability), 0.5), name)
    copies = [np.repeat(column, 5) for column in (abnormal, probability)]
    patient = [f"patient{i // 5:03}" for i in range(400)]
    together = getattr(metrics.score(studies_of(*copies, patient), 0.5), name)
    apart = getattr(metrics.score(studies_of(*copies), 0.5), name)
    assert together.value == pytest.approx(alone.value)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    # Taken as independent, five copies look like five times the evidence.
    assert 1.8 < (together.high - together.low) / (apart.high - apart.low) < 2.7


def test_a_perfect_model_of_ten_abnormal_patients_is_not_sure_to_be_perfect(perfect):
    lowest = {"auroc": (0.8, 0.95), "sensitivity": (0.65, 0.75), "ppv": (0.65, 0.75), "cohen_kappa": (0.6, 0.9)}
    for name in METRIC_TITLES:
        if name != "brier":
            assert getattr(perfect, name).value == getattr(perfect, name).high == 1
    for name, (least, most) in lowest.items():
        assert least < getattr(perfect, name).low < most, name


def test_an_error_more_never_raises_the_interval_at_the_edge():
    abnormal = (np.arange(80) < 15).astype(int)
    lows = []
    for wrong in range(4):
        probability = 0.2 + 0.6 * abnormal + np.arange(80) / 1000
        probability[:wrong] = 0.01 * np.arange(wrong)
        lows.append(metrics.score(studies_of(abnormal, probability), 0.5))
    for name in ("auroc", "sensitivity", "npv", "f1", "cohen_kappa"):
        ends = [(getattr(each, name).low, getattr(each, name).high) for each in lows]
        assert ends == sorted(ends, reverse=True), name


@quick
@given(
    st.integers(0, 10**6),
    st.integers(20, 60),
    st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
    st.sampled_from([-12.0, 0.0, 1.0, 12.0]),
    st.integers(0, 2),
)
def test_no_interval_is_without_a_width_or_its_value(seed, patients, prevalence, merit, decimals):
    # Interval refuses what is not one.
    random = np.random.default_rng(seed)
    patient = np.sort(random.integers(0, patients, 2 * patients))
    abnormal = (random.random(2 * patients) < prevalence).astype(int)
    probability = 1 / (1 + np.exp(-(random.normal(size=2 * patients) + merit * (abnormal - 0.5))))
    scores = metrics.score(
        studies_of(abnormal, np.round(probability, decimals), [f"patient{number:03}" for number in patient]), 0.5
    )
    for name in METRIC_TITLES:
        interval = getattr(scores, name)
        lowest = -1 if name == "cohen_kappa" else 0
        assert interval.low is None or lowest <= interval.low < interval.high <= 1


@pytest.mark.parametrize("value", [0.5, 0.0, 1.0])
def test_a_model_that_always_says_the_same_has_intervals(value):
    abnormal = np.arange(40) % 2
    scores = metrics.score(studies_of(abnormal, np.full(40, value)), 0.5)
    assert scores.auroc.low < 0.5 < scores.auroc.high
    assert scores.brier.low < scores.brier.value < scores.brier.high
    assert scores.cohen_kappa.value == 0


def test_a_model_that_is_always_wrong_has_intervals():
    abnormal = np.arange(40) % 2
    scores = metrics.score(studies_of(abnormal, 0.9 - 0.8 * abnormal), 0.5)
    for name, lowest in (("auroc", 0), ("sensitivity", 0), ("f1", 0), ("cohen_kappa", -1)):
        interval = getattr(scores, name)
        assert interval.low == interval.value == lowest < interval.high < lowest + 0.4


TOO_FEW = {
    "abnormal patients": ((9, 40), {"specificity", "npv", "ppv"}),
    "normal patients": ((40, 9), {"sensitivity", "f1", "npv", "ppv"}),
}


@pytest.mark.parametrize(("counts", "have"), TOO_FEW.values(), ids=TOO_FEW)
def test_fewer_than_ten_patients_of_a_class_are_too_few(counts, have):
    abnormal = np.repeat([1, 0], counts)
    # Every fourth answer is wrong, so 10 or more are called either way.
    probability = np.where(np.arange(49) % 4 == 0, 1 - abnormal, abnormal) * 0.8 + 0.1
    scores = metrics.score(studies_of(abnormal, probability), 0.5)
    found = {name for name in METRIC_TITLES if not getattr(scores, name).too_few}
    assert found == have
    assert all(getattr(scores, name).value is not None for name in METRIC_TITLES)


def test_ten_studies_of_nine_patients_are_too_few():
    abnormal = np.repeat([1, 0], (10, 30))
    probability = np.random.default_rng(1).random(40)
    patient = [f"patient{max(number, 1):03}" for number in range(40)]
    assert metrics.score(studies_of(abnormal, probability, patient), 0.5).sensitivity.too_few
    assert not metrics.score(studies_of(abnormal, probability), 0.5).sensitivity.too_few


@pytest.mark.parametrize("called", [9, 10])
def test_predictive_values_count_the_patients_that_are_called(called):
    abnormal = np.arange(60) % 2
    probability = np.where(np.arange(60) < called, 0.9, 0.1)
    scores = metrics.score(studies_of(abnormal, probability), 0.5)
    assert scores.ppv.too_few == (called < FEWEST_PATIENTS)
    assert not scores.npv.too_few
