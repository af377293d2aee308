"""What the network used: maps over the views of the surest right and wrong studies."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from components.artifacts.manifest import LABEL_NAMES
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.network import architectures, batches
from components.network.grad_cam import GradCam
from components.pages.render import square_picture
from components.scores.studies import Array, Studies

TEMPLATE = Path(__file__).with_name("attribution.html")
# Of each kind; a page of 24 views has a few hundred kB.
MOST_STUDIES = 3
MOST_VIEWS = 2
# Sides of what is shown, pixels. A map has no detail that 40 would lose.
PICTURE, MAP = 150, 40
# A grey level in so many is shown: PNG then takes half the bytes.
COARSE = 4
ORANGE = (0, 159, 230)  # blue, green, red of Okabe and Ito's #E69F00, which is bright enough for a dark picture
OPAQUE = 0.75


class View(NamedTuple):
    """A view, and the map to lay over it."""

    name: str
    """The file's."""
    grey: Markup
    map: Markup


class Explained(NamedTuple):
    """A study that the model was sure of."""

    study: str
    body_part: str
    probability: float
    views: list[View]
    left_out: int
    """How many more views it has."""


class Kind(NamedTuple):
    """Studies of one label with one answer."""

    title: str
    studies: list[Explained]


class Attribution(NamedTuple):
    """What the page shows."""

    split: str
    kinds: list[Kind]
    cells: tuple[int, int]
    """Rows and columns of the map."""
    flips: bool = False
    """Whether each map is the mean of that of the view and of its mirror image."""


def explainer(model: TrainedModel, shards: Shards, flips: bool) -> Callable[[str, Studies, float], Attribution]:
    """`explain` for the studies of each split of these shards; the network is loaded once.

    Args:
        model: whose maps these are.
        shards: the pictures.
        flips: whether the model was asked about the mirror image, too.

    Raises:
        DataRefused: the weights are damaged.
    """
    return partial(explain, GradCam(architectures.load(model), flips=flips), shards)


def explain(explained: GradCam, shards: Shards, split: str, studies: Studies, threshold: float) -> Attribution:
    """Compute the maps of the studies that the model was surest of, right and wrong.

    Args:
        explained: the model's network.
        shards: the pictures.
        split: of the studies, for example tuning.
        studies: of that split, with the probabilities that `threshold` is for.
        threshold: `probability >= threshold` is called abnormal.

    Raises:
        DataRefused: the shards are damaged.
    """
    images = batches.read_split(shards, split, "disk")
    chosen = surest(studies, threshold)
    rows = {study: _views(images, str(studies.study[study])) for found in chosen.values() for study in found}
    shown = np.array([row for found in rows.values() for row in found[:MOST_VIEWS]], np.int64)
    with batches.reading(images):
        pixels = np.asarray(images.pixels[shown])
    maps = explained.maps(pixels)
    # One scale for all: a picture in which little spoke for abnormal must not look like one in which much did.
    strongest = float(maps.max(initial=0.0)) or 1.0
    drawn = {
        row: _drawn(str(images.image[row]), pixels[i], maps[i] / strongest) for i, row in enumerate(shown.tolist())
    }
    kinds = [
        Kind(
            title,
            [
                Explained(
                    str(studies.study[study]),
                    str(studies.body_part[study]),
                    float(studies.probability[study]),
                    [drawn[row] for row in rows[study][:MOST_VIEWS]],
                    max(0, len(rows[study]) - MOST_VIEWS),
                )
                for study in found
            ],
        )
        for title, found in chosen.items()
    ]
    return Attribution(split, kinds, explained.shape, explained.flips)


def surest(studies: Studies, threshold: float, most: int = MOST_STUDIES) -> dict[str, list[int]]:
    """The studies whose probabilities lie farthest from the threshold, by label and answer.

    Returns:
        Their rows, the surest first, at most `most` of each kind.
    """
    called, abnormal = studies.probability >= threshold, studies.abnormal == 1
    found = {}
    for label, answer in ((1, 1), (0, 0), (1, 0), (0, 1)):
        rows: Array = np.flatnonzero((abnormal == label) & (called == answer))
        falling = np.argsort(-studies.probability[rows] if answer else studies.probability[rows], kind="stable")
        right = "rightly" if label == answer else "wrongly"
        title = f"{LABEL_NAMES[label].capitalize()}, {right} called {LABEL_NAMES[answer]}"
        found[title] = rows[falling][:most].tolist()
    return found


def _views(images: batches.Split, study: str) -> list[int]:
    """Rows of a study's views, by name."""
    rows = np.flatnonzero(images.study == study)
    return [int(row) for row in rows[np.argsort(images.image[rows])]]


def _drawn(image: str, pixels: NDArray[np.uint8], strength: NDArray[np.float32]) -> View:
    """A view as two PNGs. The browser lays the second one over the first.

    Args:
        image: the member.
        pixels: uint8 [S, S, 1].
        strength: float32 [S, S] in [0, 1].
    """
    name = Path(image).name
    grey = _smaller(pixels[:, :, 0], PICTURE) // COARSE * COARSE
    alpha = np.rint(255 * OPAQUE * np.clip(_smaller(strength, MAP), 0, 1))
    colour = np.dstack([*(np.full(alpha.shape, each) for each in ORANGE), alpha]).astype(np.uint8)
    return View(
        name,
        square_picture(_png(grey), f"View {name} as the network sees it", PICTURE),
        square_picture(_png(colour), f"What of view {name} speaks for abnormal", PICTURE),
    )


def _smaller(square: NDArray[Any], side: int) -> NDArray[Any]:
    """A square with at most so many pixels on a side."""
    if len(square) <= side:
        return square
    return np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))


def _png(pixels: NDArray[Any]) -> bytes:
    done, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done, "OpenCV encodes every uint8 image"
    return encoded.tobytes()
