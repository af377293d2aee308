"""Seven body parts as bones and flesh: outlines in pixels, not yet an image.

Each part is built about the origin, y pointing down, on a field about 512 long. Shapes come from the
study's generator, so that all views of a study show the same bones; the projection (obliquity, bending)
from the view's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # [N, 2], x and y in pixels
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Bone:
    """One bone: compact bone outside, a canal of spongy bone within.

    A bone may consist of overlapping lumps (shaft and head); they are drawn as one shape.
    """

    outlines: tuple[Points, ...]
    canals: tuple[Points, ...]
    axis: Points  # [K, 2], the centre line from the proximal to the distal end
    half_width: Points  # [K], from the axis to the shaft's edge
    density: float = 1.0
    follows: int | None = None  # the bone that it moves with when that one breaks

    def mapped(self, move: Callable[[Points], Points], scale: float = 1.0) -> "Bone":
        """The bone with each of its points moved, and its widths scaled."""
        return replace(
            self,
            outlines=tuple(move(p) for p in self.outlines),
            canals=tuple(move(p) for p in self.canals),
            axis=move(self.axis),
            half_width=self.half_width * scale,
        )


@dataclass(frozen=True, slots=True)
class Flesh:
    """Soft tissue around a path; a negative weight is air (the lung)."""

    path: Points
    radius: float
    weight: float = 1.0

    def distance(self, point: Points) -> float:
        """From a point, [2], to the path."""
        start, step = self.path[:-1], np.diff(self.path, axis=0)
        share = ((point - start) * step).sum(axis=1) / np.maximum((step**2).sum(axis=1), 1e-9)
        away = start + np.clip(share, 0, 1)[:, None] * step - point
        return float(np.hypot(away[:, 0], away[:, 1]).min())


@dataclass(frozen=True, slots=True)
class Site:
    """A stretch of a bone in which an abnormality may lie, as shares of its length."""

    bone: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Joint:
    """A joint that may be dislocated or worn."""

    seam: Points  # [2, 2], the ends of the joint's surface; what is dislocated slides towards the second
    moves: tuple[int, ...]  # the bones beyond it


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What lies on the plate."""

    bones: tuple[Bone, ...]
    flesh: tuple[Flesh, ...]
    sites: tuple[Site, ...]
    joints: tuple[Joint, ...] = ()

    def mapped(self, move: Callable[[Points], Points], scale: float = 1.0) -> "Anatomy":
        """The whole part with each of its points moved, and its widths scaled."""
        return Anatomy(
            tuple(bone.mapped(move, scale) for bone in self.bones),
            tuple(replace(f, path=move(f.path), radius=f.radius * scale) for f in self.flesh),
            self.sites,
            tuple(replace(joint, seam=move(joint.seam)) for joint in self.joints),
        )


class Frame(NamedTuple):
    """A place of a bone or joint, and the directions there."""

    centre: Points  # [2]
    along: Points  # [2], a unit vector; along the bone, or through the joint
    across: Points  # [2], a unit vector at a right angle to it
    half: float  # half the width, pixels

    @classmethod
    def on(cls, bone: Bone, at: float) -> Self:
        """The place at a share of a bone's length."""
        step = np.diff(bone.axis, axis=0)
        length = np.concatenate([[0.0], np.cumsum(np.hypot(step[:, 0], step[:, 1]))])
        where = at * length[-1]

        def point(distance: float) -> Points:
            return np.array([np.interp(distance, length, bone.axis[:, i]) for i in (0, 1)])

        along = point(where + 4) - point(where - 4)
        along = along / np.hypot(along[0], along[1])
        half = float(np.interp(where, length, bone.half_width))
        return cls(point(where), along, np.array([-along[1], along[0]]), half)

    @classmethod
    def of_seam(cls, seam: Points) -> Self:
        """The middle of a joint's surface; across is towards its second end."""
        across = seam[1] - seam[0]
        length = float(np.hypot(across[0], across[1]))
        across = across / length
        return cls(seam.mean(axis=0), np.array([across[1], -across[0]]), across, length / 2)

    def moved(self, along: float, across: float) -> Self:
        """The same directions at another place, so many pixels away."""
        return self._replace(centre=self.centre + along * self.along + across * self.across)


class Tube(NamedTuple):
    """The form of a tubular bone."""

    half: float  # half the shaft's width
    flare: tuple[float, float]  # how much wider the two ends are
    bend: float = 0.0  # how far the middle is off the straight line, as a share of the length
    tip: tuple[float, float] = (0.55, 0.55)  # how far the rounding of each end reaches, in half widths of that end
    cortex: float = 0.42  # thickness of the compact bone at mid-shaft, in half widths; it thins towards the ends
    waist: bool = False  # narrow the distal half, as in an end phalanx


@dataclass(frozen=True, slots=True)
class Part:
    """How a body part is drawn, and the shorter side of its plates in pixels."""

    build: Callable[[Rng, Rng], Anatomy]
    short_side: tuple[int, int]


def finger(shape: Rng, view: Rng) -> Anatomy:
    """Three phalanges in a row on a metacarpal head; a neighbour's edge in some views."""
    width = shape.uniform(21, 28)
    lengths = np.array([165, 108, 74]) * shape.uniform(0.92, 1.06, 3)
    lateral = view.random() < 0.4
    bend = np.radians(view.uniform(2, 24, 3) if lateral else view.uniform(-7, 7, 3))
    bones = [_long((0, 345), (0, 222), Tube(width * 1.1, (1.2, 1.55)))]
    at, heading = np.array([0.0, 212.0]), -math.pi / 2
    path = [np.array([0.0, 330.0]), at]
    for i, length in enumerate(lengths):
        heading += bend[i]
        thick = width * (1, 0.88, 0.7)[i] * (0.86 if lateral else 1)
        end = at + length * _unit(heading)
        bones.append(
            _long(at, end, Tube(thick, (1.5, (1.35, 1.3, 1.15)[i]), bend=0.03 * lateral, waist=i == 2), follows=i)
        )
        path.append(end)
        at = end + view.uniform(6, 9) * _unit(heading)
    flesh = [Flesh(_stack(*path, path[-1] + 12 * _unit(heading)), width * 2.1)]
    if view.random() < 0.45:
        side = view.choice([-1, 1]) * view.uniform(100, 125)
        for top, foot in ((60, 215), (-60, 50)):
            tip, base = (side * 1.06, top + 20), (side, foot + 20)
            bones.append(_long(base, tip, Tube(width * 0.9, (1.5, 1.35)), density=0.9))
        flesh.append(Flesh(_stack((side, 330), (side * 1.1, -70)), width * 1.9))
    aside = np.array([-np.mean([p[0] for p in path]), 0.0])

    def centred(p: Points) -> Points:
        return np.asarray(p + aside)

    # Not the one below: a finger that leaves it leaves the narrow plate, too.
    joints = (_joint(bones, 1, 2, (2, 3)),)
    return Anatomy(tuple(bones), tuple(flesh), (Site(1, 0.25, 0.75), Site(2, 0.3, 0.7)), joints).mapped(centred)


def hand(shape: Rng, view: Rng) -> Anatomy:
    """Five rays of metacarpals and phalanges fanning out from the carpal bones."""
    size = shape.uniform(0.95, 1.1)
    squeeze = view.uniform(0.62, 0.8) if view.random() < 0.3 else view.uniform(0.92, 1.0)
    spread = view.uniform(0.7, 1.25)
    bones: list[Bone] = []
    flesh: list[Flesh] = []
    sites: list[Site] = []
    joints: list[Joint] = []
    rays = (  # base x, base y, angle from upright in degrees, length, width
        (-52, 128, -46, 0.72, 1.15),
        (-31, 100, -12, 1.0, 1.05),
        (-8, 95, -2, 1.03, 1.05),
        (14, 98, 7, 0.95, 0.95),
        (35, 106, 17, 0.84, 0.9),
    )
    for ray, (x, y, angle, length, thick) in enumerate(rays):
        at = np.array([x, y], dtype=np.float64) * size
        heading = math.radians(-90 + angle * spread)
        path = [np.array([0.0, 140.0]), at]
        parts = ((128, 13), (84, 11.5), (50, 9.5), (35, 7.5)) if ray else ((128, 13), (86, 11.5), (62, 9.5))
        for i, (reach, half) in enumerate(parts):
            end = at + reach * length * size * _unit(heading)
            follows = len(bones) - 1 if i else None
            bones.append(
                _long(at, end, Tube(half * thick * size, (1.5, 1.45), waist=i == len(parts) - 1), follows=follows)
            )
            if i < 2 and ray:
                sites.append(Site(len(bones) - 1, 0.3, 0.7))
            at = end + 5 * _unit(heading)
            heading += math.radians(view.uniform(-5, 5))
            path.append(end)
        flesh.append(Flesh(_stack(*path), 24 * size))
        if ray:
            first = len(bones) - len(parts)
            joints.append(_joint(bones, first, first + 1, tuple(range(first + 1, len(bones)))))
    for x, y, rx, ry in (*_CARPALS, (-24, 131, 15, 13)):
        bones.append(_lump(shape, (x * size, (y + 22) * size), rx * 1.02 * size, ry * size))
    bones.append(_long((-26, 330), (-22, 188), Tube(21, (1.0, 1.7))))
    bones.append(_long((32, 330), (34, 194), Tube(14, (1.0, 1.4))))
    flesh.append(Flesh(_stack((0, 60), (0, 160), (3, 330)), 62 * size))

    def oblique(p: Points) -> Points:
        return np.asarray(p * np.array([squeeze, 1.0]))

    return Anatomy(tuple(bones), tuple(flesh), tuple(sites), tuple(joints)).mapped(oblique)


# Centre and half axes of the carpal bones as they lie in a hand.
_CARPALS = (
    (-31, 130, 19, 17),
    (-4, 138, 17, 16),
    (21, 133, 17, 15),
    (-40, 101, 15, 14),
    (-19, 98, 13, 13),
    (3, 104, 16, 22),
    (28, 103, 17, 18),
)


def wrist(shape: Rng, view: Rng) -> Anatomy:
    """Radius and ulna below, two rows of carpal bones, the bases of the metacarpals above."""
    lateral = view.random() < 0.35
    squeeze = view.uniform(0.4, 0.55) if lateral else view.uniform(0.85, 1.05)
    size = shape.uniform(0.95, 1.08)
    tilt = view.uniform(-14, 14)
    bones = [
        _long((-38, 340), (-32, 62), Tube(36, (1.0, 1.72), tip=(0.5, 0.3))),
        _long((52, 340), (52, 74), Tube(24, (1.0, 1.35))),
    ]
    for x, y, rx, ry in _CARPALS:
        centre = ((x + 3) * 1.95 + tilt * 0.2, (y - 118) * 1.95 - 8)
        bones.append(_lump(shape, centre, rx * 2.0, ry * 1.98, follows=0))
    flesh = [Flesh(_stack((8, 340), (6, 40)), 112), Flesh(_stack((6, 40), (tilt, -150)), 128)]
    for ray in range(5):
        base = np.array([-76 + 38 * ray + (ray == 0) * -14, -84 + 5 * abs(ray - 2)], dtype=np.float64)
        heading = math.radians(-90 + (-42, -9, -1, 6, 13)[ray] + tilt)
        bones.append(
            _long(base, base + 250 * (0.7 if ray == 0 else 1) * _unit(heading), Tube(20, (1.5, 1.4)), follows=0)
        )
        flesh.append(Flesh(_stack(base, base + 260 * _unit(heading)), 40))

    def project(p: Points) -> Points:
        return np.asarray(p * np.array([squeeze * size, size]))

    sites = (Site(0, 0.45, 0.78), Site(0, 0.5, 0.85), Site(1, 0.45, 0.8))
    radiocarpal = Joint(_stack((34, 62), (-88, 62)), tuple(range(2, len(bones))))
    return Anatomy(tuple(bones), tuple(flesh), sites, (radiocarpal,)).mapped(project, size * (0.3 + 0.7 * squeeze))


def forearm(shape: Rng, view: Rng) -> Anatomy:
    """Radius and ulna side by side, from the elbow below to the wrist above."""
    apart = view.uniform(0.25, 1.0)
    size = shape.uniform(0.95, 1.1)
    half = shape.uniform(18, 23)
    bones = [
        _long(
            (-30 * apart, 212), (-46 * apart, -212), Tube(half, (1.25, 1.85), bend=-0.045, tip=(0.4, 0.3), waist=True)
        ),
        _long((26 * apart, 246), (44 * apart, -204), Tube(half * 0.95, (1.95, 1.15), bend=0.02)),
        _long((4, 420), (2, 252), Tube(30, (1.0, 1.9))),
    ]
    for x, y in ((-44, -240), (-10, -246), (24, -236), (-34, -272), (4, -278), (34, -266)):
        bones.append(_lump(shape, (x * max(apart, 0.6), y), 20, 19, follows=0))
    flesh = [Flesh(_stack((0, 330), (0, 60)), 98), Flesh(_stack((0, 90), (0, -200), (0, -330)), 74)]

    def project(p: Points) -> Points:
        return p * size

    sites = (Site(0, 0.25, 0.75), Site(1, 0.3, 0.75), Site(0, 0.4, 0.8), Site(1, 0.3, 0.6))
    return Anatomy(tuple(bones), tuple(flesh), sites).mapped(project, size)


def elbow(shape: Rng, view: Rng) -> Anatomy:
    """The humerus coming from above; ulna with its olecranon and radius with its head, bent at the joint."""
    lateral = view.random() < 0.5
    flexion = math.radians(view.uniform(50, 100) if lateral else view.uniform(0, 18))
    half = shape.uniform(29, 36)
    condyles = 1.6 if lateral else 2.0
    humerus = _long((0, -340), (0, 8), Tube(half, (1.0, condyles), tip=(0.5, 0.5 if lateral else 0.32)))
    if not lateral:
        knob = _lump(shape, (-half * 1.2, -22), half * 0.72, half * 0.8)
        humerus = _joined(humerus, knob)

    def turned(p: Points) -> Points:
        c, s = math.cos(flexion), math.sin(flexion)
        x, y = p[:, 0], p[:, 1] - 6
        return np.stack([c * x + s * y, c * y - s * x + 6], axis=1)

    across = 0.35 if lateral else 1.0
    top = 0 if lateral else -16
    ulna = _long((-18 * across, top), (-26 * across, 360), Tube(half * 0.78, (1.55, 1.0), tip=(0.6, 0.3)), follows=0)
    if lateral:
        ulna = _joined(ulna, _lump(shape, (-16, -4), half * 0.75, half * 1.05))
    radius = _long(
        (24 * across + 8, 24), (34 * across + 10, 360), Tube(half * 0.6, (1.5, 1.05), tip=(0.35, 0.3)), follows=0
    )
    bones = (humerus, ulna.mapped(turned), radius.mapped(turned))
    low = turned(np.array([[0.0, 20.0], [0.0, 340.0]]))
    flesh = (Flesh(_stack((0, -340), (0, 0)), half * 2.9), Flesh(low, half * 2.5))
    offset = np.array([-50.0, 70.0]) * math.sin(flexion)

    def centred(p: Points) -> Points:
        return np.asarray(p + offset)

    sites = (Site(0, 0.45, 0.8), Site(1, 0.25, 0.55), Site(2, 0.25, 0.55), Site(0, 0.5, 0.85))
    trochlea = Joint(_stack((half * condyles * 0.8, 6), (-half * condyles * 0.8, 6)), (1, 2))
    return Anatomy(bones, flesh, sites, (trochlea,)).mapped(centred)


def humerus(shape: Rng, view: Rng) -> Anatomy:
    """One long bone with a round head, the shoulder blade beside it and the forearm's beginning below."""
    half = shape.uniform(25, 31)
    turn = view.uniform(-1, 1)
    shaft = _long((0, -205), (0, 205), Tube(half, (1.75, 1.3 + 0.6 * abs(turn)), bend=0.012 * turn, tip=(0.5, 0.3)))
    head = _lump(shape, (-24 * turn, -200), half * 1.85, half * 1.75)
    blade = _shape(((-70, -235), (-58, -180), (-110, -90), (-170, -60), (-190, -260)), density=0.45)
    bones = (
        _joined(shaft, head),
        blade,
        _long((-18, 222), (-22, 380), Tube(half * 0.72, (1.6, 1.0)), follows=0),
        _long((22, 226), (26, 380), Tube(half * 0.6, (1.4, 1.0)), follows=0),
    )
    flesh = (
        Flesh(_stack((0, -240), (0, 330)), half * 3.0),
        Flesh(_stack((-30, -230), (-150, -230)), half * 3.2),
    )
    wide = half * (1.3 + 0.6 * abs(turn)) * 0.85
    trochlea = Joint(_stack((wide, 210), (-wide, 210)), (2, 3))
    return Anatomy(bones, flesh, (Site(0, 0.25, 0.8), Site(0, 0.35, 0.7)), (trochlea,))


def shoulder(shape: Rng, view: Rng) -> Anatomy:
    """Humeral head in the glenoid, shoulder blade with acromion, collar bone, and a few ribs in the lung."""
    half = shape.uniform(28, 34)
    apart = view.uniform(0, 10)
    swing = view.uniform(-50, 25)
    head = (-62 - apart, -18)
    shaft = _long((-70 - apart, -30), (-100 + swing - apart, 330), Tube(half, (1.5, 1.0)))
    blade = _shape(
        (
            (6, -46),
            (0, -8),
            (4, 34),
            (34, 52),
            (70, 150),
            (110, 236),
            (140, 190),
            (176, -40),
            (160, -92),
            (90, -66),
            (48, -74),
        ),
        density=0.5,
    )
    rim = _lump(shape, (10, -6), 15, 50)
    acromion = _shape(((-66, -112), (-30, -122), (40, -104), (130, -74), (120, -58), (30, -84), (-40, -92)), 0.85)
    bones = [
        _joined(shaft, _lump(shape, head, half * 2.0, half * 1.95)),
        _long((300, -150), (-16, -128), Tube(15, (1.6, 1.45), bend=0.05)),
        _joined(blade, rim),
        acromion,
        _lump(shape, (40, -72), 24, 17, density=0.75),
    ]
    slope = view.uniform(50, 90)
    for rib in range(5):
        y = -100 + 66 * rib
        bones.append(
            _long((104 + 4 * rib, y), (320, y + slope), Tube(10, (1.0, 1.0), bend=-0.16, cortex=0.5), density=0.5)
        )
    flesh = (
        Flesh(_stack((-80, -40), (-95 + swing, 330)), 104),
        Flesh(_stack((-60, -60), (300, -90)), 118),
        Flesh(_stack((90, 20), (260, 60), (260, 330)), 170),
        Flesh(_stack((250, 20), (260, 330)), 95, weight=-0.62),
    )
    sites = (Site(0, 0.12, 0.5), Site(0, 0.2, 0.55), Site(1, 0.35, 0.75), Site(0, 0.1, 0.3))
    # The head leaves its socket downwards.
    socket = Joint(_stack((1 - apart, -56), (-3 - apart, 44)), (0,))
    return Anatomy(tuple(bones), flesh, sites, (socket,))


PARTS = {
    "ELBOW": Part(elbow, (370, 512)),
    "FINGER": Part(finger, (170, 310)),
    "FOREARM": Part(forearm, (200, 350)),
    "HAND": Part(hand, (360, 512)),
    "HUMERUS": Part(humerus, (220, 420)),
    "SHOULDER": Part(shoulder, (390, 512)),
    "WRIST": Part(wrist, (270, 450)),
}


def _long(
    start: npt.ArrayLike, end: npt.ArrayLike, tube: Tube, *, density: float = 1.0, follows: int | None = None
) -> Bone:
    """A tubular bone from `start` (proximal, [2]) to `end` (distal, [2])."""
    half, flare, bend, tip, cortex, waist = tube
    a, b = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    length = float(np.hypot(*(b - a)))
    along = (b - a) / length
    across = np.array([-along[1], along[0]])
    share = (1 - np.cos(np.linspace(0, math.pi, 36))) / 2  # dense at the ends, where the outline turns
    axis = a + share[:, None] * (b - a) + (bend * length * 4 * share * (1 - share))[:, None] * across
    width = half * (
        1 + (flare[0] - 1) * np.exp(-((share / 0.17) ** 2)) + (flare[1] - 1) * np.exp(-(((1 - share) / 0.17) ** 2))
    )
    if waist:
        width *= 1 - 0.22 * np.exp(-(((share - 0.62) / 0.22) ** 2))
    rounding = np.ones_like(share)
    for distance, reach in ((share, tip[0] * flare[0]), (1 - share, tip[1] * flare[1])):
        left = 1 - np.minimum(distance * length / (reach * half), 1)
        rounding *= np.sqrt(np.maximum(1 - left**2.4, 0))
    width = width * rounding
    wall = half * cortex * (0.22 + 0.78 * np.sin(math.pi * share) ** 0.8)
    inner = np.maximum(width - wall, 0)[2:-2]
    return Bone(
        (_ribbon(axis, width, across),),
        (_ribbon(axis[2:-2], inner, across),),
        axis,
        np.maximum(width, half * 0.6),
        density,
        follows,
    )


def _ribbon(axis: Points, width: Points, across: Points) -> Points:
    side = width[:, None] * across
    return np.concatenate([axis + side, (axis - side)[::-1]])


def _lump(
    rng: Rng,
    centre: npt.ArrayLike,
    rx: float,
    ry: float,
    *,
    density: float = 0.9,
    follows: int | None = None,
) -> Bone:
    """A rounded, slightly irregular bone: a carpal bone, a joint's head."""
    angle = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    phase = rng.uniform(0, 2 * math.pi, 2)
    radius = 1 + 0.05 * np.sin(3 * angle + phase[0]) + 0.04 * np.sin(2 * angle + phase[1])
    middle = np.asarray(centre, dtype=np.float64)
    rim = np.stack([np.cos(angle) * rx, np.sin(angle) * ry], axis=1) * radius[:, None]
    wall = 1 - 4.0 / (4.0 + min(rx, ry))
    axis = middle + np.linspace(-0.8, 0.8, 8)[:, None] * np.array([0.0, ry])
    return Bone((middle + rim,), (middle + rim * wall,), axis, np.full(8, rx), density, follows)


def _shape(corners: tuple[tuple[float, float], ...], density: float) -> Bone:
    """A flat bone with the given corners, rounded by cutting them three times (Chaikin's method)."""
    rim = np.array(corners, dtype=np.float64)
    for _ in range(3):
        after = np.roll(rim, -1, axis=0)
        rim = np.stack([0.75 * rim + 0.25 * after, 0.25 * rim + 0.75 * after], axis=1).reshape(-1, 2)
    middle = rim.mean(axis=0)
    toward = middle - rim
    inner = rim + toward / np.maximum(np.hypot(toward[:, 0], toward[:, 1]), 1)[:, None] * 5
    return Bone((rim,), (inner,), np.stack([middle, rim[0]]), np.full(2, 20.0), density)


def _joint(bones: Sequence[Bone], above: int, below: int, moves: tuple[int, ...]) -> Joint:
    """The joint between the distal end of one bone and the proximal end of another."""
    upper, lower = bones[above], bones[below]
    along = lower.axis[-1] - lower.axis[0]
    across = np.array([-along[1], along[0]]) / np.hypot(along[0], along[1])
    half = max(float(upper.half_width[-8:].max()), float(lower.half_width[:8].max()))
    middle = (upper.axis[-1] + lower.axis[0]) / 2
    return Joint(np.array([middle - across * half, middle + across * half]), moves)


def _joined(bone: Bone, *others: Bone) -> Bone:
    return replace(
        bone,
        outlines=bone.outlines + tuple(p for other in others for p in other.outlines),
        canals=bone.canals + tuple(p for other in others for p in other.canals),
    )


def _unit(angle: float) -> Points:
    return np.array([math.cos(angle), math.sin(angle)])


def _stack(*points: npt.ArrayLike) -> Points:
    return np.array([np.asarray(p, dtype=np.float64) for p in points])
