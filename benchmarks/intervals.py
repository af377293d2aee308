"""How fast all intervals of a comparison are: five models, each measured on all studies and on seven body parts.

    python -m benchmarks.intervals [--studies 1199] [--patients 783] [--draws 2000] [--json]

`seconds` is for all metrics of five models on eight slices, `differences` for all ten pairs of them on all studies.
`ratio` is the time of the percentile bootstrap, with as many draws of patients, over `seconds`: in one run, one core.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable

import numpy as np

from benchmarks import percentile
from components.artifacts.manifest import BODY_PARTS
from components.scores import metrics, paired
from components.scores.studies import Studies

MODELS = 5
THRESHOLD = 0.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=1199, help="[default: %(default)s, MURA's test set]")
    parser.add_argument("--patients", type=int, default=783, help="[default: %(default)s]")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap [default: %(default)s]")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    flags = parser.parse_args()
    models = [drawn(flags.studies, flags.patients, seed) for seed in range(MODELS)]
    slices = [
        each for model in models for each in (model, *(model.where(model.body_part == part) for part in BODY_PARTS))
    ]
    metrics.score(slices[-1], THRESHOLD)  # what is imported and compiled on the way
    seconds = _seconds(lambda: [metrics.score(each, THRESHOLD) for each in slices])
    thresholds = (THRESHOLD, THRESHOLD)
    pairs = [(models[i], models[j]) for i in range(MODELS) for j in range(i)]
    differences = _seconds(lambda: [paired.difference(*pair, thresholds) for pair in pairs])
    bootstrap = _seconds(lambda: [_bootstrap(each, flags.draws) for each in slices])
    result = {
        "studies": flags.studies,
        "slices": len(slices),
        "seconds": round(seconds, 3),
        "differences": round(differences, 3),
        "bootstrap": round(bootstrap, 2),
        "ratio": round(bootstrap / seconds, 1),
    }
    if flags.json:
        print(json.dumps(result))
        return
    print(f"{MODELS} models, {len(slices)} slices of {flags.studies:,} studies")
    print(f"  all intervals             {seconds:8.3f} s")
    print(f"  differences of {len(pairs)} pairs   {differences:8.3f} s")
    print(f"  bootstrap, {flags.draws:,} draws    {bootstrap:8.2f} s")
    print(f"  ratio                     {result['ratio']:8.1f}")


def drawn(studies: int, patients: int, seed: int) -> Studies:
    """Studies of patients, as one model sees them: the studies are those of every seed."""
    random = np.random.default_rng(0)
    patient = np.sort(np.concatenate([np.arange(patients), random.integers(0, patients, studies - patients)]))
    abnormal = (random.random(studies) < 0.45).astype(np.int64)
    part = np.array(BODY_PARTS)[random.integers(0, len(BODY_PARTS), studies)]
    study = np.array([f"study{number:06}" for number in range(studies)])
    made = Studies(study, patient.astype(str), part, abnormal, np.full(studies, 0.5))
    noise = np.random.default_rng(seed).normal(size=studies)
    return dataclasses.replace(made, probability=1 / (1 + np.exp(-1.8 * (abnormal - 0.5) - noise)))


def _bootstrap(studies: Studies, draws: int) -> None:
    columns = (studies.abnormal, studies.probability, studies.patient)
    percentile.intervals(*columns, THRESHOLD, draws, np.random.default_rng(0))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
