"""Decide whether the best candidate becomes the champion. Nothing is read or written here.

Each rule gives one criterion, with its figures. The outcome follows from the criteria in their order: `decide`.
"""

from collections.abc import Iterator

from components.artifacts.evaluation import FEWEST_PATIENTS, METRIC_TITLES, Interval
from components.artifacts.promotion import Criterion, Decision, Question
from components.artifacts.registration import RegisteredModel, VersionComparison
from components.base.words import in_words
from components.params.protocol import ProtocolParams
from components.params.train import title

# Names of criteria. Pages show them.
CHAMPION = "Champion in its place"
FILES = "Files and signature"
GOLDEN = "Golden set"
TAKEN_BACK = "Not taken back"
PATIENTS = "Patients of each class"
AUROC_FLOOR = "AUROC, floor"
SENSITIVITY_FLOOR = "Sensitivity, floor"
CALIBRATION = "Calibration, ceiling"
SAME_STUDIES = "The same studies"
GAIN = "Gain over the champion"
LOSS = "AUROC against the champion"
TOTAL_LOSS = "AUROC against the reference"
PARTS = "Studies of each body part"
KAPPA = "Cohen's kappa"

TRUST = (CHAMPION, FILES, GOLDEN, TAKEN_BACK)
"""What is asked before anything is measured."""
FLOORS = (PATIENTS, AUROC_FLOOR, SENSITIVITY_FLOOR, CALIBRATION)
"""What a version must reach alone, whoever the champion is."""

# Scores are sums of floats: 0.3 - 0.2 is less than 0.1 by 1e-17. One study changes a score by far more.
_ROUNDING = 1e-9
_ANEW = "begin anew with `mura promote --first`: the challenger must pass the floors, and is compared with nobody"
# Which `evaluate` refuses: the studies that test one model may have trained the other.
_ELSEWHERE = f"A model is measured on the data that it was trained with. To go on, {_ANEW}"


def decide(question: Question) -> Decision:
    """Decide whether the challenger takes the champion's place, and say why.

    Versions are compared on the tuning split, like the candidates before. The test split can only veto: if it chose,
    the test scores of the chosen model would be too good. The order of the rules:

    1. What cannot be trusted is refused: a champion that is not where the audit left it, files, answers.
    2. The champion itself, and the same network once more, change nothing.
    3. Below a floor, or measured on other studies than the champion: refused.
    4. Not better than the champion on tuning: the champion is kept.
    5. Worse than the champion or the reference on test by more than the margin: refused.

    A champion whose files are lost is no use to anybody, but a worse model does not take its place by itself: its files
    may be back soon.

    Args:
        question: all that the decision rests on.

    Raises:
        ValueError: the protocol is not one that this version knows.
    """
    protocol = ProtocolParams.model_validate(question.protocol)
    criteria = tuple(_criteria(question, protocol))
    failed = {each.name: each for each in criteria if each.passed is False}
    who, champion, lost = name(question.challenger), _champion(question), _lost(question)
    if untrusted := [failed[each] for each in TRUST if each in failed]:
        return _refused(criteria, untrusted)
    if champion is not None and (known := _known(question.challenger, champion)) and not lost:
        return Decision(outcome="kept", reasons=(known,), criteria=criteria)
    below = [each for each in criteria if each.name in (*FLOORS, SAME_STUDIES) and each.passed is False]
    if below:
        return _refused(criteria, below, *lost, f"{who} does not pass the gate.")
    by_name = {each.name: each for each in criteria}
    gain = by_name[GAIN]
    if gain.passed is False:
        if lost:
            remedy = "Register the champion's model again, restore its files, or promote with --first."
            return _refused(criteria, [gain], *lost, after=(remedy,))
        if _measured(champion, protocol) is None or _measured(question.challenger, protocol) is None:
            return _refused(criteria, [gain])
        return Decision(outcome="kept", reasons=(gain.words,), criteria=criteria)
    worse = [each for each in criteria if each.name in (LOSS, TOTAL_LOSS) and each.passed is False]
    if worse:
        return _refused(criteria, worse, *lost, f"{gain.words} But the test split refuses it.")
    told = [each.words for each in criteria if each.passed and each.name in (AUROC_FLOOR, LOSS, TOTAL_LOSS)]
    return Decision(outcome="promoted", reasons=(*lost, gain.words), on_test=tuple(told), criteria=criteria)


def name(model: RegisteredModel) -> str:
    """A version as people write it: `VGG-16 version 3`."""
    return f"{title(model.candidate, model.architecture)} version {model.version}"


def _criteria(question: Question, protocol: ProtocolParams) -> Iterator[Criterion]:
    """Everything that is asked, in the order of the page."""
    yield from _trust(question)
    if protocol.test_role == "veto":
        yield from _floors(question.challenger, protocol)
    else:
        words = "The test split is only reported: the protocol says so."
        for each in FLOORS:
            yield Criterion(name=each, passed=None, words=words, split="test")
    yield from _tuning(question, protocol)
    yield from _losses(question, protocol)
    yield from _shown(question)


def _trust(question: Question) -> Iterator[Criterion]:
    who = name(question.challenger)
    if why := _alone(question):
        yield Criterion(name=CHAMPION, passed=None, words=f"Not asked: {why}.")
    elif question.gone:
        remedy = "Take a version back with `mura rollback --to VERSION`, or begin anew with `mura promote --first`."
        yield Criterion(name=CHAMPION, passed=False, words=f"{question.gone.rstrip('.')}. {remedy}")
    else:
        held = name(question.champion) if question.champion else "Nobody"
        yield Criterion(name=CHAMPION, passed=True, words=f"{held} holds the alias, as the audit says.")
    for each, fault, good in (
        (FILES, question.challenger_fault, "have the digests that were signed"),
        (GOLDEN, question.replay_fault, "answer the golden set as when it was registered"),
    ):
        words = f"The files of {who} {good}."
        if fault:
            words = f"{who} cannot be trusted: {fault.rstrip('.')}. Register its model again."
        yield Criterion(name=each, passed=not fault, words=words)
    yield Criterion(
        name=TAKEN_BACK, passed=not question.taken_back, words=question.taken_back or f"Nobody took {who} back."
    )


def _floors(challenger: RegisteredModel, protocol: ProtocolParams) -> Iterator[Criterion]:
    """What the challenger must reach on test, whoever the champion is."""
    who, test, figures = name(challenger), challenger.scores.test, challenger.gate
    unknown = (
        f"{who} was registered by an older version of this program, which did not count this. Run `mura "
        f"register --adopt {challenger.version}`, then promote the version that it makes."
    )
    most = protocol.min_patients
    if figures is None:
        yield Criterion(name=PATIENTS, passed=False, words=unknown, split="test")
    else:
        words = (
            f"The test split has {figures.abnormal_patients} patients with abnormal studies and "
            f"{figures.normal_patients} with normal ones; at least {most} of each are needed."
        )
        enough = min(figures.abnormal_patients, figures.normal_patients) >= most
        yield Criterion(name=PATIENTS, passed=enough, words=words, split="test")
    yield _floor(AUROC_FLOOR, f"{who} has a test AUROC", test.auroc, protocol.min_auroc)
    yield _floor(SENSITIVITY_FLOOR, f"{who} has a test sensitivity", test.sensitivity, protocol.min_sensitivity)
    if figures is None:
        yield Criterion(name=CALIBRATION, passed=False, words=unknown, split="test")
        return
    error, chance = figures.expected_error, figures.expected_error_by_chance
    excess, ceiling = error - chance, protocol.max_calibration_excess
    words = (
        f"{who} has an expected calibration error of {error:.3f} on test, {abs(excess):.3f} "
        f"{'more' if excess > 0 else 'less'} than chance gives in 1 of 20 draws ({chance:.3f}); at most {ceiling:.3f} "
        "more is allowed."
    )
    yield Criterion(name=CALIBRATION, passed=excess <= ceiling + _ROUNDING, words=words, split="test")


def _floor(criterion: str, what: str, found: Interval, least: float) -> Criterion:
    """Whether the lower end of an interval is high enough."""
    floor = f"the lower end of its 95 % interval must be at least {least:.3f}"
    if found.value is None:
        passed, words = False, f"{what} that is not defined: {floor}. Does the test split have studies of both labels?"
    elif least == 0:
        passed, words = True, f"{what} of {found}; no floor is set for it."
    elif found.low is None:
        passed = False
        words = (
            f"{what} of {found.value:.3f} from too few patients for an interval: {floor}. It needs {FEWEST_PATIENTS} "
            "test patients of each class."
        )
    else:
        passed, words = found.low >= least, f"{what} of {found}; {floor}."
    return Criterion(name=criterion, passed=passed, words=words, split="test")


def _tuning(question: Question, protocol: ProtocolParams) -> Iterator[Criterion]:
    """Whether the two can be compared, and whether the challenger is better on tuning."""
    challenger, champion, who = question.challenger, _champion(question), name(question.challenger)
    metric = f"{METRIC_TITLES[protocol.primary_metric]} on tuning"
    value = _measured(challenger, protocol)
    if champion is None:
        why = _nobody(question)
        yield Criterion(name=SAME_STUDIES, passed=None, words=why)
        if value is None:
            words = f"{who} has no {metric}, and candidates are ranked by it."
            yield Criterion(name=GAIN, passed=False, words=words, split="tuning")
        else:
            yield Criterion(name=GAIN, passed=None, words=why, split="tuning")
        return
    others = _other_studies(challenger, champion)
    words = f"{who} and the champion, {name(champion)}, were measured on the same tuning and test studies."
    if others:
        words = f"Not comparable: {who} and the champion, {name(champion)}, were measured on {others}. {_ELSEWHERE}."
    yield Criterion(name=SAME_STUDIES, passed=not others, words=words)
    bar = _measured(champion, protocol)
    if challenger.model_digest == champion.model_digest:
        yield Criterion(name=GAIN, passed=None, words=f"{_known(challenger, champion)}", split="tuning")
    elif value is None:
        words = f"{who} has no {metric}, and candidates are ranked by it."
        yield Criterion(name=GAIN, passed=False, words=words, split="tuning")
    elif bar is None:
        words = f"The champion, {name(champion)}, has no {metric} to compare with. Evaluate it again."
        yield Criterion(name=GAIN, passed=False, words=words, split="tuning")
    else:
        gain = value - bar
        passed = gain > _ROUNDING and gain >= protocol.min_gain - _ROUNDING
        words = (
            f"{metric}: {who} has {value:.4f}, the champion, {name(champion)}, has {bar:.4f}. The gain is {gain:+.4f}"
            f"{'' if passed else ', ' + _too_little(protocol.min_gain)}."
        )
        yield Criterion(name=GAIN, passed=passed, words=words, split="tuning")


def _losses(question: Question, protocol: ProtocolParams) -> Iterator[Criterion]:
    """Whether the challenger is surely not much worse on test than the champion, and than the reference."""
    champion, reference = _champion(question), None if _alone(question) else question.reference
    if champion is not None and reference is not None and reference.version == champion.version:
        reference, same = None, "The reference is the champion itself."
    else:
        same = _nobody(question) if _alone(question) else "There is no reference yet."
    for criterion, role, other, found, nobody in (
        (LOSS, "champion", champion, question.against_champion, _nobody(question)),
        (TOTAL_LOSS, "reference", reference, question.against_reference, same),
    ):
        if protocol.test_role == "report":
            yield Criterion(name=criterion, passed=None, words="The test split is only reported.", split="test")
        elif other is None:
            yield Criterion(name=criterion, passed=None, words=nobody, split="test")
        else:
            yield _loss(criterion, f"the {role}, {name(other)}", question.challenger, other, found, protocol.max_loss)


def _loss(  # Parameters: the two versions, what was found of them, how it is called, and the rule
    criterion: str,
    whom: str,
    challenger: RegisteredModel,
    other: RegisteredModel,
    found: VersionComparison | None,
    margin: float,
) -> Criterion:
    """Whether the lower end of the paired interval is above minus the margin: one-sided, at 2.5 %."""
    who = name(challenger)
    if challenger.model_digest == other.model_digest and not _other_studies(challenger, other):
        return Criterion(name=criterion, passed=True, words=f"{who} is the same network as {whom}.", split="test")
    rule = f"the lower end of the paired 95 % interval must be above {-margin:.4f}"
    difference = found.test if found else None
    if others := _other_studies(challenger, other):
        passed, words = False, f"Not comparable: {who} and {whom}, were measured on {others}. {_ELSEWHERE}."
    elif difference is None:
        why = " ".join(found.missing) if found and found.missing else "Nobody compared them."
        passed = False
        words = (
            f"Not comparable: there is no difference of {who} and {whom}, on the same patients. {why} Restore what is "
            f"lost, or {_ANEW}."
        )
    elif difference.auroc.value is None or difference.auroc.low is None or difference.auroc.high is None:
        passed = False
        words = f"Not comparable: the test AUROC of {who} and {whom}, rests on too few patients for an interval."
    else:
        value, low, high = difference.auroc.value, difference.auroc.low, difference.auroc.high
        passed = low > -margin
        words = f"The difference in test AUROC is {value:+.4f} ({low:+.4f} to {high:+.4f}) against {whom}; {rule}."
    return Criterion(name=criterion, passed=passed, words=words, split="test")


def _shown(question: Question) -> Iterator[Criterion]:
    """What is shown and decides nothing."""
    figures = question.challenger.gate
    few = {part: n for part, n in (figures.parts if figures else {}).items() if n < FEWEST_PATIENTS}
    if few:
        told = in_words([f"{n} of the {part}" for part, n in few.items()])
        words = f"The test split has only {told}. The gate does not know how good the version is there."
    elif figures:
        words = f"The test split has at least {FEWEST_PATIENTS} studies of each of its body parts."
    else:
        words = "An older version of this program, which did not count them, registered the version."
    yield Criterion(name=PARTS, passed=None, words=words, split="test", warning=bool(few))
    words = f"It is {question.challenger.scores.test.cohen_kappa} on test. It decides nothing."
    yield Criterion(name=KAPPA, passed=None, words=words, split="test")


def _champion(question: Question) -> RegisteredModel | None:
    """Whom the challenger is compared with."""
    return None if _alone(question) else question.champion


def _alone(question: Question) -> str:
    """Why the challenger is compared with nobody, whoever the champion is; empty if it is compared."""
    if question.first:
        return "somebody begins anew with --first"
    return "an earlier champion gets the alias back" if question.back else ""


def _nobody(question: Question) -> str:
    """Why there is no champion to compare with, in a sentence."""
    why = _alone(question)
    return f"Nobody is compared: {why}." if why else "There was no champion."


def _lost(question: Question) -> tuple[str, ...]:
    """That the champion cannot be loaded, if so."""
    champion = _champion(question)
    if champion is None or question.champion_fault is None or champion.version == question.challenger.version:
        return ()
    return (f"The champion, {name(champion)}, cannot be loaded: {question.champion_fault.rstrip('.')}.",)


def _known(challenger: RegisteredModel, champion: RegisteredModel) -> str:
    """That the challenger is nothing new; empty if it is."""
    who = name(challenger)
    if (champion.model, champion.version) == (challenger.model, challenger.version):
        return f"{who} is already the champion."
    if champion.model_digest == challenger.model_digest:
        return f"{who} is the same network as the champion, version {champion.version}."
    return ""


def _measured(model: RegisteredModel | None, protocol: ProtocolParams) -> float | None:
    return None if model is None else model.tuning(protocol.primary_metric).value


def _other_studies(one: RegisteredModel, other: RegisteredModel) -> str:
    """In what splits two versions were measured on different studies; empty if in none."""
    digests = {
        "test": (one.scores.test_digest, other.scores.test_digest),
        "tuning": (one.scores.tuning_digest, other.scores.tuning_digest),
    }
    found = [f"different {split} studies ({a[:12]} and {b[:12]})" for split, (a, b) in digests.items() if a != b]
    return in_words(found) if found else ""


def _refused(
    criteria: tuple[Criterion, ...], why: list[Criterion], *before: str, after: tuple[str, ...] = ()
) -> Decision:
    """A refusal, numbers of the test split apart from the other reasons."""
    reasons = tuple(each.words for each in why if each.split != "test")
    on_test = tuple(each.words for each in why if each.split == "test")
    return Decision(outcome="refused", reasons=(*before, *reasons, *after), on_test=on_test, criteria=criteria)


def _too_little(min_gain: float) -> str:
    return f"less than the {min_gain:.4f} required" if min_gain > 0 else "and it must be more than 0"
