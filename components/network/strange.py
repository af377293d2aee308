"""Pictures that show nothing of the kind that a network learned: what the training pictures are told from.

The true outliers are not known, so many simple worlds stand for them (outlier exposure: Hendrycks et al.,
arXiv:1812.04606; worlds of noise and of dead leaves: Baradad et al., arXiv:2106.05963): leaves that fall on each other
(Lee, Mumford & Huang 2001), noise of all colours, ellipses in ellipses, strokes, empty plates, and the training
pictures themselves, cut up and mixed.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from components.xray import square

Grey = NDArray[np.uint8]
Squares = NDArray[np.uint8]
Field = NDArray[np.float64]
Rng = np.random.Generator


def draw(known: Squares, count: int, seed: int) -> Squares:
    """Draw some.

    Args:
        known: uint8 [N, S, S], training pictures to cut up and mix; N >= 1.
        count: how many.
        seed: the same one draws the same pictures.

    Returns:
        uint8 [count, S, S].
    """
    size = known.shape[1]
    pictures = np.empty((count, size, size), np.uint8)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        if number % 4 == 3:
            pictures[number] = _mixed(known, rng)
        else:
            world = WORLDS[int(rng.integers(len(WORLDS)))]
            # At twice the size, as pictures are larger than what the network sees; of any shape.
            height, width = (max(8, int(2 * size * each)) for each in _shape(rng))
            pictures[number] = square.fit(_bytes(world(height, width, rng), rng), size)
    return pictures


def negative(squares: Squares) -> Squares:
    """Pictures as negatives, uint8 [N, S, S]. What is black around a picture stays black."""
    made = np.zeros_like(squares)
    for number, picture in enumerate(squares):
        rows, columns = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
        if rows.size:
            inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            made[number][inside] = 255 - picture[inside]
    return made


def _shape(rng: Rng) -> tuple[float, float]:
    """Height and width; the longer one is 1."""
    ratio = float(np.exp(rng.uniform(-0.5, 0.5)))
    return min(1.0, ratio), min(1.0, 1 / ratio)


def _leaves(height: int, width: int, rng: Rng) -> Field:
    """Discs and boxes of all sizes that cover each other, flat or with a grain, as things do in a photograph."""
    picture = np.full((height, width), rng.random())
    grain = rng.choice((0.0, rng.uniform(0.02, 0.25)))
    for _ in range(int(rng.integers(4, 160))):
        radius = int(max(2, 0.5 * max(height, width) * rng.uniform(0.03, 1.0) ** 3))
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        grey = float(rng.random())
        if rng.random() < 0.5:
            axes = (radius, max(1, int(radius * rng.uniform(0.3, 1.0))))
            cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, grey, -1)
        else:
            box = cv2.boxPoints(
                (
                    centre,
                    (2.0 * radius, float(radius * rng.uniform(0.2, 2.0))),
                    float(rng.choice((0, rng.uniform(0, 90)))),
                )
            )
            cv2.fillPoly(picture, [np.rint(box).astype(np.int32)], grey)
    return np.asarray(picture + grain * _coloured(height, width, rng, float(rng.uniform(0, 1.5))))


def _noise(height: int, width: int, rng: Rng) -> Field:
    """Noise whose amplitude falls with the frequency, by any power; or of lines, or of black and white."""
    kind = rng.random()
    if kind < 0.15:
        lines = rng.random((height, 1) if rng.random() < 0.5 else (1, width))
        return np.asarray(lines + rng.uniform(0, 0.2) * rng.normal(size=(height, width)))
    if kind < 0.3:
        return np.where(rng.random((height, width)) < rng.uniform(0.05, 0.95), 1.0, 0.0)
    return rng.uniform(0.2, 0.8) + rng.uniform(0.05, 0.4) * _coloured(height, width, rng, float(rng.uniform(0, 2.5)))


def _ellipses(height: int, width: int, rng: Rng) -> Field:
    """An ellipse with others in it, on black: what a slice through a body looks like (Shepp & Logan 1974)."""
    picture = np.zeros((height, width))
    middle = np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    axes = np.array([width, height]) * rng.uniform(0.25, 0.5, 2)
    body = np.zeros((height, width), np.uint8)
    turn = float(rng.uniform(0, 180)) if rng.random() < 0.5 else 0.0
    cv2.ellipse(body, _whole(middle), _whole(axes), turn, 0, 360, 1, -1)
    picture += rng.uniform(0.15, 0.9) * body
    if rng.random() < 0.7:
        inner = np.zeros_like(body)
        cv2.ellipse(inner, _whole(middle), _whole(axes * rng.uniform(0.75, 0.97)), turn, 0, 360, 1, -1)
        picture = np.where(inner, rng.uniform(0.05, 0.8), picture)
    for _ in range(int(rng.integers(1, 25))):
        part = np.zeros_like(body)
        place = middle + axes * rng.uniform(-1, 1, 2)
        cv2.ellipse(
            part,
            _whole(place),
            _whole(axes * rng.uniform(0.02, 0.7, 2) ** 1.5),
            float(rng.uniform(0, 180)),
            0,
            360,
            1,
            -1,
        )
        picture += rng.uniform(-0.4, 0.6) * (part * body)
    picture += (
        rng.choice((0.0, rng.uniform(0.02, 0.2))) * body * _coloured(height, width, rng, float(rng.uniform(0.3, 1.8)))
    )
    return picture


def _strokes(height: int, width: int, rng: Rng) -> Field:
    """Thin strokes on an even ground, in rows or anywhere: writing, charts, drawings."""
    ground, ink = (0.0, 1.0) if rng.random() < 0.4 else (1.0, 0.0)
    picture = np.full((height, width), ground)
    rows = rng.random() < 0.5
    pitch, thick = int(rng.integers(5, 16)), int(rng.integers(1, 4))
    for _ in range(int(rng.integers(10, 250))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        reach = pitch if rows else int(rng.integers(5, max(height, width)))
        end = (
            x + int(rng.integers(-reach, reach + 1)),
            (y // pitch * pitch if rows else y) + int(rng.integers(-reach, reach + 1)) // (2 if rows else 1),
        )
        cv2.line(
            picture,
            (x, y // pitch * pitch if rows else y),
            end,
            ink + (ground - ink) * float(rng.uniform(0, 0.6)),
            thick,
        )
    if rng.random() < 0.3:
        for left in range(0, width, max(8, width // int(rng.integers(3, 12)))):
            top = int(rng.integers(height))
            cv2.rectangle(picture, (left, top), (left + width // 16, height), float(rng.random()), -1)
    return picture


def _empty(height: int, width: int, rng: Rng) -> Field:
    """A plate without anybody: one grey level, or a slope, with little noise or none."""
    level = float(rng.choice((0.0, 1.0, rng.random(), rng.random())))
    slope = _slope(height, width, rng, float(rng.choice((0.0, rng.uniform(0, 0.5)))))
    return np.asarray(level + slope + rng.choice((0.0, 0.03)) * rng.normal(size=slope.shape))


def _slope(height: int, width: int, rng: Rng, rise: float) -> Field:
    """A plane that rises by so much from the middle to the edge, in any direction."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(rise * (x * np.cos(angle) + y * np.sin(angle)))


def _mixed(known: Squares, rng: Rng) -> Grey:
    """Training pictures cut into tiles that changed places, or several in one."""
    one, other = (known[int(rng.integers(len(known)))] for _ in range(2))
    if rng.random() < 0.5:
        share = rng.uniform(0.3, 0.7)
        mixed = np.maximum(one, other.T) if rng.random() < 0.3 else np.rint(share * one + (1 - share) * other.T)
        third = known[int(rng.integers(len(known)))][::-1]
        return np.asarray(np.rint((2 * mixed + third) / 3), np.uint8)
    count = int(rng.integers(3, 7))
    edges = np.linspace(0, len(one), count + 1).astype(int)
    step = int(np.diff(edges).min())
    sources = (one, other)
    mixed = np.zeros_like(one)
    for row in edges[:-1]:
        for column in edges[:-1]:
            top, left = rng.integers(0, len(one) - step + 1, 2)
            tile = sources[int(rng.integers(2))][top : top + step, left : left + step]
            mixed[row : row + step, column : column + step] = np.rot90(tile, int(rng.integers(4)))
    return np.asarray(mixed, np.uint8)


WORLDS: tuple[Callable[[int, int, Rng], Field], ...] = (
    _leaves,
    _leaves,
    _noise,
    _ellipses,
    _ellipses,
    _ellipses,
    _strokes,
    _empty,
)


def _coloured(height: int, width: int, rng: Rng, power: float) -> Field:
    """Noise whose amplitude falls with the frequency to a power, float64 [H, W], of variance 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    wave = (rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)) / frequency**power
    field = np.fft.irfft2(wave, (height, width))
    return np.asarray(field / field.std())


def _whole(place: NDArray[Any]) -> tuple[int, int]:
    return int(place[0]), int(place[1])


def _bytes(picture: Field, rng: Rng) -> Grey:
    """From [0, 1] to grey levels, at times out of focus."""
    grey = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    return (
        np.asarray(cv2.GaussianBlur(grey, (0, 0), float(rng.uniform(0.5, 4))), np.uint8) if rng.random() < 0.4 else grey
    )
