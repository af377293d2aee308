"""`mura drift`: what a server was asked, compared with what its model learned from.

Body parts, sizes and grey levels of the studies that were asked are compared with the training split, by the manifest
that validation proved. Probabilities and verdicts are compared with the tuning split, by the evaluation of the same
model: its training split would be answered too surely, and the test split chooses nothing. Each study counts once, by
the mean of its views: views of a study are similar, and as values of their own they would make chance look like drift.

That something moved does not say that answers are wrong, and that nothing moved does not say that they are right: there
are no labels here.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydantic import ValidationError

from components.artifacts.evaluation import STUDIES, Evaluation
from components.artifacts.manifest import TRAIN, TUNING, ValidManifest
from components.artifacts.trained_model import ENSEMBLE
from components.base.errors import DataRefused, UsageError
from components.base.words import count
from components.params.validate import ValidateParams
from components.predict.verdicts import WORDS
from components.serve.logbook import Entry
from components.validate import drift
from components.validate.drift import Difference

FEWEST = 30
"""Studies. With fewer nothing is compared: only a flood would be beyond chance."""
LONGEST_LINE = 1_000_000
"""Bytes of a line."""
MANIFEST, EVALUATIONS = "valid_manifest", ("evaluation", f"{ENSEMBLE}/evaluation")
"""Directories of a reference."""
SIZES, LEVELS = ("longer side", "shorter side"), ("mean grey level", "spread of grey levels", "contrast")

logger = logging.getLogger(__name__)


class Moved(NamedTuple):
    """A property, before and now."""

    name: str
    before: str
    """Of what was learned, in words."""
    now: str
    """Of what was asked, in words."""
    measure: str
    """PSI, KS distance or Cohen's h."""
    effect: float
    p: float
    limit: float

    @property
    def moved(self) -> bool:
        """Whether the effect is larger than its limit, and chance does not explain it."""
        return Difference(self.effect, self.p).beyond_chance > self.limit


class Compared(NamedTuple):
    """The comparison for a version."""

    version: str
    studies: int
    """That were asked, each counted once."""
    properties: tuple[Moved, ...]
    notes: tuple[str, ...]


def compare(log: Path, reference: Path, limits: ValidateParams) -> Compared:
    """Compare a log with what the version in its last line learned from.

    Args:
        log: of `mura serve`.
        reference: a directory with `valid_manifest/`, and `evaluation/CANDIDATE/` or, for an ensemble,
            `ensemble/evaluation/CANDIDATE/`, such as `artifacts`.
        limits: of validation: the same effect counts as a shift.

    Raises:
        UsageError: a file is not there, or the log has no line of a prediction.
        DataRefused: the manifest is another one than that of the model, or is damaged.
    """
    entries, strange = read(log)
    last = entries[-1]
    mine = {entry.input: entry for entry in entries if entry.model_digest == last.model_digest}
    asked = list(mine.values())
    notes = [f"{count(strange, 'line')} of the log not of predictions"] if strange else []
    if others := len({entry.model_digest for entry in entries}) - 1:
        notes.append(f"{count(others, 'earlier version')} in the log not compared")
    version = f"{last.model} version {last.version}"
    if len(asked) < FEWEST:
        notes.append(f"fewer than {FEWEST} studies: nothing is compared yet")
        return Compared(version, len(asked), (), tuple(notes))
    manifest = ValidManifest.read(reference / MANIFEST)
    evaluation = _evaluation(reference, last.model_digest)
    if evaluation is None:
        places = " or ".join(str(reference / place) for place in EVALUATIONS)
        notes.append(f"no evaluation of this model in {places}: probabilities are not compared")
    elif evaluation.facts.data_digest != manifest.facts.data_digest:
        raise DataRefused(f"{manifest.path}: another data set than the model learned from. Name the --reference of it.")
    found = _pictures(asked, manifest, limits)
    answered = [entry for entry in asked if entry.probability is not None]
    if len(answered) < FEWEST:
        unlike = f"{len(asked) - len(answered)} of {count(len(asked), 'study')} unlike the training data"
        notes.append(f"{unlike}, without a probability: probabilities are not compared")
    elif evaluation is not None:
        found += _answers(answered, evaluation, limits)
    return Compared(version, len(asked), tuple(found), tuple(notes))


def read(log: Path) -> tuple[list[Entry], int]:
    """The predictions of a log in their order, and the number of other lines.

    Raises:
        UsageError: there is none.
    """
    entries, strange = [], 0
    with log.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            try:
                entries.append(Entry.model_validate_json(line))
            except ValidationError:
                strange += bool(line.strip())
    if not entries:
        raise UsageError(f"{log}: no prediction in it. Name the --log of `mura serve`.")
    return entries, strange


def _evaluation(reference: Path, model_digest: str) -> Evaluation | None:
    """The evaluation of a model, if it is there."""
    for place in EVALUATIONS:
        for card in sorted((reference / place).glob(f"*/{Evaluation.CARD}")):
            if Evaluation.peek(card.parent).facts.model_digest == model_digest:
                return Evaluation.read(card.parent)
    return None


def _pictures(asked: Sequence[Entry], manifest: ValidManifest, limits: ValidateParams) -> list[Moved]:
    """Body parts, sizes and grey levels."""
    table = manifest.table
    learned = table[(table["split"] == TRAIN) & table["problem"].isna()]
    parts = learned.groupby("study")["body_part"].first()
    known = sorted(set(parts))
    now = pd.Series([entry.body_part or "not known" for entry in asked])
    every = [*known, *sorted(set(now) - set(known))]
    counts = [[int((side == part).sum()) for part in every] for side in (parts, now)]
    difference = drift.categories(*counts)
    words = [_shares(every, side) for side in counts]
    found = [Moved("body parts", words[0], words[1], "PSI", *difference, limits.max_psi)]
    before = _by_study(learned)
    views = pd.DataFrame(
        [view.model_dump() | {"study": number} for number, entry in enumerate(asked) for view in entry.views]
    )
    after = _by_study(views)
    found += [_values(name, before[name], after[name], limits.max_ks) for name in (*SIZES, *LEVELS)]
    return found


def _by_study(views: pd.DataFrame) -> pd.DataFrame:
    """The mean of the views of each study."""
    sides = views[["width", "height"]].astype("float64")
    columns = {
        "longer side": sides.max(axis=1),
        "shorter side": sides.min(axis=1),
        "mean grey level": views["mean"].astype("float64"),
        "spread of grey levels": views["std"].astype("float64"),
        "contrast": (views["high"] - views["low"]).astype("float64"),
    }
    return pd.DataFrame(columns).groupby(views["study"]).mean()


def _answers(answered: Sequence[Entry], evaluation: Evaluation, limits: ValidateParams) -> list[Moved]:
    """Probabilities, and the share that was called abnormal, of studies that have a probability."""
    studies = pd.read_parquet(evaluation.path / STUDIES, columns=["split", "probability"])
    before = studies.loc[studies["split"] == TUNING, "probability"]
    now = pd.Series([entry.probability for entry in answered], dtype="float64")
    called = [(int((before >= evaluation.facts.scores.threshold).sum()), len(before))]
    called.append((sum(entry.verdict == WORDS[True] for entry in answered), len(answered)))
    words = [f"{100 * some / max(1, of):.0f} %" for some, of in called]
    difference = drift.shares(called[0], called[1])
    return [
        _values("probability", before, now, limits.max_ks, digits=2),
        Moved("called abnormal", words[0], words[1], "Cohen's h", *difference, limits.max_label_shift),
    ]


def _values(name: str, before: pd.Series, now: pd.Series, limit: float, digits: int = 0) -> Moved:
    words = [_spread(side, digits) for side in (before, now)]
    difference = drift.values(*(np.asarray(side.dropna(), np.float64) for side in (before, now)))
    return Moved(name, words[0], words[1], "KS distance", *difference, limit)


def _shares(names: Sequence[str], counts: Sequence[int]) -> str:
    """The three most frequent."""
    total = max(1, sum(counts))
    order = sorted(range(len(names)), key=lambda place: -counts[place])[:3]
    return ", ".join(f"{names[place]} {100 * counts[place] / total:.0f} %" for place in order if counts[place])


def _spread(values: pd.Series, digits: int) -> str:
    low, middle, high = (f"{values.quantile(share):.{digits}f}" for share in (0.05, 0.5, 0.95))
    return f"{middle} ({low} to {high})"


def table(found: Compared) -> str:
    """Lines for people."""
    rows = [("", "learned", "asked", "difference", "limit", "p", "")]
    rows += [
        (each.name, each.before, each.now, f"{each.measure} {each.effect:.3f}", f"{each.limit:g}", f"{each.p:.2g}",
         "moved" if each.moved else "")
        for each in found.properties
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = f"{found.version}: {count(found.studies, 'study')} asked, each counted once."
    return "\n".join([head, *(["", *lines] if found.properties else []), *(f"Note: {note}." for note in found.notes)])


def as_json(found: Compared) -> str:
    """One JSON object, on one line."""
    properties = [each._asdict() | {"moved": each.moved} for each in found.properties]
    return json.dumps(found._asdict() | {"properties": properties}, allow_nan=False) + "\n"
