"""What the JSON files of an evaluation say: nothing that its card and its predictions do not say.

`evaluate` writes them. `register` compares them: `dvc metrics show` reads these files, and not the card.
"""

from typing import Any

from components.artifacts.evaluation import METRICS, SUMMARY, TEST_METRICS, EvaluationFacts, FalseAlarms
from components.artifacts.manifest import TEST, TUNING
from components.scores import curves
from components.scores.studies import Studies

# Of the test split's curve. Without the thresholds, of which the first is infinite: JSON has no such number.
ROC = ("false_positive_rate", "sensitivity")


def json_files(facts: EvaluationFacts, test: Studies) -> dict[str, dict[str, Any]]:
    """The content of each file, by its name.

    Args:
        facts: the card.
        test: the test studies with their probabilities.
    """
    curve = curves.roc_curve(test.abnormal, test.probability)
    roc = {name: getattr(curve, name).tolist() for name in ROC}
    second = {} if facts.second_opinion is None else {"second_opinion": facts.second_opinion.model_dump()}
    return {
        METRICS: _of_split(facts, TUNING) | {"threshold": facts.scores.threshold},
        SUMMARY: _summary(facts),
        TEST_METRICS: _of_split(facts, TEST) | {"roc": roc} | second,
    }


def _of_split(facts: EvaluationFacts, split: str) -> dict[str, Any]:
    return {
        split: facts.scores.of(split).model_dump(),
        "slices": {
            name: {group: found.model_dump() for group, found in groups.items()}
            for name, groups in facts.slices.of(split).items()
        },
        "floor": {"threshold": facts.floor.threshold} | facts.floor.of(split).model_dump(),
        "unlike": facts.false_alarms and _unlike(facts.false_alarms, split),
        "operating_point": facts.protocol["operating_point"],
        "operating_points": {
            name: {"threshold": point.threshold, split: point.of(split).model_dump()}
            for name, point in facts.operating_points.items()
        },
        "calibration": facts.calibration.model_dump() | {split: facts.reliability.of(split).model_dump()},
        "digests": {
            "data": facts.data_digest,
            "shards": facts.shards_digest,
            "model": facts.model_digest,
            "tuning": facts.scores.tuning_digest,
            "test": facts.scores.test_digest,
            "protocol": facts.protocol_digest,
        },
    }


def _unlike(found: FalseAlarms, split: str) -> dict[str, Any]:
    """The distance above which a study is unlike the training data, and the share of the split's that are."""
    return {"threshold": found.threshold, "pictures": found.pictures, split: found.of(split).model_dump()}


def _summary(facts: EvaluationFacts) -> dict[str, float | None]:
    """What `dvc metrics show` and `dvc exp show` tell: nothing of the test split."""
    tuning = facts.scores.tuning
    values = {
        "tuning_auroc": tuning.auroc.value,
        "tuning_cohen_kappa": tuning.cohen_kappa.value,
        "tuning_sensitivity": tuning.sensitivity.value,
        "tuning_specificity": tuning.specificity.value,
        "threshold": facts.scores.threshold,
    }
    return {name: None if value is None else round(value, 4) for name, value in values.items()}
