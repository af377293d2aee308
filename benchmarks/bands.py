"""How often the pointwise bands of curves hold the true curve, on drawn patients.

    python -m benchmarks.bands [--repetitions 200] [--draws 300] [--json]

Patients, studies and a calibrated model are drawn as in `benchmarks.coverage`: AUROC 0.75, 0.9 and 0.98; correlation
0.5 within a patient; 783 and 130 patients; 0.1 and 0.45 of the studies abnormal. The table tells by curve and place on
it, over the cells, the mean and the lowest share of bands that hold the truth, and the mean width.
"""

import argparse
import json
import time
from itertools import product

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.coverage import SHARED, Cell, World, draw
from components.scores.bands import Band, bands
from components.scores.studies import Array, Studies, ratio

PLACES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
CELLS = [Cell(*each) for each in product((0.75, 0.9, 0.98), (0.5,), (783, 130), (0.1, 0.45))]


def main() -> None:
    """Draw, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=200, help="of each cell [default: %(default)s]")
    parser.add_argument("--draws", type=int, default=300, help="of each band [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    flags = parser.parse_args()
    started = time.perf_counter()
    random = np.random.default_rng(flags.seed)
    held, width = (np.empty((2, len(CELLS), len(PLACES))) for _ in range(2))
    for number, cell in enumerate(CELLS):
        held[:, number], width[:, number] = measure(cell, flags.repetitions, flags.draws, random)
    seconds = round(time.perf_counter() - started)
    if flags.json:
        print(json.dumps({"places": PLACES, "cells": CELLS, "held": held.tolist(), "width": width.tolist()}))
        return
    print(f"{len(CELLS)} cells of {flags.repetitions:,} repetitions, {seconds} s")
    print(f"| | {' | '.join(map(str, PLACES))} |\n|{'---|' * (len(PLACES) + 1)}")
    for curve, name in enumerate(("sensitivity by false-positive rate", "precision by sensitivity")):
        for what, values in (
            ("mean", np.nanmean(held[curve], axis=0)),
            ("worst", np.nanmin(held[curve], axis=0)),
            ("width", np.nanmean(width[curve], axis=0)),
        ):
            print(f"| {name}: {what} | {' | '.join(f'{each:.3f}' for each in values)} |")
    print(f"worst cell: {CELLS[int(np.nanmean(held, axis=(0, 2)).argmin())]}")


def measure(cell: Cell, repetitions: int, draws: int, random: np.random.Generator) -> tuple[Array, Array]:
    """The share of bands that hold the truth, and their mean width, float64 [2, places] each.

    NaN where no repetition has a band.
    """
    world = World(cell.auroc, cell.prevalence)
    (samples,) = draw(cell, [(world, SHARED)], repetitions, random)
    held, width, counted = (np.zeros((2, len(PLACES))) for _ in range(3))
    for row in range(repetitions):
        here = samples.weight[row] > 0
        names = samples.patient[row][here].astype(str)
        labels = samples.abnormal[row][here].astype(np.int64)
        found = bands(Studies(names, names, names, labels, samples.probability[row][here]), row, draws)
        if found is None:
            continue
        for curve, (band, true) in enumerate(zip(found, truth(world), strict=True)):
            low, high = at(band)
            held[curve] += (low <= true) & (true <= high)
            width[curve] += np.nan_to_num(high - low)
            counted[curve] += ~np.isnan(low)
    return ratio(held, counted), ratio(width, counted)


def truth(world: World) -> tuple[Array, Array]:
    """The true curves at the places."""
    place = np.array(PLACES)
    sensitivity = ndtr(world.distance + ndtri(place))
    alarms = ndtr(ndtri(place) - world.distance)
    found = world.prevalence * place
    return sensitivity, found / (found + (1 - world.prevalence) * alarms)


def at(band: Band) -> tuple[Array, Array]:
    """The ends of a band at the places."""
    nearest = [int(np.abs(band.x - place).argmin()) for place in PLACES]
    return band.low[nearest], band.high[nearest]


if __name__ == "__main__":
    main()
