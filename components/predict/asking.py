"""`mura predict`: read the views, ask the model, answer for each study."""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.artifacts.predictor import REGISTERED
from components.artifacts.trained_model import ENSEMBLE
from components.base.errors import UsageError
from components.base.progress import track
from components.base.words import count
from components.predict import maps, views
from components.predict.predictor import Predictor
from components.predict.verdicts import Answer, Refused, of_part, part_of
from components.predict.views import View

logger = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_SIZE = 32
"""Views in memory at one time."""


class Asked(NamedTuple):
    """What was asked for."""

    model: str
    """`models:/...`, or a directory that `mura fetch` wrote."""
    part: str
    """The body part of every study; empty: as each path or file says."""
    force: bool
    explain: Path | None
    """Where maps are drawn."""


class _Seen(NamedTuple):
    """A view and the network's answer."""

    view: View
    logit: float | None
    """None if the view was refused."""
    distance: float | None = None
    """None if the version does not know it."""


def predict(paths: Sequence[str], asked: Asked) -> tuple[list[Answer], Predictor]:
    """Answer for each study that the paths name.

    A view or a path that is refused is named, and the others are answered.

    Raises:
        UsageError: no path can be read, or there is no such version.
        DataRefused, OutsideFailed, ServiceUnreachable: as `Predictor.of` and `views.read`.
    """
    if asked.model.startswith(REGISTERED):
        # MLflow takes seconds, and who asks a fetched version needs none.
        from components import tracking

        tracking.require("predict")
    places = views.find(paths)
    predictor = Predictor.of(asked.model)
    total = sum(place.files for place in places)
    if asked.explain and predictor.card.architecture == ENSEMBLE:
        raise UsageError("predict: an ensemble has no map of what it used. Ask one of its members with --explain.")
    atlas = maps.Maps(predictor, asked.explain) if asked.explain else None
    seen: dict[str, list[_Seen]] = {}
    found = track(views.read(places, asked.force), total, "predict: files")
    for batch in batches(found):
        for each in _ask(predictor, batch, atlas):
            seen.setdefault(each.view.key, []).append(each)
    if atlas is not None:
        logger.info("predict: maps of %s -> %s", count(atlas.drawn, "view"), asked.explain)
    return _answers(predictor, list(seen.values()), asked.part), predictor


def batches(found: Iterable[T]) -> Iterator[list[T]]:
    """Lists of at most `BATCH_SIZE`, in order; what comes later is not looked at before."""
    waiting = iter(found)
    while batch := list(itertools.islice(waiting, BATCH_SIZE)):
        yield batch


def _ask(predictor: Predictor, batch: list[View], atlas: maps.Maps | None) -> Iterator[_Seen]:
    """The network's answers to some views. Their pictures are let go."""
    squares: dict[int, NDArray[np.uint8]] = {
        row: predictor.fit(view.picture.grey) for row, view in enumerate(batch) if view.picture is not None
    }
    by_row: dict[int, tuple[float, float | None]] = {}
    if squares:
        logits, distances = predictor.asked(np.stack(list(squares.values())))
        far = [None] * len(logits) if distances is None else distances.tolist()
        by_row = dict(zip(squares, zip(logits.tolist(), far, strict=True), strict=True))
    if atlas is not None and squares:
        atlas.draw([batch[row].path for row in squares], np.stack(list(squares.values())))
    for row, view in enumerate(batch):
        notes = view.picture and view.picture._replace(grey=np.zeros((0, 0), np.uint8))
        yield _Seen(view._replace(picture=notes), *by_row.get(row, (None, None)))


def _answers(predictor: Predictor, studies: list[list[_Seen]], part: str) -> list[Answer]:
    # Several studies of DICOM may lie in one directory.
    inside = Counter(study[0].view.folder for study in studies)
    found = []
    for study in studies:
        first = study[0].view
        found.append(_answer(predictor, first.folder if inside[first.folder] == 1 else first.path, study, part))
    return found


def _answer(predictor: Predictor, path: str, study: list[_Seen], part: str) -> Answer:
    used = [each for each in study if each.logit is not None]
    refused = tuple(Refused(each.view.path, each.view.refused) for each in study if each.logit is None)
    body_part, about = part_of([each.view.body_part for each in used], part)
    notes = list(dict.fromkeys(note for each in used if each.view.picture for note in each.view.picture.notes))
    if not used:
        return Answer(path, body_part, (), refused, None, tuple(notes))
    known = [each.distance for each in used if each.distance is not None]
    distances = np.array(known, np.float32) if len(known) == len(used) else None
    prediction = predictor.study(np.array([each.logit for each in used], np.float32), body_part, distances)
    notes += [*about, *of_part(prediction, body_part)]
    notes += [f"not like the training data: {used[number].view.path}" for number in prediction.unlike]
    return Answer(path, body_part, tuple(each.view.path for each in used), refused, prediction, tuple(notes))
