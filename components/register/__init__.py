"""Make a version in the registry of each evaluated model.

versions.py         the step: pairs models with evaluations, makes the versions, writes receipt and page
measured_again.py   the scores of an evaluation, from its predictions
comparison.py       the differences between candidates, and to the versions that hold an alias
adoption.py         --adopt: a version from before versions were signed
page.py             the page that compares the candidates, and its charts
report.html         its template
"""

import logging
import os
from pathlib import Path
from typing import Any

from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import Registration, RegistrationFacts
from components.artifacts.trained_model import TrainedModel
from components.base.step import Declaration, Question
from components.base.variables import EXPERIMENT
from components.params.register import RegisterParams

logger = logging.getLogger(__name__)


def register(
    models: list[TrainedModel], evaluations: list[Evaluation], params: RegisterParams, out: Path
) -> Registration:
    """Register each model with its evaluation, and open the test split. Doing it again keeps the versions.

    The report compares all candidates on the tuning and on the test split, with each other and with the versions that
    hold an alias, and says how many models were ever measured on the test split.
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


def _adopted(given: str, flags: dict[str, Any]) -> str:
    """Answer --adopt."""
    from components.params.document import read_params, section
    from components.register.adoption import adopt

    uri = given
    if given.isascii() and given.isdigit():
        file = Path(flags.get("params") or "params.yaml")
        params = section(read_params(file), "register", file)
        assert isinstance(params, RegisterParams), "that is its section"
        uri = f"models:/{params.model}/{given}"
    models, evaluations = ([Path(each) for each in flags.get(name) or ()] for name in ("models", "evaluations"))
    made = adopt(uri, models, evaluations)
    return f"{uri} is {made.model} version {made.version} now, signed. Promote that one: mura promote"


DECLARES = Declaration(
    questions=(
        Question(
            "--adopt",
            "VERSION",
            "Sign a version that was registered before versions were signed: its evaluation is measured again, and it "
            "is registered anew. Its model and its evaluation, or a new one of that model, are looked for in "
            "artifacts/, or named with --model and --evaluation.",
            _adopted,
        ),
    ),
    check=_check,
)
