"""Decide which version is trusted.

champion.py    the step: finds the champion, moves the alias, writes receipt, page and charts
decision.py    the rules: rank the candidates, compare the best with the champion
page.py        the page and its charts
report.html    its template
"""

from pathlib import Path

from components.artifacts.promotion import Promotion
from components.artifacts.registration import Registration
from components.params.promote import PromoteParams


def promote(registration: Registration, params: PromoteParams, out: Path) -> Promotion:
    """Compare the best candidate with the champion, and give it the alias if it is better.

    Args:
        registration: the candidates.
        params: the alias, and the rules for its holder.
        out: where receipt, page and charts are written, whatever the decision.

    Returns:
        The receipt; `facts.decision.outcome` is `refused` if the gate said no.

    Raises:
        UsageError: there is no candidate, one is not in the registry, or the champion has no facts.
        OutsideFailed: MLflow does not answer, or the best candidate cannot be loaded from it.
    """
    from components.promote import champion

    return champion.run(registration, params, out)
