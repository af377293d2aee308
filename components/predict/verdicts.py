"""What is said of each study: a table for people, JSON lines for programs, a CSV for both."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any, NamedTuple

from components.base.words import count
from components.params.train import title
from components.predict.predictor import Prediction, Predictor

WORDS = {True: "abnormal", False: "normal"}
UNLIKE = "unlike"
RESEARCH = "Research only: not a medical device."


class Refused(NamedTuple):
    """A file that is no view."""

    path: str
    why: str


class Answer(NamedTuple):
    """A study and what the model says of it."""

    path: str
    body_part: str
    """Empty where it is not known."""
    views: tuple[str, ...]
    """Paths of the pictures that were used."""
    refused: tuple[Refused, ...]
    prediction: Prediction | None
    """None if every view was refused."""
    notes: tuple[str, ...]


def part_of(said: Iterable[str], given: str) -> tuple[str, tuple[str, ...]]:
    """The body part of a study, empty if it is not known, and a note where its views disagree.

    Args:
        said: what each view says, empty where it says nothing.
        given: what the caller says, which decides; empty if nothing.
    """
    parts = sorted({*said} - {""})
    if len(parts) > 1 and not given:
        return "", (f"its views say {' and '.join(parts)}: give the part",)
    return given or "".join(parts), ()


def verdict(prediction: Prediction) -> str:
    """The verdict in a word: `normal`, `abnormal`, or `unlike` if the study is not like the training data."""
    return UNLIKE if prediction.unlike else WORDS[prediction.abnormal]


def of_part(prediction: Prediction, body_part: str) -> tuple[str, ...]:
    """A note where the probability rests on all body parts together."""
    if not prediction.pooled or prediction.unlike:
        return ()
    what = f"the model learned nothing of {body_part}" if body_part else "the body part is not known"
    return (f"{what}: it has the offset of all body parts together",)


def records(answers: Iterable[Answer], predictor: Predictor) -> list[dict[str, Any]]:
    """The answers as JSON objects, with what they rest on."""
    card, named = predictor.card, predictor.named
    return [
        {
            "path": answer.path,
            "body_part": answer.body_part or None,
            "views": list(answer.views),
            "probability": answer.prediction and answer.prediction.probability,
            "verdict": answer.prediction and verdict(answer.prediction),
            "distance": answer.prediction and _finite(answer.prediction.distance),
            "unlike_from": card.familiarity and card.familiarity.threshold,
            "threshold": card.threshold,
            "operating_point": card.operating_point or None,
            "model": named.model or None,
            "version": named.version or None,
            "model_digest": card.model_digest,
            "refused": [{"path": each.path, "why": each.why} for each in answer.refused],
            "notes": list(answer.notes),
        }
        for answer in answers
    ]


def json_lines(answers: Iterable[Answer], predictor: Predictor) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(each, allow_nan=False) + "\n" for each in records(answers, predictor))


def as_csv(answers: Iterable[Answer], predictor: Predictor) -> str:
    """A header and one row a study. Lists are joined by `; `."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    rows = records(answers, predictor)
    writer.writerow(list(rows[0]) if rows else [])
    for row in rows:
        row["refused"] = [f"{each['path']}: {each['why']}" for each in row["refused"]]
        writer.writerow([_cell(value) for value in row.values()])
    return file.getvalue()


def table(answers: Sequence[Answer], predictor: Predictor) -> str:
    """Lines for people: each study, then the notes, then what the answers rest on."""
    rows = [("study", "part", "views", "probability", "verdict")]
    for answer in answers:
        used, given = len(answer.views), len(answer.views) + len(answer.refused)
        found = answer.prediction
        said = ("", "refused") if found is None else (_number(found.probability), verdict(found))
        rows.append((answer.path, answer.body_part, str(used) if used == given else f"{used} of {given}", *said))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    told = [f"{answer.path}: {note}" for answer in answers for note in answer.notes]
    card = predictor.card
    named = f"{predictor}, {title(card.candidate, card.architecture)}"
    test = card.scores.test
    return "\n".join(
        [
            *lines,
            "",
            *([*told, ""] if told else []),
            f"{named}, model {card.model_digest[:12]}. Abnormal from a probability of {card.threshold:.3f}.",
            f"On {count(test.n_studies, 'test study')}: AUROC {test.auroc}, sensitivity {test.sensitivity}, "
            f"specificity {test.specificity}.",
            _about_unlike(predictor),
            RESEARCH,
        ]
    )


def _about_unlike(predictor: Predictor) -> str:
    if predictor.card.familiarity is None:
        return "It cannot tell a picture that is unlike its training data, and answers about any picture."
    return '"unlike" is said of pictures that are not like its training data. It does not find all of them.'


def _number(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.3f}"


def _finite(distance: float | None) -> float | None:
    """JSON has no infinity: a distance that is no number is not known."""
    return distance if distance is not None and math.isfinite(distance) else None


def _cell(value: Any) -> Any:
    """A value as a cell. A spreadsheet would take text that begins like a formula for one."""
    text = "; ".join(value) if isinstance(value, list) else value
    if not isinstance(text, str):
        return text
    # A path that is not UTF-8.
    text = text.encode(errors="backslashreplace").decode()
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
