"""Decide which version is trusted."""

import logging
from collections.abc import Sequence
from pathlib import Path

from components.artifacts.evaluation import Interval
from components.artifacts.promotion import REPORT, Decision, Promotion, PromotionFacts
from components.artifacts.registration import RegisteredModel, Registration
from components.base.errors import UsageError
from components.base.files import CHECKPOINT, write_text
from components.params.promote import PromoteParams

logger = logging.getLogger(__name__)

# Scores are sums of floats: 0.3 - 0.2 is less than 0.1 by 1e-17, and no study is worth so little.
_ROUNDING = 1e-9


def run(registration: Registration, params: PromoteParams, out: Path) -> Promotion:
    """Do what `components.promote.promote` says."""
    from components.promote.page import promotion_page
    from components.tracking import model_registry

    candidates = registration.facts.versions
    challenger = best(candidates, params.metric)
    for candidate in candidates:
        if not model_registry.exists(candidate):
            raise UsageError(
                f"promote: {candidate.model} version {candidate.version} ({candidate.architecture}) is not in this "
                "registry, or is another model there. Run `mura register` again."
            )
    previous = model_registry.champion(challenger.model, params.alias)
    decision = decide(previous, challenger, params)
    # Killed between moving the alias and writing the receipt, the next attempt would find the challenger to be champion
    # already, and the champion of before would be forgotten.
    intent = out / CHECKPOINT / "promotion.json"
    if intent.is_file() and previous == challenger:
        begun = PromotionFacts.model_validate_json(intent.read_text())
        previous, decision = begun.previous, begun.decision
    if decision.promote:
        intent.parent.mkdir(exist_ok=True)
        write_text(intent, _facts(params, decision, challenger, previous, candidates).model_dump_json())
        model_registry.set_alias(challenger, params.alias)
    facts = _facts(params, decision, challenger, previous, candidates)
    logger.info("promote: %s: %s", decision.outcome, " ".join(decision.reasons))
    write_text(out / REPORT, promotion_page(facts, params))
    return Promotion.seal(out, facts)


def _facts(
    params: PromoteParams,
    decision: Decision,
    challenger: RegisteredModel,
    previous: RegisteredModel | None,
    candidates: tuple[RegisteredModel, ...],
) -> PromotionFacts:
    return PromotionFacts(
        alias=params.alias,
        decision=decision,
        challenger=challenger,
        previous=previous,
        current=challenger if decision.promote else previous,
        candidates=candidates,
    )


def best(candidates: Sequence[RegisteredModel], metric: str) -> RegisteredModel:
    """The candidate with the highest metric on the tuning split; test is not looked at.

    Of equals the one with the lower Brier score on tuning, then the first by name.

    Args:
        candidates: at least one.
        metric: a field of `SplitScores`.

    Raises:
        UsageError: there is no candidate.
    """
    if not candidates:
        raise UsageError("promote: the registration is empty. Register at least one model.")

    def order(model: RegisteredModel) -> tuple[float, float, str, int]:
        value, brier = _tuning(model, metric).value, model.scores.tuning.brier.value
        last = float("inf")
        return (last if value is None else -value, last if brier is None else brier, model.architecture, model.version)

    return min(candidates, key=order)


def decide(champion: RegisteredModel | None, challenger: RegisteredModel, params: PromoteParams) -> Decision:
    """Whether the challenger takes the champion's place, and why.

    What is better is seen on the tuning split, where the candidates were compared already. The test split can only
    veto: were it to choose, its numbers would flatter the one chosen.

    Args:
        champion: who holds the alias; None if nobody does.
        challenger: the best candidate.
        params: the rules.
    """
    who, test = _name(challenger), challenger.scores.test.auroc
    if champion is not None and (champion.model, champion.version) == (challenger.model, challenger.version):
        return Decision(outcome="kept", reasons=(f"{who} is already the champion.",))
    if champion is not None and champion.model_digest == challenger.model_digest:
        reason = (
            f"{who} is the same network as the champion, version {champion.version}, evaluated anew; that one stays."
        )
        return Decision(outcome="kept", reasons=(reason,))

    floor = f"the lower end of its test AUROC's 95 % interval must be at least {params.min_auroc:.3f}"
    if test.value is None or test.low is None:
        return _refused(
            f"{who} has no test AUROC with an interval: {floor}. Has the test split studies of both labels?"
        )
    if not test.low >= params.min_auroc:
        return _refused(f"{who} has a test AUROC of {test}: {floor}.")
    gate = f"{who} has a test AUROC of {test}, its lower end at least {params.min_auroc:.3f}."
    value = _tuning(challenger, params.metric).value
    words = f"{params.metric.replace('_', ' ')} on tuning"
    if value is None:
        return _refused(f"{who} has no {words}, by which candidates are ranked.")
    if champion is None:
        return Decision(outcome="promoted", reasons=(gate, "There was no champion."))

    holder, held = _name(champion), champion.scores.test.auroc
    if reasons := _incomparable(champion, challenger):
        return _refused(*reasons)
    bar = _tuning(champion, params.metric).value
    if bar is None or held.value is None:
        return _refused(f"The champion, {holder}, has no {words} or no test AUROC to compare with; evaluate it anew.")
    gain, loss = value - bar, held.value - test.value
    comparison = f"{who} has a {words} of {value:.4f}, the champion, {holder}, {bar:.4f}"
    if gain <= _ROUNDING or gain < params.min_gain - _ROUNDING:
        return Decision(
            outcome="kept", reasons=(f"{comparison}: a gain of {gain:+.4f}, less than {_wanted(params.min_gain)}.",)
        )
    veto = f"its test AUROC of {test.value:.4f} lies {abs(loss):.4f} {'below' if loss > 0 else 'above'} the champion's"
    if loss > params.max_loss + _ROUNDING:
        return _refused(f"{comparison}; but {veto}, more than the {params.max_loss:.4f} allowed.")
    return Decision(
        outcome="promoted",
        reasons=(gate, f"{comparison}: a gain of {gain:+.4f}.", f"{veto[0].upper()}{veto[1:]}."),
    )


def _incomparable(champion: RegisteredModel, challenger: RegisteredModel) -> list[str]:
    digests = {
        "test": (champion.scores.test_digest, challenger.scores.test_digest),
        "tuning": (champion.scores.tuning_digest, challenger.scores.tuning_digest),
    }
    return [
        f"{_name(challenger)} and the champion, {_name(champion)}, were evaluated on different {split} studies "
        f"({new[:12]} and {old[:12]}). Register the champion's model with an evaluation on the present ones and give "
        "that version the alias in MLflow, or delete the alias."
        for split, (old, new) in digests.items()
        if old != new
    ]


def _refused(*reasons: str) -> Decision:
    return Decision(outcome="refused", reasons=reasons)


def _wanted(min_gain: float) -> str:
    return f"the {min_gain:.4f} wanted" if min_gain > 0 else "is wanted"


def _name(model: RegisteredModel) -> str:
    return f"{model.architecture} (version {model.version})"


def _tuning(model: RegisteredModel, metric: str) -> Interval:
    value = getattr(model.scores.tuning, metric)
    assert isinstance(value, Interval)
    return value
