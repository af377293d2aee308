"""Measure each evaluation again from its predictions, and compare: what a card claims is not believed."""

from typing import Any

import pandas as pd
from pydantic import ValidationError

from components.artifacts.differences import differences
from components.artifacts.evaluation import PREDICTIONS, Evaluation
from components.base.errors import DataRefused, first_line
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.scores.both_splits import BothSplits

# Another computer may round a sum of floats otherwise. One study changes a score by far more.
ROUNDING = 1e-9


def check(evaluation: Evaluation) -> None:
    """Check that the scores on the card are those of the predictions.

    Raises:
        DataRefused: they are not, or nothing can be measured. The message names the first score that differs.
    """
    facts = evaluation.facts
    try:
        params = EvaluateParams.model_validate(facts.params)
        protocol = ProtocolParams.model_validate(facts.protocol)
        predictions = pd.read_parquet(evaluation.path / PREDICTIONS)
        found = BothSplits.of_predictions(predictions, params, protocol, facts.seed)
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
        "threshold": facts.scores.threshold,
        "tuning": facts.scores.tuning,
        "test": facts.scores.test,
    }
    measured: dict[str, Any] = {"threshold": found.threshold, "tuning": found.tuning, "test": found.test}
    if facts.second_opinion is not None:
        said["second_opinion"] = {"studies": facts.second_opinion.studies, "test": facts.second_opinion.test}
        measured["second_opinion"] = {"studies": found.relabelled, "test": found.second}
    for name, claimed, value in differences(said, measured, ROUNDING):
        raise DataRefused(
            f"{evaluation.path}: its card says {name} {claimed}, its predictions give {value}. The card was changed, "
            "or another version of this program measured. Evaluate the model again."
        )
