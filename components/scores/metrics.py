"""How well probabilities tell abnormal studies from normal ones, and how sure we are.

Everything here is at study level and counts abnormal as the positive class. Formulas are written once, over
draws of the bootstrap: a value is the draw in which every patient comes once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.artifacts.evaluation import Confusion, Interval, SplitScores

Array = NDArray[Any]
Rule = Literal["kappa", "youden", "sensitivity", "fixed"]

CONFIDENCE = 0.95
Z = 1.959963984540054  # normal quantile of (1 + CONFIDENCE) / 2
CURVE_POINTS = 200
CALIBRATION_BINS = 10
# Draws x studies held at once while bootstrapping: 8 MiB per float64 array.
CHUNK = 2**20


class Counts(NamedTuple):
    """Studies at an operating point, whole numbers or arrays of them; positive means abnormal."""

    tp: Any
    fp: Any
    tn: Any
    fn: Any


# Numerator and denominator of what follows from the four counts; 0 / 0 is not defined.
# Kappa is (observed - chance) / (1 - chance) agreement (Cohen 1960), both times the squared number of studies.
RATES: Mapping[str, Callable[[Counts], tuple[Any, Any]]] = {
    "cohen_kappa": lambda n: (
        2 * (n.tp * n.tn - n.fp * n.fn),
        (n.tp + n.fp) * (n.fp + n.tn) + (n.tp + n.fn) * (n.fn + n.tn),
    ),
    "sensitivity": lambda n: (n.tp, n.tp + n.fn),
    "specificity": lambda n: (n.tn, n.tn + n.fp),
    "ppv": lambda n: (n.tp, n.tp + n.fp),
    "npv": lambda n: (n.tn, n.tn + n.fn),
    "f1": lambda n: (2 * n.tp, 2 * n.tp + n.fp + n.fn),
    "accuracy": lambda n: (n.tp + n.tn, n.tp + n.fp + n.tn + n.fn),
}
SCORED_RATES = ("cohen_kappa", "sensitivity", "specificity", "ppv", "npv", "f1")


@dataclass(frozen=True)
class Studies:
    """One row per study, ascending by study."""

    study: Array
    """str [S]"""
    patient: Array
    """str [S]"""
    body_part: Array
    """str [S]"""
    abnormal: Array
    """int64 [S], 1 abnormal, 0 normal."""
    probability: Array
    """float64 [S], mean over the views, in [0, 1]."""

    def __len__(self) -> int:
        return len(self.study)

    @classmethod
    def of_images(
        cls,
        study: ArrayLike,
        patient: ArrayLike,
        body_part: ArrayLike,
        abnormal: ArrayLike,
        probability: ArrayLike,
    ) -> Self:
        """Reduce one row per image to one row per study.

        Args:
            study: str [N], the study each image belongs to.
            patient: str [N].
            body_part: str [N].
            abnormal: int [N], the study's label, 0 or 1.
            probability: float [N], of abnormality, in [0, 1].

        Raises:
            ValueError: lengths differ, a label or probability is out of range, or two views of a study disagree
                in patient, body part or label.
        """
        keys = _words(study)
        distinct, first, index = np.unique(keys, return_index=True, return_inverse=True)
        columns = {"patient": _words(patient), "body_part": _words(body_part), "abnormal": np.asarray(abnormal)}
        for name, column in columns.items():
            if column.shape != keys.shape:
                raise ValueError(f"{name}: expected {len(keys)} values, one per image, got shape {column.shape}.")
            strays = np.flatnonzero(column != column[first][index])
            if strays.size:
                row = strays[0]
                raise ValueError(
                    f"{keys[row]}: expected one {name} for all its views, got {column[first][index][row]} and "
                    f"{column[row]}."
                )
        _, mean = study_probability(probability, keys)
        labels, mean = _checked(columns["abnormal"][first], mean)
        return cls(distinct, columns["patient"][first], columns["body_part"][first], labels, mean)

    def of_part(self, body_part: str) -> Self:
        """The studies of one body part."""
        mine = self.body_part == body_part
        return type(self)(
            self.study[mine], self.patient[mine], self.body_part[mine], self.abnormal[mine], self.probability[mine]
        )


def sigmoid(logit: ArrayLike) -> Array:
    """Probabilities of logits.

    Args:
        logit: float [N].

    Returns:
        float64 [N] in [0, 1].
    """
    values = np.asarray(logit, np.float64)
    # exp overflows where its reciprocal does not.
    small = np.exp(-np.abs(values))
    probability: Array = np.where(values >= 0, 1, small) / (1 + small)
    return probability


def study_probability(probability: ArrayLike, study: ArrayLike) -> tuple[Array, Array]:
    """Mean probability of abnormality over the views of each study.

    The arithmetic mean is what MURA's authors use (arXiv:1712.06957). The order of the views does not matter,
    to the last bit.

    Args:
        probability: float [N], one per image, in [0, 1].
        study: int or str [N], the study each image belongs to.

    Returns:
        The distinct studies, [S] in ascending order, and their probabilities, float64 [S].

    Raises:
        ValueError: lengths differ, there is no image, or a probability lies outside [0, 1].
    """
    values, keys = np.asarray(probability, dtype=np.float64), np.asarray(study)
    if keys.dtype == object:
        keys = keys.astype(str)
    if values.ndim != 1 or values.shape != keys.shape:
        raise ValueError(f"expected one probability per image, got shapes {values.shape} and {keys.shape} (studies).")
    if not len(values):
        raise ValueError("expected at least one image, got none.")
    _check_probability(values)
    # Summed in ascending order: float addition is not associative.
    order = np.lexsort((values, keys))
    distinct, first, count = np.unique(keys[order], return_index=True, return_counts=True)
    return distinct, np.clip(np.add.reduceat(values[order], first) / count, 0, 1)


def auroc(abnormal: ArrayLike, probability: ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that an abnormal study scores above a normal one, a tie counting half.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S], the probabilities themselves, never 0/1 decisions.

    Returns:
        None if there is only one class.
    """
    labels, scores = _checked(abnormal, probability)
    return _defined(_Ranking.of(labels, scores).auroc(np.ones((1, len(labels))))[0])


def average_precision(abnormal: ArrayLike, probability: ArrayLike) -> float | None:
    """Precision averaged over the steps of recall, without interpolation, as scikit-learn defines it.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].

    Returns:
        None if nothing is abnormal.
    """
    labels, scores = _checked(abnormal, probability)
    return _defined(_Ranking.of(labels, scores).average_precision(np.ones((1, len(labels))))[0])


def brier(abnormal: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of the probability from the label, 0 (best) to 1.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
    """
    labels, scores = _checked(abnormal, probability)
    return float(np.mean((scores - labels) ** 2))


def confusion(abnormal: ArrayLike, probability: ArrayLike, threshold: float) -> Confusion:
    """Counts at an operating point; `probability >= threshold` is called abnormal.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        threshold: the operating point.
    """
    labels, scores = _checked(abnormal, probability)
    called = scores >= threshold
    return Confusion(
        true_positive=int(np.sum(called & (labels == 1))),
        false_positive=int(np.sum(called & (labels == 0))),
        true_negative=int(np.sum(~called & (labels == 0))),
        false_negative=int(np.sum(~called & (labels == 1))),
    )


def rate(name: str, counts: Confusion) -> float | None:
    """One of `RATES` from the counts; None where it is 0 / 0."""
    numerator, denominator = RATES[name](
        Counts(counts.true_positive, counts.false_positive, counts.true_negative, counts.false_negative)
    )
    return numerator / denominator if denominator else None


def predictive_values(
    sensitivity: float | None, specificity: float | None, prevalence: float
) -> tuple[float | None, float | None]:
    """PPV and NPV that a sensitivity and specificity mean where `prevalence` of the studies are abnormal (Bayes).

    The share of abnormal studies in a curated data set is not that of a clinic, and predictive values follow it.
    """
    if sensitivity is None or specificity is None:
        return None, None
    called, passed = sensitivity * prevalence, specificity * (1 - prevalence)
    false_alarm, missed = (1 - specificity) * (1 - prevalence), (1 - sensitivity) * prevalence
    return (
        called / (called + false_alarm) if called + false_alarm else None,
        passed / (passed + missed) if passed + missed else None,
    )


def choose_threshold(abnormal: ArrayLike, probability: ArrayLike, rule: Rule, target: float) -> float:
    """The operating point that a rule finds on these studies.

    Thresholds lie midway between neighbouring scores (below the lowest: midway to 0), so that the last bit of a
    score decides nothing. Of several that are equally good the lowest is taken: it misses the fewest abnormal studies.
    A model without any merit is so made to call everything abnormal.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        rule: `kappa`, highest Cohen's kappa; `youden`, highest sensitivity + specificity; `sensitivity`, the
            highest threshold whose sensitivity is at least `target`; `fixed`, `target` itself.
        target: for `sensitivity` and `fixed`.

    Raises:
        ValueError: there is only one class, and the rule looks at the studies.
    """
    if rule == "fixed":
        return float(target)
    labels, scores = _checked(abnormal, probability)
    ranking = _Ranking.of(labels, scores)
    tp, fp = (counts[0] for counts in ranking.cumulative(np.ones((1, len(labels)))))
    positive, negative = tp[-1], fp[-1]
    if not (positive and negative):
        raise ValueError(
            f"expected abnormal and normal studies to choose a threshold by {rule}, got {int(positive)} abnormal and "
            f"{int(negative)} normal."
        )
    if rule == "sensitivity":
        chosen = int(np.argmax(tp / positive >= target))
    else:
        # Quotients of whole numbers are rounded correctly, so what is equal compares equal.
        if rule == "kappa":
            numerator, denominator = RATES["cohen_kappa"](Counts(tp, fp, negative - fp, positive - tp))
            merit = numerator / denominator
        else:
            merit = tp * negative + (negative - fp) * positive
        chosen = len(merit) - 1 - int(np.argmax(merit[::-1]))
    upper = float(ranking.score[chosen])
    lower = float(ranking.score[chosen + 1]) if chosen + 1 < len(ranking.score) else 0.0
    middle = lower + (upper - lower) / 2
    # There is no float between neighbours; `>=` then wants the upper one.
    return middle if middle > lower else upper


def score(studies: Studies, threshold: float, draws: int, seed: int) -> SplitScores:
    """All metrics of some studies with 95 % intervals.

    Percentile bootstrap over patients (Field & Welsh 2007): studies of one patient are not independent, so patients
    are drawn with replacement and bring all their studies. The same patients and seed give the same draws,
    whichever model is scored. Draws in which a metric is not defined are left out of its interval; if they are more
    than half, or there is one patient only, there is no interval.

    Args:
        studies: at least one.
        threshold: `probability >= threshold` is called abnormal.
        draws: of patients, 2,000 or more for percentiles that hold still.
        seed: of the draws.

    Raises:
        ValueError: there is no study.
    """
    if not len(studies):
        raise ValueError("expected at least one study to score, got none.")
    patients, patient = np.unique(studies.patient, return_inverse=True)
    sample = _Sample.of(studies, threshold)
    value = {name: found[0] for name, found in sample.metrics(np.ones((1, len(studies)))).items()}
    drawn: dict[str, list[Array]] = {name: [] for name in value}
    random = np.random.default_rng(seed)
    left = draws if len(patients) > 1 else 0
    while left:
        now = min(left, max(1, CHUNK // len(studies)))
        counts = random.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=now)  # [D, P]
        for name, found in sample.metrics(counts[:, patient].astype(np.float64)).items():
            drawn[name].append(found)
        left -= now
    return SplitScores(
        **{name: _interval(value[name], drawn[name]) for name in value},
        confusion=confusion(studies.abnormal, studies.probability, threshold),
        n_studies=len(studies),
        n_abnormal=int(studies.abnormal.sum()),
        n_patients=len(patients),
    )


@dataclass(frozen=True)
class RocCurve:
    """Points from (0, 0) to (1, 1); the first threshold is infinite, no study reaches it."""

    false_positive_rate: Array
    sensitivity: Array
    threshold: Array


def roc_curve(abnormal: ArrayLike, probability: ArrayLike, points: int = CURVE_POINTS) -> RocCurve:
    """The ROC curve, thinned to at most `points` by taking away the flattest corners first.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        points: at least 2.

    Raises:
        ValueError: there is only one class.
    """
    labels, scores = _checked(abnormal, probability)
    if labels.min() == labels.max():
        raise ValueError("expected abnormal and normal studies for a ROC curve, got one class only.")
    ranking = _Ranking.of(labels, scores)
    tp, fp = (np.concatenate(([0.0], counts[0])) for counts in ranking.cumulative(np.ones((1, len(labels)))))
    threshold = np.concatenate(([np.inf], ranking.score))
    x, y = fp / fp[-1], tp / tp[-1]
    kept = _thinned(x, y, points)
    return RocCurve(x[kept], y[kept], threshold[kept])


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Points by falling threshold, so by rising sensitivity (recall)."""

    sensitivity: Array
    ppv: Array
    threshold: Array


def precision_recall_curve(
    abnormal: ArrayLike, probability: ArrayLike, points: int = CURVE_POINTS
) -> PrecisionRecallCurve:
    """Precision (PPV) against recall (sensitivity), thinned like `roc_curve`; to be drawn as steps.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        points: at least 2.

    Raises:
        ValueError: nothing is abnormal.
    """
    labels, scores = _checked(abnormal, probability)
    if not labels.any():
        raise ValueError("expected abnormal studies for a precision-recall curve, got none.")
    ranking = _Ranking.of(labels, scores)
    tp, fp = (counts[0] for counts in ranking.cumulative(np.ones((1, len(labels)))))
    x, y = tp / tp[-1], tp / (tp + fp)
    kept = _thinned(x, y, points)
    return PrecisionRecallCurve(x[kept], y[kept], ranking.score[kept])


@dataclass(frozen=True)
class CalibrationCurve:
    """One entry per bin that holds studies."""

    lower: Array
    """Bin edges; the upper one belongs to the next bin, 1 to the last."""
    upper: Array
    mean_probability: Array
    abnormal_share: Array
    low: Array
    """Wilson's 95 % interval of the share, studies taken as independent."""
    high: Array
    studies: Array

    @property
    def expected_error(self) -> float:
        """Expected calibration error (Guo et al. 2017): mean distance of share and probability over the studies."""
        gap = np.abs(self.abnormal_share - self.mean_probability)
        return float(np.sum(self.studies * gap) / np.sum(self.studies))


def calibration_curve(abnormal: ArrayLike, probability: ArrayLike, bins: int = CALIBRATION_BINS) -> CalibrationCurve:
    """Predicted probability against the share that is abnormal, in bins of equal width over [0, 1].

    Equal width and not equal count: a bin then reads "of the studies given 20 to 30 %", and equal scores
    never fall on two sides of an edge.

    Args:
        abnormal: int [S], 0 or 1.
        probability: float [S].
        bins: their number.
    """
    labels, scores = _checked(abnormal, probability)
    index = np.minimum((scores * bins).astype(np.int64), bins - 1)
    n = np.bincount(index, minlength=bins)
    held = np.flatnonzero(n)
    n = n[held]
    mean = np.bincount(index, scores, minlength=bins)[held] / n
    share = np.bincount(index, labels, minlength=bins)[held] / n
    # Wilson 1927; stays inside [0, 1] and has a width where the share is 0 or 1.
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = np.clip(centre - half, 0, share), np.clip(centre + half, share, 1)
    return CalibrationCurve(held / bins, (held + 1) / bins, mean, share, low, high, n)


@dataclass(frozen=True)
class StudyError:
    """A study on the wrong side of the threshold."""

    study: str
    body_part: str
    probability: float


def confident_errors(studies: Studies, threshold: float, most: int) -> tuple[list[StudyError], list[StudyError]]:
    """The errors that lie farthest from the threshold.

    Returns:
        Missed abnormal studies, lowest probability first, and false alarms, highest first; at most `most` of each.
        Equal ones come in ascending order of study.
    """
    called, abnormal = studies.probability >= threshold, studies.abnormal == 1
    missed, alarms = np.flatnonzero(~called & abnormal), np.flatnonzero(called & ~abnormal)
    missed = missed[np.argsort(studies.probability[missed], kind="stable")][:most]
    alarms = alarms[np.argsort(-studies.probability[alarms], kind="stable")][:most]

    def rows(chosen: Array) -> list[StudyError]:
        return [
            StudyError(str(studies.study[i]), str(studies.body_part[i]), float(studies.probability[i])) for i in chosen
        ]

    return rows(missed), rows(alarms)


@dataclass(frozen=True)
class _Ranking:
    """Studies by falling probability, equal ones as one step; sorted once for all draws."""

    order: Array  # int64 [S]
    ends: Array  # int64 [G], last study of each step
    abnormal: Array  # float64 [S], in order
    score: Array  # float64 [G], distinct, falling

    @classmethod
    def of(cls, abnormal: Array, probability: Array) -> Self:
        order = np.argsort(-probability, kind="stable")
        falling = probability[order]
        ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        return cls(order, ends, abnormal[order].astype(np.float64), falling[ends])

    def cumulative(self, weight: Array) -> tuple[Array, Array]:
        """True and false positives, [D, G], when each step in turn is called abnormal; weight [D, S]."""
        ordered = weight[:, self.order]
        called = np.cumsum(ordered, axis=1)[:, self.ends]
        true = np.cumsum(ordered * self.abnormal, axis=1)[:, self.ends]
        return true, called - true

    def auroc(self, weight: Array) -> Array:
        """[D], NaN where there is one class only."""
        return self._auroc(*self.cumulative(weight))

    def average_precision(self, weight: Array) -> Array:
        """[D], NaN where nothing is abnormal."""
        return self._average_precision(*self.cumulative(weight))

    def both(self, weight: Array) -> tuple[Array, Array]:
        """AUROC and average precision."""
        true, false = self.cumulative(weight)
        return self._auroc(true, false), self._average_precision(true, false)

    @staticmethod
    def _auroc(true: Array, false: Array) -> Array:
        positive, negative = true[:, -1], false[:, -1]
        gained = np.diff(true, axis=1, prepend=0)
        # Half of the step's own normal studies count as below: ties are worth 1/2.
        above = negative[:, None] - false + np.diff(false, axis=1, prepend=0) / 2
        return _ratio(np.sum(gained * above, axis=1), positive * negative)

    @staticmethod
    def _average_precision(true: Array, false: Array) -> Array:
        called = true + false
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        return _ratio(np.sum(np.diff(true, axis=1, prepend=0) * precision, axis=1), true[:, -1])


@dataclass(frozen=True)
class _Sample:
    """Studies and a threshold, ready to be weighted."""

    ranking: _Ranking
    cells: Array  # float64 [S, 5]: true positive, false positive, true negative, false negative, squared error

    @classmethod
    def of(cls, studies: Studies, threshold: float) -> Self:
        labels, scores = _checked(studies.abnormal, studies.probability)
        called, abnormal = scores >= threshold, labels == 1
        cells = [called & abnormal, called & ~abnormal, ~called & ~abnormal, ~called & abnormal, (scores - labels) ** 2]
        return cls(_Ranking.of(labels, scores), np.stack(cells, axis=1).astype(np.float64))

    def metrics(self, weight: Array) -> dict[str, Array]:
        """Every metric, [D] each, NaN where it is not defined; weight [D, S]."""
        area, precision = self.ranking.both(weight)
        *counts, error = (weight @ self.cells).T
        rates = {name: _ratio(*RATES[name](Counts(*counts))) for name in SCORED_RATES}
        return {"auroc": area, "average_precision": precision, **rates, "brier": _ratio(error, weight.sum(axis=1))}


def _ratio(numerator: Array, denominator: Array) -> Array:
    undefined = np.full(np.shape(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=undefined, where=denominator != 0))


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _interval(value: float, drawn: list[Array]) -> Interval:
    draws = np.concatenate(drawn) if drawn else np.empty(0)
    defined = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(defined) or 2 * len(defined) < len(draws):
        return Interval(value=_defined(value), low=None, high=None)
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=float(value), low=float(low), high=float(high))


def _thinned(x: Array, y: Array, points: int) -> Array:
    """Which points of a line to keep: the ends, and the corners that matter most (Visvalingam & Whyatt 1993)."""
    kept = np.arange(len(x))
    while len(kept) > 2:
        dx, dy = np.diff(x[kept]), np.diff(y[kept])
        area = np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1])
        flattest = int(np.argmin(area))
        # Points on a straight line go in any case.
        if len(kept) <= points and area[flattest] > 1e-12:
            break
        kept = np.delete(kept, flattest + 1)
    return kept


def _checked(abnormal: ArrayLike, probability: ArrayLike) -> tuple[Array, Array]:
    labels, scores = np.asarray(abnormal), np.asarray(probability, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"expected one label per probability, got shapes {labels.shape} and {scores.shape}.")
    if not len(labels):
        raise ValueError("expected at least one study, got none.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"expected labels 0 (normal) and 1 (abnormal), got {np.unique(labels)[:5].tolist()}.")
    _check_probability(scores)
    return labels.astype(np.int64), scores


def _check_probability(values: Array) -> None:
    wrong = values[~((values >= 0) & (values <= 1))]
    if len(wrong):
        raise ValueError(f"expected probabilities in [0, 1], got {wrong[0]} ({len(wrong)} of {len(values)} are wrong).")


def _words(values: ArrayLike) -> Array:
    return np.asarray(values).astype(str)
