"""Rank candidates, and decide whether the best one becomes the champion. Nothing is read or written here."""

from collections.abc import Sequence

from components.artifacts.evaluation import FEWEST_PATIENTS, METRIC_TITLES, Interval
from components.artifacts.promotion import Decision
from components.artifacts.registration import RegisteredModel
from components.params.promote import PromoteParams
from components.params.train import title

# Scores are sums of floats: 0.3 - 0.2 is less than 0.1 by 1e-17. One study changes a score by far more.
_ROUNDING = 1e-9


def ranked(candidates: Sequence[RegisteredModel], metric: str) -> list[RegisteredModel]:
    """The candidates, best first: by a metric on the tuning split, never on test.

    Equal ones come by their Brier score on tuning, lowest first, then by name.

    Args:
        candidates: in any order.
        metric: a field of `SplitScores`.
    """

    def order(model: RegisteredModel) -> tuple[float, float, str, int]:
        value, brier = tuning(model, metric).value, model.scores.tuning.brier.value
        last = float("inf")
        return (last if value is None else -value, last if brier is None else brier, model.candidate, model.version)

    return sorted(candidates, key=order)


def decide(
    champion: RegisteredModel | None, challenger: RegisteredModel, params: PromoteParams, lost: str | None = None
) -> Decision:
    """Decide whether the challenger takes the champion's place, and say why.

    A champion that cannot be loaded is no use to anybody, but a worse model does not take its place by itself: its
    files may be back soon.

    Args:
        champion: the version that holds the alias; None if there is none.
        challenger: the best candidate. It can be loaded.
        params: the rules.
        lost: why the champion cannot be loaded; None if it can.
    """
    if champion is None or lost is None:
        return _compare(champion, challenger, params)
    gone = f"The champion, {name(champion)}, cannot be loaded: {lost}."
    if champion.model_digest == challenger.model_digest:
        return Decision(outcome="promoted", reasons=(gone, f"{name(challenger)} is the same network."))
    decision = _compare(champion, challenger, params)
    if decision.outcome == "kept":
        remedy = "Register the champion's model again, restore its files, or delete the alias."
        return _refused(gone, *decision.reasons, remedy)
    return decision.model_copy(update={"reasons": (gone, *decision.reasons)})


def _compare(champion: RegisteredModel | None, challenger: RegisteredModel, params: PromoteParams) -> Decision:
    """Compare the two on the tuning split, like the candidates before.

    The test split can only veto: if it chose, the test scores of the chosen model would be too good.
    """
    who, test = name(challenger), challenger.scores.test.auroc
    if champion is not None and (champion.model, champion.version) == (challenger.model, challenger.version):
        return Decision(outcome="kept", reasons=(f"{who} is already the champion.",))
    if champion is not None and champion.model_digest == challenger.model_digest:
        reason = f"{who} is the same network as the champion, version {champion.version}. The champion stays."
        return Decision(outcome="kept", reasons=(reason,))

    floor = f"the lower end of its test AUROC's 95 % interval must be at least {params.min_auroc:.3f}"
    if test.value is None:
        return _refused(f"{who} has no test AUROC: {floor}. Does the test split have studies of both labels?")
    if test.low is None and params.min_auroc > 0:
        return _refused(
            f"{who} has a test AUROC of {test.value:.3f} from too few patients for an interval: {floor}. The test "
            f"split needs {FEWEST_PATIENTS} patients with normal studies and {FEWEST_PATIENTS} with abnormal ones."
        )
    if test.low is not None and not test.low >= params.min_auroc:
        return _refused(f"{who} has a test AUROC of {test}: {floor}.")
    reached = f"its lower end is at least {params.min_auroc:.3f}" if params.min_auroc > 0 else "no floor is set for it"
    gate = f"{who} has a test AUROC of {test}; {reached}."
    value = tuning(challenger, params.metric).value
    words = f"{METRIC_TITLES[params.metric]} on tuning"
    if value is None:
        return _refused(f"{who} has no {words}, and candidates are ranked by it.")
    if champion is None:
        return Decision(outcome="promoted", reasons=(gate, "There was no champion."))

    holder, held = name(champion), champion.scores.test.auroc
    if reasons := _incomparable(champion, challenger):
        return _refused(*reasons)
    bar = tuning(champion, params.metric).value
    if bar is None or held.value is None:
        return _refused(f"The champion, {holder}, has no {words} or no test AUROC to compare with. Evaluate it again.")
    gain, loss = value - bar, held.value - test.value
    comparison = f"{words}: {who} has {value:.4f}, the champion, {holder}, has {bar:.4f}"
    if gain <= _ROUNDING or gain < params.min_gain - _ROUNDING:
        return Decision(
            outcome="kept", reasons=(f"{comparison}. The gain is {gain:+.4f}, {_too_little(params.min_gain)}.",)
        )
    veto = f"Its test AUROC of {test.value:.4f} is {abs(loss):.4f} {'below' if loss > 0 else 'above'} the champion's"
    if loss > params.max_loss + _ROUNDING:
        return _refused(f"{comparison}. But {veto[0].lower()}{veto[1:]}, more than the {params.max_loss:.4f} allowed.")
    return Decision(
        outcome="promoted",
        reasons=(gate, f"{comparison}. The gain is {gain:+.4f}.", f"{veto}."),
    )


def _incomparable(champion: RegisteredModel, challenger: RegisteredModel) -> list[str]:
    digests = {
        "test": (champion.scores.test_digest, challenger.scores.test_digest),
        "tuning": (champion.scores.tuning_digest, challenger.scores.tuning_digest),
    }
    return [
        f"{name(challenger)} and the champion, {name(champion)}, were evaluated on different {split} studies "
        f"({new[:12]} and {old[:12]}). Evaluate the champion's model on the new studies, register it and give that "
        "version the alias in MLflow, or delete the alias."
        for split, (old, new) in digests.items()
        if old != new
    ]


def _refused(*reasons: str) -> Decision:
    return Decision(outcome="refused", reasons=reasons)


def _too_little(min_gain: float) -> str:
    return f"less than the {min_gain:.4f} required" if min_gain > 0 else "and it must be more than 0"


def name(model: RegisteredModel) -> str:
    """A version as people write it: `VGG-16 version 3`."""
    return f"{title(model.candidate, model.architecture)} version {model.version}"


def tuning(model: RegisteredModel, metric: str) -> Interval:
    """A metric on the tuning split."""
    value = getattr(model.scores.tuning, metric)
    assert isinstance(value, Interval)
    return value
