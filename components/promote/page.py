"""The page of a promotion, and its charts."""

from pathlib import Path
from typing import NamedTuple

from components.artifacts.evaluation import METRIC_TITLES
from components.artifacts.promotion import PromotionFacts
from components.artifacts.registration import RegisteredModel, other_protocols, ranked
from components.pages.render import picture, render
from components.params.protocol import ProtocolParams
from components.params.train import title
from components.promote.decision import name
from components.scores import charts, side_by_side
from components.scores.side_by_side import Candidate

TEMPLATE = Path(__file__).with_name("report.html")


class Figures(NamedTuple):
    """The charts of the page, PNG."""

    operating_points: bytes
    """The threshold of each version, in the plane of a ROC curve."""
    forest: bytes
    """AUROC and kappa of each version."""


def draw(facts: PromotionFacts, protocol: ProtocolParams, split: str) -> Figures:
    """Draw the candidates, best first, and the previous champion.

    Args:
        facts: the receipt.
        protocol: how they are ranked.
        split: `test`, for the page: intervals of test, and values on tuning beside them. `tuning`: of tuning alone.
    """
    current = facts.current
    shown = [
        Candidate(_label(model), model.scores, strong=current is not None and model.version == current.version)
        for model in _shown(facts, protocol)
    ]
    return Figures(
        operating_points=charts.png(side_by_side.operating_points(shown, split)),
        forest=charts.png(side_by_side.forest(shown, split)),
    )


def promotion_page(facts: PromotionFacts, protocol: ProtocolParams, figures: Figures) -> str:
    """Write which version is trusted now, and why: the decision first, then the candidates.

    Args:
        facts: the receipt.
        protocol: the rules of the decision.
        figures: the charts, on test.

    Returns:
        HTML that needs no other file.
    """
    shown = _shown(facts, protocol)
    champion = () if facts.previous is None else (facts.previous,)
    return render(
        TEMPLATE,
        METRIC_TITLES=METRIC_TITLES,
        title=title,
        name=name,
        facts=facts,
        opened=facts.opened,
        protocol=protocol,
        candidates=ranked(facts.candidates, protocol.primary_metric),
        shown=shown,
        champion_differs=[
            change
            for each in other_protocols(champion, protocol.model_dump(mode="json"))
            for change in each.differences
        ],
        ranked_by=lambda model: model.tuning(protocol.primary_metric),
        same_test=len({model.scores.test_digest for model in shown}) <= 1,
        forest=picture(figures.forest, "Test AUROC and Cohen's kappa of each version with 95 % intervals"),
        operating_points=picture(figures.operating_points, "Operating points of each version on test"),
    )


def _shown(facts: PromotionFacts, protocol: ProtocolParams) -> list[RegisteredModel]:
    candidates = ranked(facts.candidates, protocol.primary_metric)
    if facts.previous is None or facts.previous.version in {model.version for model in candidates}:
        return candidates
    return [*candidates, facts.previous]


def _label(model: RegisteredModel) -> str:
    return f"{title(model.candidate, model.architecture)} v{model.version}"
