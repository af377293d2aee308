"""Processes that decode: what a picture can do to one of them, and to the others."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hostile import as_png
from miniature import picture, png
from radiographs import radiograph, written

from components.serve.decoders import Decoders, Undecodable, View
from components.xray import square
from components.xray.grey_levels import grey_levels

pytestmark = pytest.mark.long

SIZE = 32


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(1, seconds=5)
    asyncio.run(made.ready())
    yield made
    made.stop()


def view(decoders: Decoders, content: bytes, side: int = 0) -> View:
    return asyncio.run(decoders.view(content, SIZE, side))


def test_a_picture_is_fitted_as_in_training_and_described_as_in_a_manifest(decoders: Decoders) -> None:
    grey = picture(1)
    found = view(decoders, png(grey))
    assert (found.square == square.fit(grey, SIZE)).all()
    assert (found.kind, found.width, found.height, found.picture, found.study) == ("PNG", 64, 48, b"", "")
    described = grey_levels(grey)._asdict()
    assert found.grey == {name: described[name] for name in ("mean", "std", "low", "median", "high")}


def test_a_picture_for_people_is_a_png_of_the_whole_view(decoders: Decoders) -> None:
    from components.xray import png as decoder

    found = view(decoders, png(picture(1)), side=100)
    assert (decoder.decode(found.picture).grey == square.fit(picture(1), 100)).all()


def test_dicom_says_its_body_part_if_it_is_one(decoders: Decoders) -> None:
    pixels = picture(2).astype(np.uint16)
    for said, part in (("WRIST", "wrist"), ("UPPERARM", "humerus"), ("SMITH JOHN", ""), (None, "")):
        found = view(decoders, written(radiograph(pixels, BodyPartExamined=said)))
        assert (found.kind, found.body_part, found.study) == ("DICOM", part, "1.2.3")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 1000, b"GIF89a", as_png("RGB"), png(picture(1))[:-20], written(radiograph(picture(1)))[:300]],
)
def test_what_is_no_radiograph_is_refused(decoders: Decoders, content: bytes) -> None:
    with pytest.raises(Undecodable) as refusal:
        view(decoders, content)
    assert "--" not in str(refusal.value)


def test_a_fluoroscopy_is_refused_without_advice_for_a_command_line(decoders: Decoders) -> None:
    with pytest.raises(Undecodable, match=r"fluoroscopy, not a plain radiograph$"):
        view(decoders, written(radiograph(picture(1), Modality="RF")))


def test_a_process_that_dies_costs_its_own_view_only(decoders: Decoders) -> None:
    (process,) = decoders._all
    os.kill(process.pid, signal.SIGSTOP)
    killer = threading.Timer(0.5, process.kill)
    killer.start()
    with pytest.raises(Undecodable, match="ends its decoder"):
        view(decoders, png(picture(1)))
    assert view(decoders, png(picture(1))).width == 64
    assert [each.pid for each in decoders._all] != [process.pid]


def test_a_process_that_died_while_it_waited_costs_nothing(decoders: Decoders) -> None:
    (process,) = decoders._all
    process.kill()
    while process.poll() is None:
        time.sleep(0.01)
    assert view(decoders, png(picture(1))).width == 64


def test_a_picture_that_takes_too_long_is_refused(decoders: Decoders) -> None:
    (process,) = decoders._all
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(Undecodable, match="more than 5 s"):
        view(decoders, png(picture(1)))
    assert process.poll() is not None
    assert view(decoders, png(picture(1))).width == 64


def test_the_end_leaves_no_process() -> None:
    made = Decoders(2)
    processes = list(made._all)
    made.stop()
    assert [process.poll() for process in processes] == [-signal.SIGKILL]


def test_a_second_process_starts_when_the_first_is_busy() -> None:
    async def both(made: Decoders) -> list[View]:
        await made.ready()
        return await asyncio.gather(*(made.view(png(picture(seed)), SIZE) for seed in range(4)))

    made = Decoders(2)
    greys = [found.square for found in asyncio.run(both(made))]
    assert all((grey == square.fit(picture(seed), SIZE)).all() for seed, grey in enumerate(greys))
    assert len(made._all) == 2
    made.stop()
