"""The way of a question: decoded in other processes, put to the network in one thread, answered and logged.

As many requests as WAITING are held at once. Others hear 503 at once: a queue that grows would keep pictures in memory,
and answer those who left.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from components.base.words import count
from components.predict.predictor import Prediction, Predictor
from components.predict.verdicts import of_part, part_of, verdict
from components.serve.decoders import Decoders, Undecodable, View
from components.serve.logbook import Entry, Logbook, Looked, now
from components.serve.question import Question, Refusal, Study

WAITING = 8
"""Requests at once, from their first byte to their answer."""
MAX_HELD_BYTES = 512_000_000
"""Of the bodies of all requests together."""
SECONDS = 120.0
"""From a whole request to its answer."""
PICTURE_SIDE = 512
"""Of pictures for people, pixels."""
NAME = "mura"
"""Of the model, where the directory does not say which version it is."""
LEAVING = 0.1
"""Between two looks whether a version that was replaced has answered all, seconds."""
RETRY = 2
"""Seconds after which a refused request may come again."""


class Refused(NamedTuple):
    """A view that was not used."""

    view: int
    """Its number in the request, from 1."""
    why: str


class Answer(NamedTuple):
    """A study, and what the model says of it."""

    prediction: Prediction
    body_part: str
    """Empty where it is not known."""
    views: tuple[tuple[int, View], ...]
    """Those that were used, by number."""
    maps: tuple[np.ndarray, ...]
    """float32 [h, w] for each view, where pictures were asked for."""
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]


class Present:
    """A version that answers."""

    def __init__(self, predictor: Predictor) -> None:
        """Take what answers."""
        self.predictor = predictor
        named, digest = predictor.named, predictor.card.model_digest
        self.name = named.model or NAME
        self.version = str(named.version) if named.model else digest[:12]
        """As the registry has it; the beginning of the digest where it is not known."""
        self.users = 0
        """Requests that it still has to answer."""


class Desk:
    """Takes questions, and knows whether it can."""

    def __init__(self, predictor: Predictor, decoders: Decoders, logbook: Logbook) -> None:
        """Take what it works with."""
        self.present = Present(predictor)
        self._leaving: Present | None = None
        self._decoders, self._logbook = decoders, logbook
        self.follows: dict[str, Any] | None = None
        """What is known of the alias that is followed; None if none is."""
        self.ready = False
        """Whether new questions should come here. During the end they are still answered."""
        self._here = 0
        self._held = 0
        self._network = ThreadPoolExecutor(1, thread_name_prefix="network")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start what answers need, and end it."""
        await self._decoders.ready()
        await asyncio.get_running_loop().run_in_executor(self._network, _warm, self.present.predictor)
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            self._decoders.stop()
            self._network.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def using(self) -> Iterator[Present]:
        """The version that answers a request, from its first byte to its answer."""
        present = self.present
        present.users += 1
        try:
            yield present
        finally:
            present.users -= 1

    async def alone(self) -> None:
        """Wait until the version that was replaced last has answered all its requests, and let it go.

        Whoever loads another one waits before and afterwards: there are two at most, and usually one.
        """
        while self._leaving is not None and self._leaving.users:
            await asyncio.sleep(LEAVING)
        self._leaving = None

    async def replace(self, predictor: Predictor) -> None:
        """Let another version answer what is asked from now on. Requests at hand are answered by the one before.

        Args:
            predictor: it, loaded after `alone`.
        """
        await asyncio.to_thread(_warm, predictor)
        self._leaving, self.present = self.present, Present(predictor)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Be one of those that are served.

        Raises:
            Refusal: too many are.
        """
        if self._here >= WAITING:
            raise Refusal(503, f"{WAITING} requests are being answered. Ask again in {RETRY} s")
        self._here += 1
        try:
            yield
        finally:
            self._here -= 1

    @contextmanager
    def holding(self) -> "Iterator[Held]":
        """Count the bytes of a body until it is answered."""
        held = Held(self)
        try:
            yield held
        finally:
            self._held -= held.bytes

    def more(self, size: int) -> None:
        """Count bytes that came.

        Raises:
            Refusal: all bodies together have too many.
        """
        self._held += size
        if self._held > MAX_HELD_BYTES:
            raise Refusal(503, f"the requests of this moment have more than {MAX_HELD_BYTES:,} bytes. Ask again later")

    async def answer(self, question: Question, present: Present) -> list[Answer]:
        """Answer, and log each prediction.

        Args:
            question: whole.
            present: the version that answers, of `using`.

        Raises:
            Refusal: a view is refused, or it took too long.
            OutsideFailed: the memory is too small.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(SECONDS):
                decoded = [await self._decoded(study, question, present.predictor.size) for study in question.studies]
                if refused := [each for _, lost in decoded for each in lost]:
                    _check_enough(question, decoded, refused)
                found = [
                    await self._answered(present.predictor, study, views, tuple(lost), question.pictures)
                    for study, (views, lost) in zip(question.studies, decoded, strict=True)
                ]
        except TimeoutError:
            raise Refusal(503, f"no answer within {SECONDS:.0f} s. Ask again with fewer or smaller views") from None
        for study, answer in zip(question.studies, found, strict=True):
            self._logbook.write(self._entry(present, study, answer, time.monotonic() - began))
        return found

    async def _decoded(
        self, study: Study, question: Question, size: int
    ) -> tuple[list[tuple[int, View]], list[Refused]]:
        """The views of a study, and those that are refused."""
        side = PICTURE_SIDE if question.pictures else 0
        seen = await asyncio.gather(*(self._view(content, size, side) for content in study.views))
        found = list(zip(study.numbers, seen, strict=True))
        views = [(number, view) for number, view in found if isinstance(view, View)]
        if len({view.study for _, view in views} - {""}) > 1:
            raise Refusal(422, "DICOM files of several studies. Ask for one study at a time")
        return views, [Refused(number, view) for number, view in found if isinstance(view, str)]

    async def _view(self, content: bytes, size: int, side: int) -> View | str:
        try:
            return await self._decoders.view(content, size, side)
        except Undecodable as error:
            return str(error)

    async def _answered(
        self,
        predictor: Predictor,
        study: Study,
        views: Sequence[tuple[int, View]],
        refused: tuple[Refused, ...],
        pictures: bool,
    ) -> Answer:
        run = asyncio.get_running_loop().run_in_executor
        logits, distances, maps = [], [], []
        # One by one: the memory of a network grows with its batch, and other requests get their turn in between.
        for _, view in views:
            logit, distance = await run(self._network, predictor.asked, view.square[None])
            logits.append(logit)
            if distance is not None:
                distances.append(distance)
            if pictures:
                maps.append((await run(self._network, predictor.maps, view.square[None]))[0])
        body_part, about = part_of((view.body_part for _, view in views), study.part)
        far = np.concatenate(distances) if distances else None
        prediction = predictor.study(np.concatenate(logits), body_part, far)
        notes = dict.fromkeys(note for _, view in views for note in view.notes)
        strange = [f"view {views[place][0]} is not like the training data" for place in prediction.unlike]
        said = (*notes, *about, *of_part(prediction, body_part), *strange)
        return Answer(prediction, body_part, tuple(views), tuple(maps), refused, said)

    def _entry(self, present: Present, study: Study, answer: Answer, seconds: float) -> Entry:
        part, predictor = answer.body_part, present.predictor
        views = tuple(
            Looked(kind=view.kind, width=view.width, height=view.height, **view.grey) for _, view in answer.views
        )
        return Entry(
            time=now(),
            input=self._logbook.hash(study.views),
            model=present.name,
            version=present.version,
            model_digest=predictor.card.model_digest,
            # A part that was given may be any text.
            body_part=(part if part in predictor.body_parts else "other") if part else None,
            views=views,
            distance=finite(answer.prediction.distance),
            probability=answer.prediction.probability,
            verdict=verdict(answer.prediction),
            seconds=round(seconds, 4),
        )


def _warm(predictor: Predictor) -> None:
    """The first answer of a network takes longer than the others."""
    predictor.logits(np.zeros((1, predictor.size, predictor.size), np.uint8))


def finite(distance: float | None) -> float | None:
    """JSON has no infinity: a distance that is no number is not known."""
    return distance if distance is not None and math.isfinite(distance) else None


class Held:
    """The bytes of a body."""

    def __init__(self, desk: Desk) -> None:
        """Of a desk."""
        self._desk, self.bytes = desk, 0

    def add(self, size: int) -> None:
        """Count bytes that came.

        Raises:
            Refusal: there are too many.
        """
        self.bytes += size
        self._desk.more(size)


def _check_enough(
    question: Question, decoded: Sequence[tuple[list[tuple[int, View]], list[Refused]]], refused: Sequence[Refused]
) -> None:
    """Check that a study can be answered although views are refused.

    Raises:
        Refusal: nobody said that it may be answered by the others, or there are none.
    """
    if question.partial and all(views for views, _ in decoded):
        return
    first = refused[0]
    more = f", and {count(len(refused) - 1, 'other view')}" if len(refused) > 1 else ""
    raise Refusal(422, f"view {first.view}: {first.why}{more}", refused)
