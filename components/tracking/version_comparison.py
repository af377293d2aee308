"""The difference of two registered versions, from their stored tables of studies."""

import numpy as np
import pandas as pd

from components.artifacts.evaluation import Scores
from components.artifacts.manifest import TEST, TUNING
from components.artifacts.registration import Difference, RegisteredModel, VersionComparison
from components.scores import metrics, paired
from components.scores.studies import Studies
from components.tracking import model_registry
from components.tracking.model_registry import Holder

SPLITS = (TUNING, TEST)
METRICS = tuple(Difference.model_fields)
# Another computer may round a sum of floats otherwise. One study changes a score by far more.
ROUNDING = 1e-9
_OF_THE_DATA = ("study", "patient", "body_part", "abnormal")


def compare(one: RegisteredModel, other: RegisteredModel) -> VersionComparison:
    """What one version has more than another, on the same studies of the same patients.

    Args:
        one: a version.
        other: another, of any registered model of this registry.

    Returns:
        The differences with 95 % intervals. Where there is none, `missing` says why.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    mine, theirs = (model_registry.holder(each.model, each.version, ()) for each in (one, other))
    found: dict[str, Difference | None] = {}
    told: dict[str, None] = {}
    for split in SPLITS:
        studies = [
            None if each.studies.table is None else studies_of(each.studies.table, split) for each in (mine, theirs)
        ]
        for holder, facts in ((mine, one), (theirs, other)):
            why = missing(one.scores, studies[0], holder, facts.scores, split)
            if why:
                told[f"{holder.name} version {holder.version}: {why}."] = None
                break
        found[split] = None
        if not why and studies[0] is not None and studies[1] is not None:
            found[split] = difference(studies[0], studies[1], (one.scores.threshold, other.scores.threshold))
    return VersionComparison(
        version=one.version, other=other.version, tuning=found[TUNING], test=found[TEST], missing=tuple(told)
    )


def difference(one: Studies, other: Studies, thresholds: tuple[float, float]) -> Difference:
    """What one has more than another on the same studies, each at its own threshold."""
    found = paired.difference(one, other, thresholds)
    return Difference(**{name: found[name] for name in METRICS})


def missing(now: Scores, mine: Studies | None, holder: Holder, scores: Scores | None, split: str) -> str | None:
    """Why a version cannot be compared on a split; None if it can.

    Args:
        now: of what it is compared with.
        mine: studies of that on the split, without names.
        holder: the version.
        scores: of the version; None if they are not known.
        split: `tuning` or `test`.
    """
    if scores is None or holder.studies.table is None:
        return f"its table of studies {holder.studies.missing}"
    new, old = ((each.tuning_digest, each.test_digest)[split == TEST] for each in (now, scores))
    if new != old:
        return f"it was measured on other {split} studies ({old[:12]}, not {new[:12]})"
    studies = studies_of(holder.studies.table, split)
    same = mine is None or all(np.array_equal(getattr(studies, name), getattr(mine, name)) for name in _OF_THE_DATA)
    if not (same and _gives(studies, scores, split)):
        return f"its table of studies is not that of its scores on {split}: somebody changed it"
    return None


def studies_of(table: pd.DataFrame, split: str) -> Studies:
    """The studies of a table without names: each is called by its place."""
    rows = table[table["split"] == split]
    place = np.arange(len(rows)).astype(str)
    patient, body_part = (rows[name].to_numpy().astype(str) for name in ("patient", "body_part"))
    return Studies(place, patient, body_part, rows["abnormal"].to_numpy(), rows["probability"].to_numpy())


def _gives(studies: Studies, scores: Scores, split: str) -> bool:
    """Whether studies give the scores that are said of them."""
    try:
        found = metrics.score(studies, scores.threshold)
    except ValueError:
        return False
    said = scores.of(split)
    return (found.confusion, found.n_patients) == (said.confusion, said.n_patients) and all(
        _equal(getattr(found, name).value, getattr(said, name).value) for name in METRICS
    )


def _equal(one: float | None, other: float | None) -> bool:
    return one == other if one is None or other is None else abs(one - other) <= ROUNDING
