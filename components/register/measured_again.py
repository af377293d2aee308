"""Measure each evaluation again from its predictions, and compare: what a card claims is not believed."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from components.artifacts.differences import differences
from components.artifacts.evaluation import FAMILIARITY, PREDICTIONS, STUDIES, Evaluation, EvaluationFacts, FalseAlarms
from components.artifacts.manifest import TEST, TUNING
from components.artifacts.shards import split_digest
from components.artifacts.trained_model import TrainedModel
from components.base import documents
from components.base.errors import DataRefused, first_line
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.scores import familiarity
from components.scores.both_splits import BothSplits
from components.scores.json_files import json_files

# Another computer may round a sum of floats otherwise. One study changes a score by far more.
ROUNDING = 1e-9


def check(model: TrainedModel, evaluation: Evaluation) -> BothSplits:
    """Check that calibration, thresholds, scores and probabilities are those of the predictions.

    Args:
        model: whose card has the offsets.
        evaluation: of that model.

    Returns:
        What was measured.

    Raises:
        DataRefused: they are not, or nothing can be measured. The message names the first score that differs.
    """
    predictions = _predictions(evaluation)
    found, alarms = _measured(model, evaluation, predictions)
    if found.test.n_abnormal in (0, found.test.n_studies):
        raise DataRefused(
            f"{evaluation.path}: expected abnormal and normal studies in test, got {found.test.n_abnormal} abnormal of "
            f"{found.test.n_studies}. There is no curve of one class; use a larger archive."
        )
    said = _said(evaluation.facts)
    measured = _gives(found, model, evaluation.facts) | _digests(evaluation, predictions) | {"false_alarms": alarms}
    for name, claimed, value in differences(said, measured, ROUNDING):
        raise DataRefused(
            f"{evaluation.path}: its card says {name} {claimed}, its predictions give {value}. The card was changed, "
            "or another version of this program measured. Evaluate the model again."
        )
    _check_familiarity(evaluation)
    _check_table(evaluation.path / STUDIES, found.table)
    for name, content in json_files(evaluation.facts, found.calibrated.test).items():
        _check_json(evaluation.path / name, content)
    return found


def _predictions(evaluation: Evaluation) -> pd.DataFrame:
    path = evaluation.path / PREDICTIONS
    try:
        return pd.read_parquet(path)
    except (ValueError, KeyError, TypeError) as error:
        raise DataRefused(
            f"{path}: no table of predictions ({first_line(error)}). Evaluate the model again."
        ) from error


def _digests(evaluation: Evaluation, predictions: pd.DataFrame) -> dict[str, Any]:
    """Which studies were measured: by the digest of the test split it is known how often that was opened."""
    try:
        by_split = {split: split_digest(predictions[predictions["split"] == split]) for split in (TUNING, TEST)}
    except (ValueError, KeyError, TypeError) as error:
        raise DataRefused(
            f"{evaluation.path / PREDICTIONS}: it does not say which pictures were measured ({first_line(error)}). "
            "Evaluate the model again."
        ) from error
    return {f"{split}_digest": digest for split, digest in by_split.items()}


def _measured(
    model: TrainedModel, evaluation: Evaluation, predictions: pd.DataFrame
) -> tuple[BothSplits, FalseAlarms | None]:
    """What the predictions give.

    Raises:
        DataRefused: nothing can be measured.
    """
    facts = evaluation.facts
    try:
        share = EvaluateParams.model_validate(facts.params).false_alarms
        protocol = ProtocolParams.model_validate(facts.protocol)
        pictures = facts.false_alarms.pictures if facts.false_alarms else 0
        alarms = familiarity.false_alarms(predictions, share, pictures)
        return BothSplits.measure(predictions, model.facts.offsets, protocol, facts.seed), alarms
    except ValidationError as error:
        wrong = error.errors()[0]
        section = "protocol" if error.title == ProtocolParams.__name__ else "params"
        choice = ".".join((section, *map(str, wrong["loc"])))
        raise DataRefused(
            f"{evaluation.path}: its card says {choice} {wrong['input']!r:.40}, which "
            f"`mura evaluate` does not accept ({wrong['msg']}). Evaluate the model again."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataRefused(
            f"{evaluation.path / PREDICTIONS}: nothing can be measured from it ({type(error).__name__}: "
            f"{first_line(error)}). Evaluate the model again."
        ) from error


def _said(facts: EvaluationFacts) -> dict[str, Any]:
    """What the card claims."""
    said: dict[str, Any] = {
        "calibration": facts.calibration,
        "threshold": facts.scores.threshold,
        "tuning": facts.scores.tuning,
        "test": facts.scores.test,
        "operating_points": facts.operating_points,
        "reliability": facts.reliability,
        "slices": facts.slices,
        "floor": facts.floor,
        "tuning_digest": facts.scores.tuning_digest,
        "test_digest": facts.scores.test_digest,
        "false_alarms": facts.false_alarms,
    }
    if facts.second_opinion is not None:
        said["second_opinion"] = {"studies": facts.second_opinion.studies, "test": facts.second_opinion.test}
    return said


def _gives(found: BothSplits, model: TrainedModel, facts: EvaluationFacts) -> dict[str, Any]:
    """The same, as it was measured."""
    measured: dict[str, Any] = {
        "calibration": found.calibrated.facts(model.facts.offsets),
        "threshold": found.threshold,
        "tuning": found.tuning,
        "test": found.test,
        "operating_points": found.points,
        "reliability": found.reliability,
        "slices": found.slices,
        "floor": found.floor,
    }
    if facts.second_opinion is not None:
        measured["second_opinion"] = {"studies": found.relabelled, "test": found.second}
    return measured


def _check_familiarity(evaluation: Evaluation) -> None:
    """Check that what is kept to tell unlike pictures is that of the card.

    Raises:
        DataRefused: it is not.
    """
    alarms, kept = evaluation.facts.false_alarms, evaluation.familiarity()
    said = alarms and (alarms.threshold, alarms.pictures)
    if said != (kept and (kept.threshold, kept.pictures)):
        raise DataRefused(
            f"{evaluation.path / FAMILIARITY}: not that of the card. The file was changed. Evaluate the model again."
        )


def _check_json(path: Path, expected: dict[str, Any]) -> None:
    """Check a file that people and DVC read in place of the card.

    Raises:
        DataRefused: it does not say what the card and the predictions give.
    """
    said = documents.json_of(documents.content(path))
    # As JSON has it: without tuples.
    expected = documents.json_of(json.dumps(expected))
    for name, found, value in differences(said, expected, ROUNDING):
        raise DataRefused(
            f"{path}: says {name} {found}, its card and predictions give {value}. The file was changed. Evaluate the "
            "model again."
        )


def _check_table(path: Path, expected: pd.DataFrame) -> None:
    """Check the table of studies.

    Raises:
        DataRefused: it is not that of the predictions.
    """
    try:
        pd.testing.assert_frame_equal(pd.read_parquet(path), expected, check_dtype=False, rtol=0, atol=ROUNDING)
    except AssertionError as error:
        raise DataRefused(
            f"{path}: its rows are not those that the predictions give ({first_line(error)}). The table was changed. "
            "Evaluate the model again."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataRefused(f"{path}: not a table of studies ({first_line(error)}). Evaluate the model again.") from error
