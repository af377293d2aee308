"""The metal of a fixation along or across a bone, as shapes in pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from components.phantom.anatomy import Frame, Points, Rng


@dataclass(frozen=True, slots=True)
class Metal:
    """Opaque shapes in pixels."""

    plates: tuple[Points, ...] = ()
    rods: tuple[tuple[Points, float], ...] = ()  # path and thickness
    discs: tuple[tuple[Points, float], ...] = ()  # centre and radius
    holes: tuple[tuple[Points, float], ...] = ()


class _Size(NamedTuple):
    reach: float  # from the middle to the end
    broad: float  # of a plate
    scale: float
    side: float  # -1 or 1: the side of the bone


def choose_style(rng: Rng, difficulty: float) -> str:
    """What a surgeon took."""
    # Thin wires and lone screws are the first to vanish in a small picture.
    hard = max(0.0, difficulty)
    fine = 0.02 + 0.25 * hard
    share = np.array([0.4, 0.35, 0.25 - 0.1 * hard, fine, fine])
    return str(rng.choice(list(_STYLES), p=share / share.sum()))


def shapes(style: str, frame: Frame, rng: Rng, difficulty: float) -> Metal:
    """The metal of a style at a place of a bone."""
    # Metal does not grow below 0: it is so bright that it would tell the label by itself.
    scale = 1.15 - 0.55 * max(0.0, difficulty)
    size = _Size(
        reach=float(np.clip(frame.half * 3.6, 66, 115)) * scale * rng.uniform(0.9, 1.15),
        broad=float(np.clip(frame.half * 1.1, 26, 40)) * scale,
        scale=scale,
        side=float(rng.choice([-1, 1])),
    )
    return _STYLES[style](frame, size, rng)


def edge(metal: Metal) -> Points:
    """Points around all of it, [N, 2]."""
    points = [*metal.plates]
    for path, thickness in metal.rods:
        points += [path - thickness / 2, path + thickness / 2]
    for centre, radius in metal.discs:
        points.append(np.array([centre - radius, centre + radius]))
    return np.concatenate(points)


def _plate(frame: Frame, size: _Size, rng: Rng) -> Metal:
    """A plate seen from above, with its screws and two empty holes."""
    middle = frame.centre + frame.across * size.side * frame.half * rng.uniform(0.0, 0.35)
    across = frame.across * size.broad * 0.7
    spots = middle + _spots(frame, size)
    return Metal(
        plates=(_slab(np.array([middle - frame.along * size.reach, middle + frame.along * size.reach]), size.broad),),
        holes=tuple((spot, size.broad * 0.17) for spot in spots[[1, 4]]),
        rods=tuple((np.array([s - across, s + across]), 8 * size.scale) for s in spots[[0, 2, 3, 5]]),
    )


def _side_plate(frame: Frame, size: _Size, rng: Rng) -> Metal:
    """A plate seen from its edge, with screws through the bone."""
    rim = frame.across * size.side * frame.half * 1.05
    spots = frame.centre + _spots(frame, size)
    ends = np.array([frame.centre - frame.along * size.reach, frame.centre + frame.along * size.reach]) + rim
    thick = max(10 * size.scale, 4.0)
    return Metal(
        plates=(_slab(ends, size.broad * 0.62),),
        rods=tuple((np.array([spot + rim, spot - rim * rng.uniform(0.9, 1.25)]), thick) for spot in spots),
    )


def _nail(frame: Frame, size: _Size, _: Rng) -> Metal:
    """A rod in the canal with a bolt at each end."""
    lock = frame.across * frame.half * 1.3
    reach = frame.along * size.reach
    spots = frame.centre + _spots(frame, size)
    bolts = tuple((np.array([spot - lock, spot + lock]), max(10 * size.scale, 4.0)) for spot in spots[[0, 5]])
    rod = np.array([frame.centre - reach * 1.25, frame.centre + reach * 1.25])
    return Metal(rods=((rod, max(size.broad * 0.72, 7.0)), *bolts))


def _pins(frame: Frame, size: _Size, rng: Rng, thick: float) -> tuple[tuple[Points, float], ...]:
    """Three rods that cross the bone at a slant."""
    rods = []
    for i, angle in enumerate(rng.uniform(0.5, 1.1, 3) * size.side):
        heading = math.cos(angle) * frame.across + math.sin(angle) * frame.along
        start = frame.centre + frame.along * (i - 1) * frame.half * 0.9
        length = max(frame.half * 2.0, 45.0) * size.scale
        rods.append((np.array([start - heading * length, start + heading * length]), max(thick * size.scale, 3.0)))
    return tuple(rods)


def _screws(frame: Frame, size: _Size, rng: Rng) -> Metal:
    rods = _pins(frame, size, rng, 13)
    return Metal(rods=rods, discs=tuple((path[0], thick * 1.05) for path, thick in rods))


def _wires(frame: Frame, size: _Size, rng: Rng) -> Metal:
    return Metal(rods=_pins(frame, size, rng, 7))


_STYLES: dict[str, Callable[[Frame, _Size, Rng], Metal]] = {
    "plate": _plate,
    "side plate": _side_plate,
    "nail": _nail,
    "screws": _screws,
    "wires": _wires,
}


def _spots(frame: Frame, size: _Size) -> Points:
    """Where six screws go along the bone, from its middle, [6, 2]."""
    spots: Points = np.linspace(-0.85, 0.85, 6)[:, None] * frame.along * size.reach
    return spots


def _slab(ends: Points, broad: float) -> Points:
    """A rectangle around a segment."""
    along = ends[1] - ends[0]
    across = np.array([-along[1], along[0]]) / np.hypot(along[0], along[1]) * broad / 2
    return np.array([ends[0] + across, ends[1] + across, ends[1] - across, ends[0] - across])
