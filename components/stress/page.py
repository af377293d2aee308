"""The page of a stress test."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from components.artifacts.evaluation import FEWEST_PATIENTS
from components.artifacts.stress import Disturbed, StressFacts
from components.pages.render import picture, render, square_picture
from components.params.train import title
from components.scores import charts, paired
from components.stress import drop_chart
from components.stress.disturbances import DISTURBANCES

TEMPLATE = Path(__file__).with_name("report.html")
SIDE = 150  # of an example, pixels
# A grey level in so many is shown: PNG then takes half the bytes.
COARSE = 4


class Example(NamedTuple):
    """A picture, undisturbed and disturbed."""

    image: str
    """Member of the archive."""
    undisturbed: NDArray[np.uint8]
    """uint8 [S, S]"""
    disturbed: list[NDArray[np.uint8]]
    """uint8 [S, S] for each disturbance and strength, in the order of the facts."""


class Film(NamedTuple):
    """A picture with what stands below it."""

    picture: Markup
    caption: str


class Kind(NamedTuple):
    """A disturbance with its examples."""

    title: str
    about: str
    films: list[Film]


def stress_page(facts: StressFacts, example: Example) -> str:
    """Write what the disturbances cost: the worst first, then all, then what they look like.

    Args:
        facts: what was measured.
        example: a picture that is shown.

    Returns:
        HTML that needs no other file.
    """
    ordered = worst_first(facts.disturbed)
    bars = [drop_chart.Bar(each.name, written(each), each.auroc_drop, each.cohen_kappa_drop) for each in ordered]
    harmful = [each for each in ordered if each.auroc_drop.low is not None and each.auroc_drop.low > 0]
    return render(
        TEMPLATE,
        title=title(facts.candidate, facts.architecture),
        facts=facts,
        rows=ordered,
        written=written,
        worst=max(ordered, key=_auroc_drop),
        harmful=len(harmful),
        has_intervals=any(each.auroc_drop.low is not None for each in ordered),
        min_patients=FEWEST_PATIENTS,
        method=paired.METHOD,
        chart=picture(charts.png(drop_chart.drops(bars)), "Drop of AUROC and kappa by disturbance and strength"),
        image=example.image,
        undisturbed=_film(example.undisturbed, "undisturbed"),
        kinds=_kinds(facts, example),
    )


def worst_first(disturbed: Sequence[Disturbed]) -> list[Disturbed]:
    """The disturbances by their largest drop of AUROC; each with its strengths together, the weakest first."""
    largest: dict[str, float] = {}
    for each in disturbed:
        largest[each.name] = max(largest.get(each.name, -np.inf), _auroc_drop(each))
    return sorted(disturbed, key=lambda each: (-largest[each.name], each.name))


def written(each: Disturbed) -> str:
    """A disturbance with its strength."""
    return DISTURBANCES[each.name].written(each.strength)


def _auroc_drop(each: Disturbed) -> float:
    return -np.inf if each.auroc_drop.value is None else each.auroc_drop.value


def _kinds(facts: StressFacts, example: Example) -> list[Kind]:
    kinds: dict[str, Kind] = {}
    for each, pixels in zip(facts.disturbed, example.disturbed, strict=True):
        what = DISTURBANCES[each.name]
        kind = kinds.setdefault(each.name, Kind(what.title, what.about, []))
        kind.films.append(_film(pixels, what.written(each.strength)))
    return list(kinds.values())


def _film(pixels: NDArray[np.uint8], caption: str) -> Film:
    side = min(SIDE, len(pixels))
    small = np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)) // COARSE * COARSE
    done, encoded = cv2.imencode(".png", small, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done, "OpenCV encodes every uint8 image"
    return Film(square_picture(encoded.tobytes(), f"The example, {caption}", SIDE), caption)
