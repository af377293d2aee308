"""The page of a promotion, and its charts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from components.artifacts.evaluation import METRIC_TITLES
from components.artifacts.manifest import TEST, TUNING
from components.artifacts.promotion import Criterion, Decision, PromotionFacts
from components.artifacts.registration import REPORT as COMPARISON_REPORT
from components.artifacts.registration import (
    Difference,
    RegisteredModel,
    VersionComparison,
    other_protocols,
    ranked,
)
from components.pages.render import picture, render
from components.params.protocol import ProtocolParams
from components.params.train import title
from components.promote.decision import GAIN, name
from components.scores import charts, paired, side_by_side
from components.scores.side_by_side import Candidate

TEMPLATE = Path(__file__).with_name("report.html")


class Row(NamedTuple):
    """A criterion, as the page shows it."""

    name: str
    verdict: str
    """A word."""
    style: str
    """Class of the word."""
    words: str


class Compared(NamedTuple):
    """The challenger minus another version."""

    other: RegisteredModel
    role: str
    """Of the other."""
    found: VersionComparison
    powers: dict[str, float]
    """How often an equal model passes the margin on test, by metric; empty where nothing is known."""


class Figures(NamedTuple):
    """The charts for DVC, PNG."""

    operating_points: bytes
    """The threshold of each version, in the plane of a ROC curve."""
    forest: bytes
    """AUROC and kappa of each version."""


def draw(facts: PromotionFacts, protocol: ProtocolParams) -> Figures:
    """Draw what DVC plots: the candidates on the tuning split, best first, and the previous champion.

    Args:
        facts: the receipt.
        protocol: how they are ranked.
    """
    candidates = ranked(facts.candidates, protocol.primary_metric)
    if facts.previous is not None and facts.previous.version not in {model.version for model in candidates}:
        candidates.append(facts.previous)
    shown = _shown(facts, candidates)
    return Figures(
        operating_points=charts.png(side_by_side.operating_points(shown, TUNING)),
        forest=charts.png(side_by_side.forest(shown, TUNING)),
    )


def draw_forest(facts: PromotionFacts) -> bytes:
    """Draw the chart of the page, PNG: the challenger and the champion before it, on test, with tuning beside."""
    return charts.png(side_by_side.forest(_shown(facts, _before_and_after(facts)), TEST))


def promotion_page(facts: PromotionFacts, protocol: ProtocolParams) -> str:
    """Write which version is trusted now, and why: the decision first, then the two versions that it is about.

    Args:
        facts: the receipt.
        protocol: the rules of the decision.

    Returns:
        HTML that needs no other file.
    """
    shown = _before_and_after(facts)
    candidates = ranked(facts.candidates, protocol.primary_metric)
    champion = () if facts.previous is None else (facts.previous,)
    return render(
        TEMPLATE,
        METRIC_TITLES=METRIC_TITLES,
        METRICS=tuple(Difference.model_fields),
        SPLITS=(TUNING, TEST),
        COMPARISON_REPORT=f"registration/{COMPARISON_REPORT}",
        title=title,
        name=name,
        method=paired.METHOD,
        facts=facts,
        rows=[_row(each, facts.decision) for each in facts.decision.criteria],
        compared=_compared(facts, protocol),
        opened=facts.opened,
        protocol=protocol,
        candidates=candidates,
        chosen_by_rank=facts.challenger is not None and candidates[0].version == facts.challenger.version,
        shown=shown,
        champion_differs=[
            change
            for each in other_protocols(champion, protocol.model_dump(mode="json"))
            for change in each.differences
        ],
        ranked_by=lambda model: model.tuning(protocol.primary_metric),
        same_test=len({model.scores.test_digest for model in shown}) <= 1,
        forest=picture(draw_forest(facts), "Test AUROC and Cohen's kappa of the challenger and of the version before"),
    )


def _row(each: Criterion, decision: Decision) -> Row:
    if each.passed:
        return Row(each.name, "passed", "promoted", each.words)
    if each.passed is None:
        return Row(each.name, "warning", "kept", each.words) if each.warning else Row(each.name, "", "soft", each.words)
    if each.name == GAIN:
        return Row(each.name, "not reached", "kept", each.words)
    return Row(each.name, "vetoes" if decision.outcome == "refused" else "not passed", "refused", each.words)


def _compared(facts: PromotionFacts, protocol: ProtocolParams) -> list[Compared]:
    """The challenger minus the champion before, and minus the reference."""
    asked, who = facts.question, facts.challenger
    pairs: list[tuple[RegisteredModel | None, str, VersionComparison | None]] = [
        (facts.previous, f"{facts.alias} before", (asked.against_champion if asked else None) or facts.comparison),
        (asked.reference if asked else None, "reference", asked.against_reference if asked else None),
    ]
    shown: dict[int, Compared] = {}
    for other, role, found in pairs:
        if other is not None and found and who is not None and other.version not in (who.version, *shown):
            shown[other.version] = Compared(other, role, found, _powers(found.test, protocol.max_loss))
    return list(shown.values())


def _powers(found: Difference | None, margin: float) -> dict[str, float]:
    known = (
        {} if found is None else {each: paired.power(getattr(found, each), margin) for each in ("auroc", "cohen_kappa")}
    )
    return {each: share for each, share in known.items() if share is not None}


def _before_and_after(facts: PromotionFacts) -> list[RegisteredModel]:
    """The challenger, and the champion before if it is another version."""
    both = [model for model in (facts.challenger, facts.previous) if model is not None]
    return list({model.version: model for model in both}.values())


def _shown(facts: PromotionFacts, models: Sequence[RegisteredModel]) -> list[Candidate]:
    current = facts.current and facts.current.version
    return [Candidate(_label(model), model.scores, strong=model.version == current) for model in models]


def _label(model: RegisteredModel) -> str:
    return f"{title(model.candidate, model.architecture)} v{model.version}"
