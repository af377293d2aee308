"""Decide which version is trusted."""

from pathlib import Path

from components.artifacts.promotion import Promotion
from components.artifacts.registration import Registration
from components.params.promote import PromoteParams


def promote(registration: Registration, params: PromoteParams, out: Path) -> Promotion:
    """Let the best candidate challenge the champion, and give it the alias if it deserves it.

    Args:
        registration: the candidates.
        params: the alias, and what its holder must be.
        out: where the receipt and the page are written, whatever the decision.

    Returns:
        The receipt; `facts.decision.outcome` is `refused` where the gate said no.

    Raises:
        UsageError: a candidate is no longer in the registry, or nothing is known of the champion.
        ServiceUnreachable: MLflow does not answer.
    """
    from components.promote import deciding

    return deciding.run(registration, params, out)
