"""The page of a promotion, and its charts."""

from pathlib import Path
from typing import NamedTuple

from components.artifacts.evaluation import METRIC_TITLES
from components.artifacts.promotion import PromotionFacts
from components.artifacts.registration import RegisteredModel
from components.pages.render import picture, render
from components.params.promote import PromoteParams
from components.params.train import title
from components.promote.decision import name, ranked, tuning
from components.scores import charts

TEMPLATE = Path(__file__).with_name("report.html")


class Figures(NamedTuple):
    """The charts of the page, PNG."""

    operating_points: bytes
    """The threshold of each version, in the plane of a ROC curve."""
    forest: bytes
    """AUROC and kappa of each version."""


def draw(facts: PromotionFacts, params: PromoteParams) -> Figures:
    """Draw the candidates, best first, and the previous champion."""
    shown = _shown(facts, params)
    rows = [
        charts.Row(
            _label(model),
            model.scores.test.auroc,
            model.scores.test.cohen_kappa,
            strong=facts.current is not None and model.version == facts.current.version,
            tuning_auroc=model.scores.tuning.auroc.value,
            tuning_cohen_kappa=model.scores.tuning.cohen_kappa.value,
        )
        for model in shown
    ]
    points = charts.operating_points({_label(model): model.scores.test for model in shown})
    return Figures(operating_points=charts.png(points), forest=charts.png(charts.forest(rows)))


def promotion_page(facts: PromotionFacts, params: PromoteParams, figures: Figures) -> str:
    """Write which version is trusted now, and why: the decision first, then the candidates.

    Args:
        facts: the receipt.
        params: the rules of the decision.
        figures: the charts.

    Returns:
        HTML that needs no other file.
    """
    shown = _shown(facts, params)
    return render(
        TEMPLATE,
        METRIC_TITLES=METRIC_TITLES,
        title=title,
        name=name,
        facts=facts,
        params=params,
        candidates=ranked(facts.candidates, params.metric),
        shown=shown,
        ranked_by=lambda model: tuning(model, params.metric),
        same_test=len({model.scores.test_digest for model in shown}) <= 1,
        forest=picture(figures.forest, "Test AUROC and Cohen's kappa of each version with 95 % intervals"),
        operating_points=picture(figures.operating_points, "Operating points of each version on test"),
    )


def _shown(facts: PromotionFacts, params: PromoteParams) -> list[RegisteredModel]:
    candidates = ranked(facts.candidates, params.metric)
    if facts.previous is None or facts.previous.version in {model.version for model in candidates}:
        return candidates
    return [*candidates, facts.previous]


def _label(model: RegisteredModel) -> str:
    return f"{title(model.candidate, model.architecture)} v{model.version}"
