"""What the gate lets through: worse models, and many promotions in a row, on drawn patients.

    python -m benchmarks.gate [--histories 400] [--decisions 400] [--json]

Two sizes: that of MURA with the rules of params.mura.yaml, and that of the demonstration with those of params.yaml. The
scores of models are drawn, alike from model to model and from study to study of a patient. The rules are those of
`components.promote.decision.decide`, the intervals those of `components.scores.paired`. All challengers pass the
floors: only what compares is measured.

1. Decisions: how often a challenger is promoted that is as good as the champion, or worse by 0.02 or by 0.05; and how
   often it passes the veto of the test split alone. Beside it, how often Cohen's kappa would pass such a margin.
2. Histories: 20 challengers in a row, on the same patients. Each is as good as the champion of the moment, exactly or
   on average, or always a little worse. The loss of the last champion against the first one is to stay within the
   margin in 95 % of histories. Where it does not, the command ends with 1.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from components.artifacts.evaluation import Confusion, Interval, Scores, SplitScores
from components.artifacts.promotion import Question
from components.artifacts.registration import Difference, GateFigures, RegisteredModel, VersionComparison
from components.params.document import read_params
from components.promote.decision import LOSS, decide
from components.scores import paired
from components.scores.influence import Samples
from components.scores.intervals import Limits
from components.scores.studies import Array, sigmoid

ROOT = Path(__file__).parents[1]
AUROC = 0.88
"""Of the first champion."""
SHARED = 0.73
"""Correlation of two models' scores given the label: at MURA's size, a difference has a standard error of 0.0075."""
OF_A_PATIENT = 0.5
"""Correlation of two studies of a patient: of the scores given the labels, and of what makes the labels."""
STUDIES = (0.62, 0.26, 0.09, 0.03)
"""Share of patients with 1, 2, 3 and 4 studies, as in MURA's test set: 1,199 studies of 783 patients."""
STEPS = 20
LOSSES = (0.0, 0.02, 0.05)
GOAL = 0.95
AT_ONCE = 100
"""Histories: some 50 arrays of 8 bytes for each study are alive."""


class Size(NamedTuple):
    """A data set and its rules."""

    name: str
    params: str
    test: int
    """Number of patients."""
    tuning: int
    prevalence: float

    @property
    def protocol(self) -> dict[str, object]:
        """The rules."""
        return read_params(ROOT / self.params).protocol.model_dump(mode="json")


class Drift(NamedTuple):
    """How the true AUROC of a challenger differs from that of the champion."""

    name: str
    mean: float
    deviation: float


SIZES = (Size("MURA", "params.mura.yaml", 783, 1118, 0.45), Size("demonstration", "params.yaml", 130, 98, 0.5))
DRIFTS = (
    Drift("as good", 0.0, 0.0),
    Drift("as good on average", 0.0, 0.01),
    Drift("worse by 0.005", -0.005, 0.0),
    Drift("worse by 0.01", -0.01, 0.0),
    Drift("worse by 0.02", -0.02, 0.0),
)


@dataclass
class Split:
    """The same patients for all models, in many draws."""

    abnormal: Array
    """float64 [D, S]"""
    patient: Array
    """int64 [S]"""
    common: Array
    """float64 [D, S], what all models see."""

    @classmethod
    def draw(cls, draws: int, patients: int, prevalence: float, random: np.random.Generator) -> "Split":
        """Draw patients and their labels."""
        counts = np.round(np.array(STUDIES) * patients).astype(int)
        counts[0] += patients - counts.sum()
        patient = np.repeat(np.arange(patients), np.repeat(np.arange(1, 5), counts))

        def alike() -> Array:
            of_patient = random.standard_normal((draws, patients))[:, patient]
            own = random.standard_normal((draws, len(patient)))
            return np.asarray(np.sqrt(OF_A_PATIENT) * of_patient + np.sqrt(1 - OF_A_PATIENT) * own)

        return cls((alike() < ndtri(prevalence)).astype(np.float64), patient, alike())

    def scores(self, auroc: Array, random: np.random.Generator) -> Array:
        """Probabilities that a new model of a true AUROC, float64 [D], gives; float64 [D, S]."""
        distance = np.sqrt(2) * ndtri(auroc)[:, None]
        own = random.standard_normal(self.common.shape)
        seen = np.sqrt(SHARED) * self.common + np.sqrt(1 - SHARED) * own
        return sigmoid(distance * (self.abnormal - 0.5) + seen)

    def samples(self, scores: Array) -> Samples:
        """As metrics take them."""
        draws, studies = scores.shape
        return Samples(
            abnormal=self.abnormal,
            probability=scores,
            weight=np.ones((draws, studies)),
            patient=np.broadcast_to(self.patient, (draws, studies)),
            n_patients=int(self.patient.max()) + 1,
            threshold=np.full((draws, 1), 0.5),
        )


@dataclass
class Models:
    """One model of each draw, as both splits see it."""

    auroc: Array
    """float64 [D], the truth."""
    tuning: Array
    """float64 [D], AUROC on tuning."""
    test: Array
    """float64 [D, S], scores."""
    number: Array
    """int64 [D], its version."""

    def replaced(self, others: "Models", where: Array) -> "Models":
        """Those of other models in some draws, bool [D]."""
        return Models(
            np.where(where, others.auroc, self.auroc),
            np.where(where, others.tuning, self.tuning),
            np.where(where[:, None], others.test, self.test),
            np.where(where, others.number, self.number),
        )


@dataclass
class World:
    """Patients of both splits, and the rules."""

    size: Size
    tuning: Split
    test: Split
    random: np.random.Generator

    @classmethod
    def draw(cls, size: Size, draws: int, random: np.random.Generator) -> "World":
        """Draw patients."""
        tuning, test = (Split.draw(draws, each, size.prevalence, random) for each in (size.tuning, size.test))
        return cls(size, tuning, test, random)

    def models(self, auroc: Array, number: int) -> Models:
        """New models of true AUROCs, float64 [D]."""
        seen = self.tuning.samples(self.tuning.scores(auroc, self.random))
        return Models(auroc, seen.area[0], self.test.scores(auroc, self.random), np.full(len(auroc), number))

    def differences(self, one: Models, other: Models) -> dict[str, Limits]:
        """Of each metric on test, with paired intervals."""
        return paired.limits(self.test.samples(one.test), self.test.samples(other.test))

    def decided(self, challenger: Models, champion: Models, reference: Models) -> tuple[Array, Array]:
        """Whether each challenger is promoted, and whether the comparison with the champion passes; bool [D]."""
        against = [self.differences(challenger, each) for each in (champion, reference)]
        protocol, promoted, passed = self.size.protocol, [], []
        for row in range(len(challenger.auroc)):
            one, held, first = (_version(each, row) for each in (challenger, champion, reference))
            found = decide(
                Question(
                    champion=held,
                    challenger=one,
                    reference=first,
                    protocol=protocol,
                    against_champion=_comparison(one, held, against[0], row),
                    against_reference=_comparison(one, first, against[1], row),
                )
            )
            promoted.append(found.promote)
            passed.append(next(each.passed for each in found.criteria if each.name == LOSS))
        return np.array(promoted), np.array(passed)


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--histories", type=int, default=400, help="of each kind")
    parser.add_argument("--decisions", type=int, default=400, help="of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args()
    began = time.perf_counter()
    found = {
        size.name: {
            "margin": size.protocol["max_loss"],
            "decisions": {f"{loss:.2f}": decisions(size, loss, args.decisions) for loss in LOSSES},
            "histories": {drift.name: histories(size, drift, args.histories) for drift in DRIFTS},
        }
        for size in SIZES
    }
    if args.json:
        print(json.dumps(found))
    else:
        _tables(found)
        print(f"\n{time.perf_counter() - began:.0f} s")
    sys.exit(0 if reached(found) else 1)


def decisions(size: Size, loss: float, repetitions: int, seed: int = 1) -> dict[str, float]:
    """How often a challenger is promoted whose true AUROC is below the champion's, as shares of all.

    Args:
        size: the data set.
        loss: in AUROC.
        repetitions: of the draw.
        seed: of the draws.
    """
    random, parts = np.random.default_rng(seed), []
    for draws in _chunks(repetitions):
        world = World.draw(size, draws, random)
        champion = world.models(np.full(draws, AUROC), 1)
        challenger = world.models(champion.auroc - loss, 2)
        promoted, passed = world.decided(challenger, champion, champion)
        kappa = world.differences(challenger, champion)["cohen_kappa"]
        margin = float(str(size.protocol["max_loss"]))
        parts.append(np.array([promoted, passed, kappa.low > -margin], dtype=np.float64))
    shares = np.concatenate(parts, axis=1).mean(axis=1)
    return dict(zip(("promoted", "passes the veto", "would pass with kappa"), map(float, shares), strict=True))


def histories(size: Size, drift: Drift, repetitions: int, seed: int = 2) -> dict[str, float]:
    """What many challengers in a row do to the champion.

    Args:
        size: the data set.
        drift: of the challengers.
        repetitions: number of histories.
        seed: of the draws.

    Returns:
        Share of histories whose loss against the first champion is within the margin, promotions in a history, and mean
        and 95 % quantile of the loss.
    """
    random, losses, promotions = np.random.default_rng(seed), [], 0
    for draws in _chunks(repetitions):
        world = World.draw(size, draws, random)
        reference = champion = world.models(np.full(draws, AUROC), 1)
        for step in range(STEPS):
            change = random.normal(drift.mean, drift.deviation, draws)
            challenger = world.models(np.clip(champion.auroc + change, 0.5, 0.999), step + 2)
            promoted, _ = world.decided(challenger, champion, reference)
            champion = champion.replaced(challenger, promoted)
            promotions += int(promoted.sum())
        losses.append(reference.auroc - champion.auroc)
    lost = np.concatenate(losses)
    return {
        "within the margin": float(np.mean(lost <= float(str(size.protocol["max_loss"])))),
        "promotions": promotions / repetitions,
        "mean loss": float(lost.mean()),
        "95 % of losses below": float(np.quantile(lost, 0.95)),
    }


def reached(found: dict[str, dict[str, object]]) -> bool:
    """Whether enough histories stay within the margin, of every size and kind."""
    kept = [
        each["within the margin"]
        for of_size in found.values()
        if isinstance(kinds := of_size["histories"], dict)
        for each in kinds.values()
    ]
    return all(share >= GOAL for share in kept)


def _chunks(repetitions: int) -> Iterator[int]:
    while repetitions > 0:
        yield min(AT_ONCE, repetitions)
        repetitions -= AT_ONCE


def _split(auroc: float, n: int) -> SplitScores:
    high = Interval(value=0.9, low=0.88, high=0.92)
    own = Interval(value=auroc, low=max(auroc - 0.02, 0), high=min(auroc + 0.02, 1))
    return SplitScores(
        auroc=own, average_precision=high, cohen_kappa=high, sensitivity=high, specificity=high, ppv=high, npv=high,
        f1=high, brier=high, n_studies=n, n_abnormal=n // 2, n_patients=n,
        confusion=Confusion(true_positive=n // 2, false_positive=0, true_negative=n - n // 2, false_negative=0),
    )  # fmt: skip


FIGURES = GateFigures(
    abnormal_patients=100, normal_patients=100, parts={}, expected_error=0.0, expected_error_by_chance=0.0
)


def _version(models: Models, row: int) -> RegisteredModel:
    """The model of a draw, as the registry has it. It passes the floors."""
    number = int(models.number[row])
    tuning = float(models.tuning[row])
    scores = Scores(
        tuning=_split(tuning, 100), test=_split(0.9, 100), threshold=0.5, tuning_digest="tuning", test_digest="test"
    )
    return RegisteredModel(
        model="mura", version=number, run_id="run", candidate="drawn", architecture="drawn",
        model_digest=f"model {number}", evaluation_digest=f"evaluation {number}", data_digest="data",
        code_revision="code", training_seconds=1.0, gate=FIGURES, scores=scores,
    )  # fmt: skip


def _comparison(one: RegisteredModel, other: RegisteredModel, found: dict[str, Limits], row: int) -> VersionComparison:
    of_row = {
        name: Limits(*(each[row : row + 1] for each in found[name])).interval() for name in Difference.model_fields
    }
    difference = Difference(**of_row)
    return VersionComparison(version=one.version, other=other.version, tuning=difference, test=difference)


def _tables(found: dict[str, dict[str, object]]) -> None:
    for kind, of_what in (("decisions", "worse by"), ("histories", "challengers are")):
        rows = [
            (f"{size} (margin {of_size['margin']})", name, each)
            for size, of_size in found.items()
            if isinstance(kinds := of_size[kind], dict)
            for name, each in kinds.items()
        ]
        head = ("size", of_what, *rows[0][2])
        print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        for size, name, each in rows:
            print("| " + " | ".join((size, name, *(f"{value:.3f}" for value in each.values()))) + " |")


if __name__ == "__main__":
    main()
