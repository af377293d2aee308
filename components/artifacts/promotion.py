"""The receipt for a decision."""

from typing import Any, Literal

from pydantic import Field

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.registration import Comparison, Opened, RegisteredModel, VersionComparison
from components.base.errors import GateRefused, MuraError

REPORT = "report.html"


class Question(Facts):
    """All that a decision rests on. Who keeps it can decide again."""

    champion: RegisteredModel | None
    """The version that holds the alias; None if there is none."""
    challenger: RegisteredModel
    """The best candidate on tuning."""
    reference: RegisteredModel | None = None
    """The first champion of all, which losses are also measured from; None if there was none."""
    protocol: dict[str, Any]
    """The rules: the section `protocol` that the challenger was measured under."""
    against_champion: VersionComparison | None = None
    """The challenger minus the champion; None if nobody compared them."""
    against_reference: VersionComparison | None = None
    """The challenger minus the reference; None if nobody compared them."""
    challenger_fault: str | None = None
    """Why the challenger's files or signature cannot be trusted; None if they can."""
    champion_fault: str | None = None
    """The same of the champion."""
    replay_fault: str | None = None
    """What the challenger answers otherwise than when it was registered; None if nothing."""
    taken_back: str | None = None
    """Who took the challenger back and why, in a sentence; None if nobody did, or a person asks for it by number."""
    first: bool = False
    """Whether somebody asked to begin anew: the challenger is compared with nobody."""
    back: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether an earlier champion gets the alias back: it is compared with nobody, too."""
    gone: str | None = None
    """What happened to the champion behind the audit's back, in a sentence; None if nothing."""


class Criterion(Facts):
    """One thing that a decision asks."""

    name: str
    """Short, such as `AUROC against the champion`."""
    passed: bool | None
    """None: it decides nothing. It is a warning, or was not asked; the words say which."""
    words: str
    """A sentence with the figures."""
    split: Literal["tuning", "test", ""] = ""
    """Whose figures they are; empty if of none."""
    warning: bool = False
    """Whether people should look at it, although it decides nothing."""


class Decision(Facts):
    """Whether the challenger takes the champion's place, and why."""

    outcome: Literal["promoted", "kept", "refused", "trial"]
    """kept: the champion stays because nothing better came; refused: the challenger may not be promoted; trial: this is
    an experiment of DVC's, which asks and changes no registry."""
    reasons: tuple[str, ...]
    """Without numbers of the test split."""
    on_test: tuple[str, ...] = ()
    """The reasons that have them."""
    criteria: tuple[Criterion, ...] = ()
    """Everything that was asked, in the order of the page."""

    @property
    def promote(self) -> bool:
        """Whether the alias moves."""
        return self.outcome == "promoted"


class PromotionFacts(Facts):
    """The decision, who took part, and who holds the alias now."""

    alias: str
    decision: Decision
    challenger: RegisteredModel | None
    """None in a trial, like everything that follows."""
    previous: RegisteredModel | None
    current: RegisteredModel | None
    candidates: tuple[RegisteredModel, ...]
    question: Provenance[Question | None] = None
    """What was decided; None of a trial."""
    opened: Provenance[Opened | None] = None
    """The use of the test split, from the receipt of `register`."""
    comparison: Provenance[Comparison | None] = None
    """The challenger minus the version that held the alias before, from the receipt of `register`; None if it has none:
    they are the same, or the alias has moved since."""


class Promotion(Artifact[PromotionFacts]):
    """The alias points where the receipt says. A trial's receipt says nothing of the alias.

    promotion/
        card.json       the receipt
        report.html     the decision, what it rests on, and the versions before and after, for people
        plots/          operating_points.png and forest.png, the candidates on the tuning split, for `dvc plots`;
                        of a trial: trial.png, which says so
    """

    FACTS = PromotionFacts
    STEP = "promote"
    CONTENT = ()

    def verdict(self) -> MuraError | None:
        """A refusal: the receipt is kept, and the command fails."""
        decision, challenger = self.facts.decision, self.facts.challenger
        if decision.outcome != "refused" or challenger is None:
            return None
        reasons = " ".join((*decision.reasons, *decision.on_test))
        return GateRefused(f"promote: {challenger.candidate} is refused: {reasons}")
