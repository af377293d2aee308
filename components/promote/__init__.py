"""Decide which version is trusted.

champion.py    the step: finds the challenger, writes receipt, page and charts
challenge.py   puts the challenger to the champion, and writes down what was decided
decision.py    the rules: compare the best candidate with the champion
taking_back.py gives the alias back to an earlier champion
page.py        the page and its charts
report.html    its template
"""

import logging
import os
import re
from pathlib import Path

from components.artifacts.promotion import Decision, Promotion, PromotionFacts
from components.artifacts.registration import Registration
from components.base.errors import UsageError
from components.base.step import Declaration, Flag
from components.base.variables import EXPERIMENT
from components.params.promote import PromoteParams

logger = logging.getLogger(__name__)


# Parameters: they are flags.
def promote(
    registration: Registration,
    params: PromoteParams,
    out: Path,
    *,
    candidate: str | None = None,
    reason: str | None = None,
    first: bool = False,
) -> Promotion:
    """Compare the best candidate with the champion, and give it the alias if it is better.

    The rules are those of the protocol that the candidates were measured under: see `mura evaluate --help`. What was
    decided is written into the registry's record, which `mura history` reads. Without `--out` no receipt and no page
    are written. In an experiment of DVC the registry is not used; the result only says that it was a trial.

    The exit code is 0 if the candidate was promoted, or the champion rightly stays; 4 if the candidate was refused.

    Args:
        registration: the candidates.
        params: the alias.
        out: where receipt, page and charts are written, whatever the decision.
        candidate: number of the version that is the challenger; None for the best candidate.
        reason: for the record.
        first: whether to begin anew, and compare the challenger with nobody.

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
    from components.promote.challenge import Asked

    return champion.run(registration, params, out, Asked(number_of(candidate), reason or "", first))


def number_of(candidate: str | None) -> int | None:
    """The number of a version as a flag has it.

    Raises:
        UsageError: it is no number.
    """
    if candidate is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}", candidate):
        raise UsageError(f"promote: expected --candidate to be the number of a version, got {candidate}.")
    return int(candidate)


def _check() -> None:
    """Check that somebody said where the registry is."""
    if os.environ.get(EXPERIMENT):
        return
    from components import tracking

    tracking.require("promote")


DECLARES = Declaration(
    check=_check,
    flags=(
        Flag("--candidate", "V", "Number of the version that is the challenger, in place of the best candidate."),
        Flag("--reason", "TEXT", "Why, for the record."),
        Flag("--first", None, "Begin anew: the challenger passes the floors, and is compared with nobody."),
    ),
)


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
