"""The page of a promotion."""

from collections.abc import Mapping
from pathlib import Path

from components.artifacts.evaluation import Interval
from components.artifacts.promotion import PromotionFacts
from components.artifacts.registration import RegisteredModel
from components.pages.render import name, picture, render
from components.params.promote import PromoteParams
from components.scores import charts
from components.scores.metrics import RocCurve

TEMPLATE = Path(__file__).with_name("report.html")


def promotion_page(facts: PromotionFacts, params: PromoteParams, curves: Mapping[int, RocCurve] | None = None) -> str:
    """Which version is trusted now, and why: the decision first, then the candidates it chose from.

    Args:
        facts: the receipt.
        params: the rules of the decision.
        curves: ROC curves on test by version, where they are at hand.

    Returns:
        HTML that needs no other file.
    """

    def ranked_by(model: RegisteredModel) -> Interval:
        value = getattr(model.scores.tuning, params.metric)
        assert isinstance(value, Interval)
        return value

    def merit(model: RegisteredModel) -> tuple[float, int]:
        value = ranked_by(model).value
        return (float("-inf") if value is None else value, -model.version)

    candidates = sorted(facts.candidates, key=merit, reverse=True)
    shown = candidates + [
        model for model in [facts.previous] if model is not None and model.version not in _versions(candidates)
    ]
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
    labelled = {_label(model): (curves or {})[model.version] for model in shown if model.version in (curves or {})}
    return render(
        TEMPLATE,
        facts=facts,
        params=params,
        candidates=candidates,
        shown=shown,
        ranked_by=ranked_by,
        same_test=len({model.scores.test_digest for model in shown}) <= 1,
        forest=picture(charts.forest(rows), "Test AUROC and Cohen's kappa of each version with 95 % intervals"),
        overlay=picture(
            charts.roc_overlay({_label(model): model.scores.test for model in shown}, labelled),
            "Operating points of each version on test",
        ),
    )


def _label(model: RegisteredModel) -> str:
    return f"{name(model.architecture)} v{model.version}"


def _versions(models: list[RegisteredModel]) -> set[int]:
    return {model.version for model in models}
