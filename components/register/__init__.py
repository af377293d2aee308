"""Make a version in the registry of each evaluated model.

versions.py         the step: pairs models with evaluations, makes the versions, writes receipt and page
measured_again.py   the scores of an evaluation, from its predictions
page.py             the page of the test split and its charts
report.html         its template
"""

import logging
import os
from pathlib import Path

from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import Registration, RegistrationFacts
from components.artifacts.trained_model import TrainedModel
from components.base.step import Declaration
from components.base.variables import EXPERIMENT
from components.params.register import RegisterParams

logger = logging.getLogger(__name__)


def register(
    models: list[TrainedModel], evaluations: list[Evaluation], params: RegisterParams, out: Path
) -> Registration:
    """Register each model with its evaluation, and open the test split. Doing it again keeps the versions.

    The report shows what all candidates reach on the test split, and how many models were ever measured on it.
    Give all candidates in one command. In an experiment of DVC nothing is registered; the result only says that it was
    a trial.

    Args:
        models: the candidates, each with its own name, in the order of the receipt.
        evaluations: one of each model, in any order, all on the same data.
        params: name of the registered model.
        out: where the receipt is written.

    Raises:
        UsageError: models and evaluations do not belong together, or were made with different data.
        DataRefused: the scores of an evaluation are not those of its predictions, or a version in the registry was
            changed.
        ServiceUnreachable: MLflow does not answer.
    """
    if trial := os.environ.get(EXPERIMENT):
        logger.info("register: trial %s: nothing is registered", trial)
        return Registration.seal(out, RegistrationFacts(versions=(), trial=trial))
    from components.register import versions

    return versions.run(models, evaluations, params, out)


def _check() -> None:
    """Check that somebody said where the registry is."""
    if os.environ.get(EXPERIMENT):
        return
    from components import tracking

    tracking.require("register")


DECLARES = Declaration(check=_check)
