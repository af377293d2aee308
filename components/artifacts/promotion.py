"""The receipt for a decision."""

from typing import Literal

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.registration import Opened, RegisteredModel
from components.base.errors import GateRefused, MuraError

REPORT = "report.html"


class Decision(Facts):
    """Whether the challenger takes the champion's place, and why."""

    outcome: Literal["promoted", "kept", "refused", "trial"]
    """kept: the champion stays because nothing better came; refused: the challenger may not be promoted; trial: this is
    an experiment of DVC's, which asks and changes no registry."""
    reasons: tuple[str, ...]
    """Without numbers of the test split."""
    on_test: tuple[str, ...] = ()
    """The reasons that have them."""

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
    opened: Provenance[Opened | None] = None
    """The use of the test split, from the receipt of `register`."""


class Promotion(Artifact[PromotionFacts]):
    """The alias points where the receipt says. A trial's receipt says nothing of the alias.

    promotion/
        card.json       the receipt
        report.html     the decision and the candidates side by side, for people
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
