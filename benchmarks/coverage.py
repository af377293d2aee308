"""How often the 95 % intervals hold the truth, on drawn patients.

    python -m benchmarks.coverage [--repetitions 2000] [--bootstrap 100] [--cells] [--json]

A grid: AUROC 0.75, 0.9 and 0.98; correlation 0 and 0.5 within a patient; 783, 130 and 30 patients; 0.02, 0.1, 0.25 and
0.5 of the studies abnormal. In each cell patients are drawn anew many times, and every interval is computed by the code
that measures models. The table tells by metric, over the cells, the mean and the lowest share of intervals that hold
the true value, the share of repetitions without an interval (too few patients), and the mean width. A cell counts where
at least one repetition in twenty has an interval. The percentile bootstrap over patients stands beside it, from fewer
repetitions, and only where our rule gives an interval.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from benchmarks import percentile
from components.scores import intervals, paired
from components.scores.influence import Samples
from components.scores.intervals import Limits
from components.scores.studies import Array

AUROCS = (0.75, 0.9, 0.98)
CORRELATIONS = (0.0, 0.5)
PATIENTS = (783, 130, 30)
PREVALENCES = (0.02, 0.1, 0.25, 0.5)
# 1, 2, 3 and 4 studies of a patient. The mean, 1.53, is that of MURA's test set: 1,199 studies of 783 patients.
STUDIES = (0.62, 0.26, 0.09, 0.03)
# Two other models on the same studies: a worse one, and a twin as good.
WORSE = {0.75: 0.70, 0.9: 0.87, 0.98: 0.965}
# Correlation of the scores of the models, given the label: of two networks, and of two runs of one network.
SHARED, SHARED_BY_TWINS = 0.6, 0.9
# Studies at once: some 50 arrays of 8 bytes each are alive.
CHUNK = 600_000
# Quantiles of each class that give the true values.
QUANTILES = 50_000
LEAST_SHARE = 0.05
# Of the true values.
ROUNDING = 1e-6


class Cell(NamedTuple):
    """One place of the grid."""

    auroc: float
    correlation: float
    """Of two studies of a patient: of the scores given the labels, and of what makes the labels (tetrachoric)."""
    patients: int
    prevalence: float


class Found(NamedTuple):
    """How the intervals of a metric did in a cell."""

    repetitions: int
    intervals: int
    """The rest has too few patients."""
    held: int
    """Intervals that hold the truth."""
    width: float
    """Mean of the intervals."""

    @property
    def coverage(self) -> float:
        """Share of the intervals that hold the truth."""
        return self.held / self.intervals if self.intervals else float("nan")


class Summary(NamedTuple):
    """A metric over the cells."""

    mean: float
    worst: float
    where: Cell
    """The worst."""
    cells: int
    """That count."""
    refused: float
    """Share of all repetitions without an interval."""
    width: float


@dataclass(frozen=True)
class World:
    """Two normal distributions of scores, and a model that knows them: its probabilities are calibrated."""

    auroc: float
    prevalence: float

    @property
    def distance(self) -> float:
        """Of the means, in standard deviations."""
        return float(np.sqrt(2) * ndtri(self.auroc))

    def probability(self, score: Array) -> Array:
        """Of abnormality, given the score."""
        odds = self.distance * score - self.distance**2 / 2 + logit(self.prevalence)
        return np.asarray(expit(odds))

    @property
    def threshold(self) -> float:
        """The probability with the best kappa. It is fixed: in a study it is chosen on other patients."""
        score = np.linspace(-4, 8, 2401)
        found = self.prevalence * ndtr(self.distance - score)
        called = found + (1 - self.prevalence) * ndtr(-score)
        chance = self.prevalence * called
        kappa = 2 * (found - chance) / (self.prevalence + called - 2 * chance)
        return float(self.probability(score[[np.argmax(kappa)]])[0])


@cache
def truth(world: World) -> dict[str, float]:
    """The true value of every metric: of 100,000 studies at the quantiles of their distributions."""
    score = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    weight = np.repeat([1 - world.prevalence, world.prevalence], QUANTILES)
    samples = Samples(
        abnormal=np.repeat([[0.0, 1.0]], QUANTILES, axis=1),
        probability=world.probability(np.concatenate([score, score + world.distance]))[None],
        weight=weight[None],
        patient=np.zeros((1, 2 * QUANTILES), np.int64),
        n_patients=1,
        threshold=np.array([[world.threshold]]),
    )
    return {name: float(method.limits(samples).value[0]) for name, method in intervals.METHODS.items()}


def draw(cell: Cell, worlds: Sequence[tuple[World, float]], rows: int, random: np.random.Generator) -> list[Samples]:
    """Draw patients with their studies, as several models see them.

    Args:
        cell: what to draw.
        worlds: each model's, with the correlation of its scores with those of the first.
        rows: how many samples.
        random: draws.
    """
    sizes = random.choice(len(STUDIES), size=(rows, cell.patients), p=STUDIES) + 1
    n = sizes.sum(axis=1)
    row = np.repeat(np.arange(rows), n)
    place = np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n)
    patient = np.repeat(np.tile(np.arange(cell.patients), rows), sizes.ravel())

    def normal() -> Array:
        """A standard normal number for each study, correlated within patients."""
        between = random.standard_normal((rows, cell.patients))[row, patient]
        within = random.standard_normal(len(row))
        drawn: Array = np.sqrt(cell.correlation) * between + np.sqrt(1 - cell.correlation) * within
        return drawn

    def filled(studies: Array) -> Array:
        whole = np.zeros((rows, n.max()), studies.dtype)
        whole[row, place] = studies
        return whole

    abnormal = (normal() < ndtri(cell.prevalence)).astype(np.float64)
    first = normal()
    columns = {"abnormal": filled(abnormal), "weight": filled(np.ones(len(row))), "patient": filled(patient)}
    drawn = []
    for number, (world, shared) in enumerate(worlds):
        noise = first if number == 0 else shared * first + np.sqrt(1 - shared**2) * normal()
        probability = filled(world.probability(world.distance * abnormal + noise))
        threshold = np.full((rows, 1), world.threshold)
        drawn.append(Samples(probability=probability, n_patients=cell.patients, threshold=threshold, **columns))
    return drawn


def main() -> None:
    """Draw, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=2000, help="of each cell [default: %(default)s]")
    parser.add_argument("--bootstrap", type=int, default=100, help="and of the bootstrap [default: %(default)s]")
    parser.add_argument("--draws", type=int, default=400, help="of each bootstrap [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cells", action="store_true", help="print every cell, too")
    parser.add_argument("--json", action="store_true", help="one object instead of tables")
    flags = parser.parse_args()
    started = time.perf_counter()
    random = np.random.default_rng(flags.seed)
    found: dict[str, dict[Cell, Found]] = {}
    old: dict[str, dict[Cell, Found]] = {}
    for cell in grid():
        for name, counted in measure(cell, flags.repetitions, random).items():
            found.setdefault(name, {})[cell] = counted
        for name, counted in measure_bootstrap(cell, flags.bootstrap, flags.draws, random).items():
            old.setdefault(name, {})[cell] = counted
    rows, before = ({name: summary(cells) for name, cells in each.items()} for each in (found, old))
    seconds = round(time.perf_counter() - started)
    if flags.json:
        print(json.dumps({"repetitions": flags.repetitions, "seconds": seconds, "metrics": rows, "bootstrap": before}))
        return
    if flags.cells:
        for name, cells in found.items():
            for cell, counted in cells.items():
                print(name, *cell, counted.intervals, f"{counted.coverage:.3f}", sep="\t")
    print(f"{len(grid())} cells of {flags.repetitions:,} repetitions, {seconds} s")
    _table(rows, before)


def grid() -> list[Cell]:
    """All cells."""
    return [Cell(*each) for each in product(AUROCS, CORRELATIONS, PATIENTS, PREVALENCES)]


def measure(cell: Cell, repetitions: int, random: np.random.Generator) -> dict[str, Found]:
    """How the intervals of every metric, and of differences of two pairs of models, do in a cell."""
    world, worse = World(cell.auroc, cell.prevalence), World(WORSE[cell.auroc], cell.prevalence)
    true, true_of_worse = truth(world), truth(worse)
    counts: dict[str, list[Found]] = {}
    for rows in _chunks(cell, repetitions):
        one, twin, other = draw(cell, [(world, SHARED), (world, SHARED_BY_TWINS), (worse, SHARED)], rows, random)
        for name, found in intervals.limits(one).items():
            counts.setdefault(name, []).append(_count(found, true[name]))
        for name, found in paired.limits(one, other).items():
            counts.setdefault(f"{name}, difference", []).append(_count(found, true[name] - true_of_worse[name]))
        for name, found in paired.limits(one, twin).items():
            counts.setdefault(f"{name}, difference to a twin", []).append(_count(found, 0))
    return {name: _together(parts) for name, parts in counts.items()}


def measure_bootstrap(cell: Cell, repetitions: int, draws: int, random: np.random.Generator) -> dict[str, Found]:
    """How the percentile bootstrap does in a cell, where there is an interval by our rule."""
    if not repetitions:
        return {}
    world = World(cell.auroc, cell.prevalence)
    true = truth(world)
    (samples,) = draw(cell, [(world, SHARED)], repetitions, random)
    ours = intervals.limits(samples)
    ends = {name: np.full((2, repetitions), np.nan) for name in ours}
    for row in range(repetitions):
        here = samples.weight[row] > 0
        columns = (samples.abnormal[row][here], samples.probability[row][here], samples.patient[row][here])
        for name, both in percentile.intervals(*columns, world.threshold, draws, random).items():
            ends[name][:, row] = both
    found = {name: Limits(ours[name].value, *np.where(np.isnan(ours[name].low), np.nan, ends[name])) for name in ours}
    return {name: _count(each, true[name]) for name, each in found.items()}


def summary(cells: Mapping[Cell, Found]) -> Summary | None:
    """A metric over the cells that count; None if there is none."""
    counted = {cell: found for cell, found in cells.items() if found.intervals >= LEAST_SHARE * found.repetitions}
    if not counted:
        return None
    where = min(counted, key=lambda cell: counted[cell].coverage)
    return Summary(
        mean=float(np.mean([found.coverage for found in counted.values()])),
        worst=counted[where].coverage,
        where=where,
        cells=len(counted),
        refused=1
        - sum(found.intervals for found in cells.values()) / sum(found.repetitions for found in cells.values()),
        width=float(np.mean([found.width for found in counted.values()])),
    )


def _count(found: Limits, true: float) -> Found:
    """Count the intervals that hold the truth, to rounding."""
    there = ~np.isnan(found.low)
    held = there & (found.low <= true + ROUNDING) & (found.high >= true - ROUNDING)
    width = float(np.mean((found.high - found.low)[there])) if there.any() else 0.0
    return Found(len(there), int(there.sum()), int(held.sum()), width)


def _together(parts: Sequence[Found]) -> Found:
    there = sum(part.intervals for part in parts)
    width = sum(part.width * part.intervals for part in parts) / max(there, 1)
    return Found(sum(part.repetitions for part in parts), there, sum(part.held for part in parts), width)


def _chunks(cell: Cell, repetitions: int) -> Iterator[int]:
    """Repetitions at once: so many that they fit into the memory of a laptop."""
    most = max(1, CHUNK // cell.patients)
    while repetitions > 0:
        yield min(most, repetitions)
        repetitions -= most


def _table(rows: Mapping[str, Summary | None], old: Mapping[str, Summary | None]) -> None:
    head = ("metric", "mean", "worst", "of cells", "worst is", "no interval", "width", "bootstrap: mean", "worst")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, row in rows.items():
        other = old.get(name)
        before = (f"{other.mean:.1%}", f"{other.worst:.1%}") if other else ("", "")
        if row:
            where = ", ".join(f"{each:g}" for each in row.where)
            cells = (f"{row.mean:.1%}", f"{row.worst:.1%}", row.cells, where, f"{row.refused:.0%}", f"{row.width:.3f}")
            print("| " + " | ".join(map(str, (name, *cells, *before))) + " |")


if __name__ == "__main__":
    main()
