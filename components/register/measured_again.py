"""Measure each evaluation again from its predictions, and compare: what a card claims is not believed."""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from components.artifacts.differences import differences
from components.artifacts.evaluation import PREDICTIONS, STUDIES, Evaluation
from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused, first_line
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.scores.both_splits import BothSplits

# Another computer may round a sum of floats otherwise. One study changes a score by far more.
ROUNDING = 1e-9


def check(model: TrainedModel, evaluation: Evaluation) -> None:
    """Check that calibration, thresholds, scores and probabilities are those of the predictions.

    Args:
        model: whose card has the offsets.
        evaluation: of that model.

    Raises:
        DataRefused: they are not, or nothing can be measured. The message names the first score that differs.
    """
    facts = evaluation.facts
    try:
        EvaluateParams.model_validate(facts.params)
        protocol = ProtocolParams.model_validate(facts.protocol)
        predictions = pd.read_parquet(evaluation.path / PREDICTIONS)
        found = BothSplits.measure(predictions, model.facts.offsets, protocol, facts.seed)
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
    said: dict[str, Any] = {
        "calibration": facts.calibration,
        "threshold": facts.scores.threshold,
        "tuning": facts.scores.tuning,
        "test": facts.scores.test,
        "operating_points": facts.operating_points,
        "reliability": facts.reliability,
    }
    measured: dict[str, Any] = {
        "calibration": found.calibrated.facts(model.facts.offsets),
        "threshold": found.threshold,
        "tuning": found.tuning,
        "test": found.test,
        "operating_points": found.points,
        "reliability": found.reliability,
    }
    if facts.second_opinion is not None:
        said["second_opinion"] = {"studies": facts.second_opinion.studies, "test": facts.second_opinion.test}
        measured["second_opinion"] = {"studies": found.relabelled, "test": found.second}
    for name, claimed, value in differences(said, measured, ROUNDING):
        raise DataRefused(
            f"{evaluation.path}: its card says {name} {claimed}, its predictions give {value}. The card was changed, "
            "or another version of this program measured. Evaluate the model again."
        )
    _check_table(evaluation.path / STUDIES, found.table)


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
