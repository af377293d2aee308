"""Decide whether the best candidate becomes the champion. Nothing is read or written here."""

from components.artifacts.evaluation import FEWEST_PATIENTS, METRIC_TITLES
from components.artifacts.promotion import Decision
from components.artifacts.registration import RegisteredModel
from components.params.protocol import ProtocolParams
from components.params.train import title

# Scores are sums of floats: 0.3 - 0.2 is less than 0.1 by 1e-17. One study changes a score by far more.
_ROUNDING = 1e-9


def decide(
    champion: RegisteredModel | None, challenger: RegisteredModel, protocol: ProtocolParams, lost: str | None = None
) -> Decision:
    """Decide whether the challenger takes the champion's place, and say why.

    A champion that cannot be loaded is no use to anybody, but a worse model does not take its place by itself: its
    files may be back soon.

    Args:
        champion: the version that holds the alias; None if there is none.
        challenger: the best candidate. It can be loaded.
        protocol: the rules.
        lost: why the champion cannot be loaded; None if it can.
    """
    if champion is None or lost is None:
        return _compare(champion, challenger, protocol)
    gone = f"The champion, {name(champion)}, cannot be loaded: {lost}."
    if champion.model_digest == challenger.model_digest:
        return Decision(outcome="promoted", reasons=(gone, f"{name(challenger)} is the same network."))
    decision = _compare(champion, challenger, protocol)
    if decision.outcome == "kept":
        remedy = "Register the champion's model again, restore its files, or delete the alias."
        return _refused((gone, *decision.reasons, remedy))
    return decision.model_copy(update={"reasons": (gone, *decision.reasons)})


def _compare(champion: RegisteredModel | None, challenger: RegisteredModel, protocol: ProtocolParams) -> Decision:
    """Compare the two on the tuning split, like the candidates before.

    The test split can only veto: if it chose, the test scores of the chosen model would be too good.
    """
    who, metric = name(challenger), protocol.primary_metric
    if champion is not None and (champion.model, champion.version) == (challenger.model, challenger.version):
        return Decision(outcome="kept", reasons=(f"{who} is already the champion.",))
    if champion is not None and champion.model_digest == challenger.model_digest:
        reason = f"{who} is the same network as the champion, version {champion.version}. The champion stays."
        return Decision(outcome="kept", reasons=(reason,))

    vetoes = protocol.test_role == "veto"
    passed, gate = _gate(challenger, protocol.min_auroc) if vetoes else (True, ())
    if not passed:
        return _refused((f"{who} does not pass the gate on the test split.",), gate)
    value = challenger.tuning(metric).value
    words = f"{METRIC_TITLES[metric]} on tuning"
    if value is None:
        return _refused((f"{who} has no {words}, and candidates are ranked by it.",))
    if champion is None:
        return Decision(outcome="promoted", reasons=("There was no champion.",), on_test=gate)

    holder = name(champion)
    if reasons := _incomparable(champion, challenger):
        return _refused(tuple(reasons))
    bar = champion.tuning(metric).value
    if bar is None:
        return _refused((f"The champion, {holder}, has no {words} to compare with. Evaluate it again.",))
    gain = value - bar
    comparison = f"{words}: {who} has {value:.4f}, the champion, {holder}, has {bar:.4f}. The gain is {gain:+.4f}"
    if gain <= _ROUNDING or gain < protocol.min_gain - _ROUNDING:
        return Decision(outcome="kept", reasons=(f"{comparison}, {_too_little(protocol.min_gain)}.",))
    passed, veto = _loss(champion, challenger, protocol.max_loss) if vetoes else (True, ())
    if not passed:
        return _refused((f"{comparison}. But the test split refuses it.",), (*gate, *veto))
    return Decision(outcome="promoted", reasons=(f"{comparison}.",), on_test=(*gate, *veto))


def _gate(challenger: RegisteredModel, least: float) -> tuple[bool, tuple[str, ...]]:
    """Whether the test AUROC is surely high enough, and why."""
    who, test = name(challenger), challenger.scores.test.auroc
    floor = f"the lower end of its test AUROC's 95 % interval must be at least {least:.3f}"
    if test.value is None:
        return False, (f"{who} has no test AUROC: {floor}. Does the test split have studies of both labels?",)
    if test.low is None and least > 0:
        return False, (
            f"{who} has a test AUROC of {test.value:.3f} from too few patients for an interval: {floor}. The test "
            f"split needs {FEWEST_PATIENTS} patients with normal studies and {FEWEST_PATIENTS} with abnormal ones.",
        )
    if test.low is not None and not test.low >= least:
        return False, (f"{who} has a test AUROC of {test}: {floor}.",)
    reached = f"its lower end is at least {least:.3f}" if least > 0 else "no floor is set for it"
    return True, (f"{who} has a test AUROC of {test}; {reached}.",)


def _loss(champion: RegisteredModel, challenger: RegisteredModel, most: float) -> tuple[bool, tuple[str, ...]]:
    """Whether the test AUROC is not much below the champion's, and why."""
    test, held = challenger.scores.test.auroc.value, champion.scores.test.auroc.value
    if held is None or test is None:
        return False, (f"The champion, {name(champion)}, has no test AUROC to compare with. Evaluate it again.",)
    loss = held - test
    words = f"Its test AUROC of {test:.4f} is {abs(loss):.4f} {'below' if loss > 0 else 'above'} the champion's"
    if loss > most + _ROUNDING:
        return False, (f"{words}, more than the {most:.4f} allowed.",)
    return True, (f"{words}.",)


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


def _refused(reasons: tuple[str, ...], on_test: tuple[str, ...] = ()) -> Decision:
    return Decision(outcome="refused", reasons=reasons, on_test=on_test)


def _too_little(min_gain: float) -> str:
    return f"less than the {min_gain:.4f} required" if min_gain > 0 else "and it must be more than 0"


def name(model: RegisteredModel) -> str:
    """A version as people write it: `VGG-16 version 3`."""
    return f"{title(model.candidate, model.architecture)} version {model.version}"
