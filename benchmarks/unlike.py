"""Whether pictures that are no bone radiographs are told, and how often one that is one is taken for another.

    python -m benchmarks.unlike [--candidate custom_cnn ...] [--image-size 48] [--studies 5000] [--epochs N]
                                [--pictures 60] [--seed 7] [--json]

The steps read a phantom, train each candidate of params.yaml, and evaluate it. Then its familiarity.json is asked about
pictures of eight kinds that are drawn (benchmarks/strangers.py), and about real ones of the packages that are installed
here: `told` is the share of each kind that is called unlike. `negative` is of test pictures as negatives, which the
check takes for radiographs; `sure` is the share of all the unlike pictures whose probability alone would be below 0.1
or above 0.9. `alarms` is the share of test studies that are called unlike, with its 95 % interval.

`ratio` is the smallest share of a kind with 20 pictures or more. The exit code is 1 if it is below 0.9, or if more than
2 % of the test studies are called unlike, or its interval reaches beyond 4 %.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import explain, harness, strangers

FLOOR = 0.9
MOST_ALARMS = (0.02, 0.04)
"""The share, and the end of its interval."""
FEWEST = 20
SURE = np.log(9)
"""The logit of a probability of 0.9."""


def main() -> int:
    """Measure and print; 1 if a floor fails."""
    known = yaml.safe_load(explain.PARAMS.read_text())["train"]["candidates"]
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidate", nargs="+", default=list(known), choices=known)
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--epochs", type=int, help="[default: those of params.yaml]")
    parser.add_argument("--pictures", type=int, default=60, help="of each kind")
    parser.add_argument("--seed", type=int, default=7, help="of the drawn pictures")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    flags = parser.parse_args()
    with harness.folder() as folder:
        made = explain.prepare(folder, flags.studies, flags.image_size, flags.epochs)
        found = {}
        for name in flags.candidate:
            explain.step(made, "train", "--shards", "shards", "--params", f"params.yaml:train.{name}", "--out", name)
            found[name] = measure(made, name, flags.pictures, flags.seed)
    told = {name: enough(each) for name, each in found.items()}
    result = {"candidates": found, "ratio": round(min(min(each.values()) for each in told.values()), 3)}
    kinds = sorted({kind for each in found.values() for kind in each["told"]})
    columns = ("alarms", "low", "high", "sure", *kinds)
    rows = [(name, *(each["told"].get(column, each.get(column)) for column in columns)) for name, each in found.items()]
    harness.tell(result, f"shares called unlike, {flags.image_size} px", [("candidate", *columns), *rows], flags.json)
    alarms = all(each["alarms"] <= MOST_ALARMS[0] and each["high"] <= MOST_ALARMS[1] for each in found.values())
    return 0 if result["ratio"] >= FLOOR and alarms else 1


def enough(found: dict[str, Any]) -> dict[str, float]:
    """The shares of the kinds with enough pictures."""
    return {kind: share for kind, share in found["told"].items() if found["pictures"][kind] >= FEWEST}


def measure(folder: Path, candidate: str, pictures: int, seed: int) -> dict[str, Any]:
    """Evaluate a candidate, and ask it about pictures that are no radiographs."""
    out = f"{candidate}-evaluation"
    words = ("--manifest", "valid", "--shards", "shards", "--model", candidate, "--out", out)
    explain.step(folder, "evaluate", *words)
    from components.artifacts.evaluation import Evaluation
    from components.artifacts.manifest import TEST
    from components.artifacts.shards import Shards
    from components.artifacts.trained_model import TrainedModel
    from components.network import architectures, backend, batches, strange
    from components.network.features import with_features
    from components.scores import familiarity
    from components.xray import square

    backend.prepare()
    evaluation, shards = Evaluation.read(folder / out), Shards.read(folder / "shards")
    kept, alarms = evaluation.familiarity(), evaluation.facts.false_alarms
    assert kept is not None and alarms is not None, "enough studies were drawn"  # noqa: PT018
    model = TrainedModel.read(folder / candidate)
    network = with_features(architectures.load(model, evaluation.facts.flips)).model
    distance, size = familiarity.Measure(kept.comparison), shards.facts.image_size
    given = {kind: strangers.drawn(kind, pictures, seed) for kind in strangers.KINDS}
    given |= {f"real_{kind}": found for kind, found in strangers.found().items() if found}
    squares = {kind: np.stack([square.fit(each, size) for each in some]) for kind, some in given.items()}
    images = batches.read_split(shards, TEST)
    test = images.pixels[np.arange(min(pictures, len(images)))][..., 0]
    told, sure = {}, []
    for kind, some in squares.items():
        logit, seen = network.predict(some[..., None], verbose=0)
        told[kind] = round(float(familiarity.is_unlike(distance(seen), kept).mean()), 3)
        sure += (np.abs(logit[:, 0]) > SURE).tolist()
    seen = network.predict(strange.negative(test)[..., None], verbose=0)[1]
    return {
        "told": told,
        "pictures": {kind: len(some) for kind, some in given.items()},
        "negative": round(float(familiarity.is_unlike(distance(seen), kept).mean()), 3),
        "sure": round(float(np.mean(sure)), 3),
        "alarms": round(alarms.test.value or 0.0, 4),
        "low": round(alarms.test.low or 0.0, 4),
        "high": round(1.0 if alarms.test.high is None else alarms.test.high, 4),
        "threshold": alarms.threshold,
    }


if __name__ == "__main__":
    sys.exit(main())
