"""Whether probabilities can be taken at their word: raw and calibrated, on drawn answers and of real networks.

    python -m benchmarks.calibration [--simulate] [--evaluations DIR ...] [--seeds 1 2 3] [--candidates NAME ...]

First answers are drawn whose true probabilities are known: seven body parts with MURA's training counts, a loss
weighted by body part, a network that is too sure of itself. The calibration error of the hand, whose share of abnormal
images is the lowest, stands for each way of calibration. `--simulate` stops there; it takes seconds.

Then the candidates of params.yaml are measured: `dvc repro` in a temporary copy of the working tree for each seed, or
the folders that `--evaluations` names, such as artifacts/evaluation. `temperature` and `Platt` are fitted on tuning as
well, for comparison. Tuning figures are cross-fitted by patient. `by chance` is the calibration error that exact
probabilities exceed in 1 of 20 draws of labels. `ratio` is the mean, over models, of the Brier score on test after and
before calibration: below 1 calibration helps.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from benchmarks import demo, harness
from components.artifacts.shards import PartFacts
from components.scores import calibration, curves, logistic, offsets
from components.scores.studies import StudyLogits, sigmoid

Array = npt.NDArray[Any]

# Training images of MURA v1.1, counted in its lists of files.
MURA = {
    "elbow": PartFacts(abnormal=2006, normal=2925),
    "finger": PartFacts(abnormal=1968, normal=3138),
    "forearm": PartFacts(abnormal=661, normal=1164),
    "hand": PartFacts(abnormal=1484, normal=4059),
    "humerus": PartFacts(abnormal=599, normal=673),
    "shoulder": PartFacts(abnormal=4168, normal=4211),
    "wrist": PartFacts(abnormal=3987, normal=5765),
}
INTERCEPT, SLOPE, MERIT = 0.15, 0.5, 1.9
"""Of drawn answers: a, b, and the distance of abnormal from normal studies in deviations: an AUROC of 0.91."""
SIMULATED = 200_000
"""Studies of the drawn test split, so that the error of the drawing is small."""


class Drawn(NamedTuple):
    """Answers with their true probabilities."""

    answers: StudyLogits
    offset: Array
    truth: Array
    """float64 [S]"""


def draw(studies: int, weighted: bool, seed: int) -> Drawn:
    """Draw a network's answers to studies with MURA's shares of body parts and labels.

    With equal shares of both labels the evidence of a study is normal around +d^2 / 2 or -d^2 / 2 with the deviation
    d; that is its log likelihood ratio. The true logit is the evidence plus the log of the part's odds. A network of a
    weighted loss learns the evidence, one of a plain loss the true logit. Each says (x - a) / b of what it learned.

    Args:
        studies: their number, S.
        weighted: whether the loss was weighted by body part.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    names = np.array(list(MURA))
    images = np.array([part.normal + part.abnormal for part in MURA.values()])
    body_part = names[random.choice(len(names), studies, p=images / images.sum())]
    log_odds = {name: np.log(part.abnormal / part.normal) for name, part in MURA.items()}
    prior = np.array([log_odds[name] for name in body_part.tolist()])
    abnormal = (random.random(studies) < sigmoid(prior)).astype(np.int64)
    evidence = random.normal((abnormal - 0.5) * MERIT**2, MERIT)
    learned = evidence if weighted else evidence + prior
    keys = np.array([f"study{number:07}" for number in range(studies)])
    answers = StudyLogits(
        study=keys,
        patient=keys,
        body_part=body_part,
        abnormal=abnormal,
        views=np.ones(studies, np.int64),
        logit=(learned - INTERCEPT) / SLOPE,
    )
    known = offsets.of_training(MURA, "body_part" if weighted else "none")
    return Drawn(answers, offsets.of_studies(known, body_part), sigmoid(evidence + prior))


Probability = Callable[[Array, Array], Array]
"""From logits and offsets to probabilities."""


def ways(logit: Array, offset: Array, abnormal: Array) -> dict[str, Probability]:
    """Each way of calibration, fitted on studies."""
    one, none = np.ones((len(logit), 1)), np.zeros(len(logit))
    heat = float(logistic.fit(logit[:, None], none, abnormal).coefficients[0])
    platt = logistic.fit(np.hstack([one, logit[:, None]]), none, abnormal).coefficients
    line = calibration.fit(logit, offset, abnormal)
    return {
        "raw": lambda z, _: sigmoid(z),
        "temperature": lambda z, _: sigmoid(heat * z),
        "Platt": lambda z, _: sigmoid(platt[0] + platt[1] * z),
        "slope and offset": lambda z, o: calibration.probability(line, z, o),
    }


def simulate(weighted: bool, seed: int = 1) -> dict[str, dict[str, float]]:
    """Calibration errors on a large drawn test split of what was fitted on a tuning split of MURA's size.

    Returns:
        By way of calibration: `all` studies, those of the `hand`, and the mean distance from the `truth`.
    """
    tuning, test = draw(1400, weighted, seed), draw(SIMULATED, weighted, seed + 1000)
    hand = test.answers.body_part == "hand"
    found = {}
    for name, way in ways(tuning.answers.logit, tuning.offset, tuning.answers.abnormal).items():
        probability, label = way(test.answers.logit, test.offset), test.answers.abnormal
        found[name] = {
            "all": curves.calibration_curve(label, probability).expected_error,
            "hand": curves.calibration_curve(label[hand], probability[hand]).expected_error,
            "truth": float(np.abs(probability - test.truth).mean()),
        }
    return found


def measured(folder: Path) -> list[dict[str, Any]]:
    """What the evaluations of a folder say, one row for each candidate and split."""
    import pandas as pd

    from components.artifacts.evaluation import STUDIES, Evaluation

    rows = []
    for path in sorted(each.parent for each in folder.glob("*/card.json")):
        facts = Evaluation.read(path).facts
        table = pd.read_parquet(path / STUDIES)
        tuning, test = (table[table["split"] == split] for split in ("tuning", "test"))
        fitted = ways(*(tuning[name].to_numpy() for name in ("logit", "offset", "abnormal")))
        brier = {
            name: float(np.mean((way(test["logit"].to_numpy(), test["offset"].to_numpy()) - test["abnormal"]) ** 2))
            for name, way in fitted.items()
        }
        for split in ("tuning", "test"):
            found = facts.reliability.of(split)
            rows.append(
                {
                    "candidate": facts.candidate,
                    "seed": facts.seed,
                    "split": split,
                    "intercept": facts.calibration.intercept,
                    "slope": facts.calibration.slope,
                    "raw": found.raw.model_dump(),
                    "calibrated": found.calibrated.model_dump(),
                    "brier_of": brier if split == "test" else {},
                }
            )
    return rows


def train(seed: int, candidates: Sequence[str]) -> list[dict[str, Any]]:
    """Train and evaluate the candidates of params.yaml at a seed, in a copy of the working tree."""
    with harness.folder() as folder:
        here = folder / "demo"
        demo.copy(here)
        params = yaml.safe_load((here / demo.PARAMS).read_text())
        params["seed"] = seed
        section = params["train"]
        params["ensembles"] = {}
        section["candidates"] = {name: section["candidates"][name] for name in candidates or section["candidates"]}
        (here / demo.PARAMS).write_text(yaml.safe_dump(params, sort_keys=False))
        environment = {**os.environ, "PYTHONPATH": str(here), "MLFLOW_TRACKING_URI": "off"}
        dvc = Path(sys.executable).with_name("dvc")
        subprocess.run([dvc, "repro", "--quiet", "data/dvc.yaml:phantom"], cwd=here, env=environment, check=True)
        harness.run([dvc, "repro", "--quiet", "evaluate"], cwd=here, environment=environment)
        return measured(here / demo.EVALUATIONS)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulate", action="store_true", help="drawn answers only")
    parser.add_argument("--evaluations", type=Path, nargs="+", help="folders of evaluations; else they are made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="[default: 1]")
    parser.add_argument("--candidates", nargs="+", default=[], help="names in params.yaml [default: all]")
    parser.add_argument("--json", action="store_true", help="one object instead of tables")
    flags = parser.parse_args()
    drawn = {name: simulate(weighted) for name, weighted in (("weighted", True), ("plain", False))}
    rows: list[dict[str, Any]] = []
    if flags.evaluations:
        rows = [row for folder in flags.evaluations for row in measured(folder)]
    elif not flags.simulate:
        rows = [row for seed in flags.seeds for row in train(seed, flags.candidates)]
    hand = drawn["weighted"]
    drawn_ratio = round(hand["slope and offset"]["hand"] / hand["raw"]["hand"], 3)
    if not flags.json:
        title = f"calibration error on {SIMULATED:,} drawn studies, fitted on 1,400"
        harness.tell({"ratio": drawn_ratio}, title, _drawn_rows(drawn), as_json=False)
    changes = [
        row["calibrated"]["brier"]["value"] / row["raw"]["brier"]["value"] for row in rows if row["split"] == "test"
    ]
    ratio = round(float(np.mean(changes)), 3) if changes else drawn_ratio
    if flags.json or rows:
        result = {"drawn": drawn, "rows": rows, "ratio": ratio}
        harness.tell(result, "raw -> calibrated, by study", _measured_rows(rows), flags.json)
    return 0


def _drawn_rows(drawn: dict[str, dict[str, dict[str, float]]]) -> list[tuple[str, ...]]:
    head = ("loss", "calibration", "all", "hand", "distance from truth")
    return [
        head,
        *(
            (loss, name, f"{errors['all']:.3f}", f"{errors['hand']:.3f}", f"{errors['truth']:.3f}")
            for loss, found in drawn.items()
            for name, errors in found.items()
        ),
    ]


def _measured_rows(rows: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    head = ("candidate", "seed", "split", "b", "Brier", "temperature", "Platt", "error", "by chance", "slope")
    found = [head]
    for row in rows:
        raw, after, of = row["raw"], row["calibrated"], row["brier_of"]
        found.append(
            (
                row["candidate"],
                str(row["seed"]),
                row["split"],
                f"{row['slope']:.2f}",
                _change(raw["brier"]["value"], after["brier"]["value"]),
                f"{of['temperature']:.3f}" if of else "",
                f"{of['Platt']:.3f}" if of else "",
                _change(raw["expected_error"], after["expected_error"]),
                f"{after['expected_error_by_chance']:.3f}",
                _change(raw["slope"]["value"], after["slope"]["value"]),
            )
        )
    return found


def _change(before: float | None, after: float | None) -> str:
    return " -> ".join("n/a" if value is None else f"{value:.3f}" for value in (before, after))


if __name__ == "__main__":
    sys.exit(main())
