"""Write a golden set, and answer it again.

The answers are of ONNX Runtime alone, from the file of a picture to the calibrated probability of a study of one view.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.artifacts import evidence, predictor
from components.artifacts.artifact import Facts
from components.artifacts.predictor import PredictorCard
from components.base import documents
from components.base.errors import DataRefused, MuraError, first_line
from components.base.files import write_bytes, write_text
from components.golden import golden_pictures
from components.golden.apart import Replay
from components.golden.golden_pictures import Drawn
from components.golden.onnx_network import OnnxNetwork
from components.scores import calibration, offsets
from components.scores.calibration import Line
from components.scores.familiarity import Measure
from components.xray import picture, square

TOLERANCE = 1e-3
"""Most by which an answer may differ, of 1 or of its size. Another processor sums floats otherwise: by some 1e-5."""
_ANSWERS = evidence.GOLDEN / "answers.json"


class Answered(Facts):
    """What a network answered to a picture."""

    logit: float
    distance: float | None
    """To the training pictures; None where the version does not know it, or it is infinite."""
    probability: float


class Answers(Facts):
    """All of a set, by the names of the pictures."""

    answers: dict[str, Answered]
    parts: dict[str, str]
    """The body part that each picture is said to show."""


def write(folder: Path) -> None:
    """Draw the pictures into the directory of a version, and write down what its network answers.

    Args:
        folder: with the network and its card.

    Raises:
        DataRefused: the network cannot be loaded, or an answer is not finite.
    """
    drawn = golden_pictures.draw()
    answers = Answers(answers=_answers(folder, drawn), parts={each.name: each.body_part for each in drawn})
    (folder / evidence.GOLDEN).mkdir(parents=True, exist_ok=True)
    for each in drawn:
        write_bytes(folder / evidence.GOLDEN / f"{each.name}.png", each.png)
    write_text(folder / _ANSWERS, answers.model_dump_json(indent=2) + "\n")


def replay(folder: Path) -> Replay:
    """Answer the golden set of a version again, and compare. Verify the directory before.

    Raises:
        DataRefused: there is no set, or it cannot be read or answered.
    """
    file = folder / _ANSWERS
    if not file.is_file():
        raise DataRefused(f"{_ANSWERS} is missing.")
    try:
        said = Answers.model_validate_json(documents.content(file))
        drawn = [
            Drawn(name, part, documents.content(folder / evidence.GOLDEN / f"{name}.png"))
            for name, part in said.parts.items()
        ]
    except (ValueError, OSError) as error:
        raise DataRefused(f"{evidence.GOLDEN} cannot be read ({first_line(error)}).") from error
    found = _answers(folder, drawn)
    for name, expected in said.answers.items():
        if (what := _difference(expected, found.get(name))) is not None:
            return Replay(len(drawn), f"{name}: {what}")
    return Replay(len(drawn), None)


def _answers(folder: Path, drawn: Sequence[Drawn]) -> dict[str, Answered]:
    """What the network of a directory answers to pictures, by name."""
    card, _ = predictor.read(folder)
    network = OnnxNetwork(folder / predictor.ONNX)
    try:
        squares = np.stack([square.fit(picture.read(each.png).grey, network.size) for each in drawn])
    except picture.BadImage as error:
        raise DataRefused(f"{evidence.GOLDEN}: a picture cannot be read ({error}).") from error
    if card.familiarity is None:
        logits, distances = network.logits(squares), None
    else:
        logits, features = network.seen(squares)
        distances = Measure(card.familiarity.comparison)(features)
    if not np.isfinite(logits).all():
        raise DataRefused(f"{predictor.ONNX}: an answer to the golden set is no number.")
    probabilities = _probabilities(card, logits, [each.body_part for each in drawn])
    return {
        each.name: Answered(
            logit=float(logits[row]),
            distance=_finite(distances, row),
            probability=float(probabilities[row]),
        )
        for row, each in enumerate(drawn)
    }


def _finite(distances: NDArray[np.float32] | None, row: int) -> float | None:
    """A distance; None if it is not known, or infinite: JSON has no word for that."""
    return float(distances[row]) if distances is not None and np.isfinite(distances[row]) else None


def _probabilities(card: PredictorCard, logits: NDArray[np.float32], parts: list[str]) -> NDArray[np.float64]:
    """Those of studies of one view each, float64 [N]."""
    line = Line(card.calibration.intercept, card.calibration.slope)
    offset = offsets.of_studies(card.offsets, np.array(parts))
    return np.asarray(calibration.probability(line, logits.astype(np.float64), offset), np.float64)


def _difference(expected: Answered, found: Answered | None) -> str | None:
    """The first answer that is another one, in words."""
    if found is None:
        return "it was not answered"
    for name in Answered.model_fields:
        was, now = getattr(expected, name), getattr(found, name)
        if was is None and now is None:
            continue
        if was is None or now is None or not math.isclose(was, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return f"{name} {was} when it was registered, {now} now"
    return None


if __name__ == "__main__":
    try:
        answered = json.dumps(replay(Path(sys.argv[1]))._asdict())
    except MuraError as refusal:
        sys.stdout.write(json.dumps({"refused": str(refusal)}) + "\n")
        sys.exit(DataRefused.exit_code)
    sys.stdout.write(answered + "\n")
