"""Decide which version is trusted.

champion.py    the step: finds the champion, moves the alias, writes receipt, page and charts
decision.py    the rules: compare the best candidate with the champion
page.py        the page and its charts
report.html    its template
"""

import logging
import os
from pathlib import Path

from components.artifacts.promotion import Decision, Promotion, PromotionFacts
from components.artifacts.registration import Registration
from components.base.step import Declaration
from components.base.variables import EXPERIMENT
from components.params.promote import PromoteParams

logger = logging.getLogger(__name__)


def promote(registration: Registration, params: PromoteParams, out: Path) -> Promotion:
    """Compare the best candidate with the champion, and give it the alias if it is better.

    The rules are those of the protocol that the candidates were measured under: see `mura evaluate --help`.
    In an experiment of DVC the registry is not used; the result only says that it was a trial.

    Args:
        registration: the candidates.
        params: the alias.
        out: where receipt, page and charts are written, whatever the decision.

    Returns:
        The receipt; `facts.decision.outcome` is `refused` if the gate said no.

    Raises:
        UsageError: there is no candidate, one is not in the registry, or the champion has no facts.
        DataRefused: the registry says something else of a candidate than the receipt, or its records of the champion
            contradict each other.
        OutsideFailed: MLflow does not answer, or the best candidate cannot be loaded from it.
    """
    if trial := os.environ.get(EXPERIMENT):
        return _trial(trial, params, out)
    from components.promote import champion

    return champion.run(registration, params, out)


def _check() -> None:
    """Check that somebody said where the registry is."""
    if os.environ.get(EXPERIMENT):
        return
    from components import tracking

    tracking.require("promote")


DECLARES = Declaration(check=_check)


def _trial(name: str, params: PromoteParams, out: Path) -> Promotion:
    from components.scores import charts

    logger.info("promote: trial %s: nothing is promoted", name)
    reason = (
        f"{name} is an experiment of DVC's: nothing is registered or promoted. `dvc exp diff` compares it; "
        f"`dvc exp apply {name} && dvc repro` registers its models."
    )
    facts = PromotionFacts(
        alias=params.alias,
        decision=Decision(outcome="trial", reasons=(reason,)),
        challenger=None,
        previous=None,
        current=None,
        candidates=(),
    )
    # DVC keeps no empty directories, and `dvc plots show` wants this one.
    plots = out / "plots"
    plots.mkdir(exist_ok=True)
    (plots / "trial.png").write_bytes(charts.png(charts.words(f"{name} is a trial: no version, no chart")))
    return Promotion.seal(out, facts)
