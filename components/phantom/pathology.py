"""What makes a study abnormal: a fracture, hardware or a lesion, at one place of one bone.

`difficulty` runs from 0, where a person sees each at a glance and a network still
does at 64 pixels, to 1, where they are small and faint, and half of the views do not show them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from components.phantom.anatomy import Anatomy, Bone, Points, Rng, Site

Kind = Literal["fracture", "hardware", "lesion"]
# About half of MURA's abnormal studies show hardware (Pure-MURA's split); the rest is our choice.
_KINDS: dict[Kind, float] = {"hardware": 0.5, "lesion": 0.27, "fracture": 0.23}
_HARDWARE = ("plate", "side plate", "nail", "screws", "wires")


@dataclass(frozen=True, slots=True)
class Finding:
    """One abnormality of a study; its views show the same one."""

    kind: Kind
    site: Site
    at: float  # share of the bone's length
    style: str
    seed: int  # of its details


@dataclass(frozen=True, slots=True)
class Metal:
    """Hardware as shapes in pixels."""

    plates: tuple[Points, ...] = ()
    rods: tuple[tuple[Points, float], ...] = ()  # path and thickness
    discs: tuple[tuple[Points, float], ...] = ()  # centre and radius
    holes: tuple[tuple[Points, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Lesion:
    """A hole in the bone with a sclerotic rim, or a dense mass."""

    outline: Points
    rim: float  # thickness of the dense shell, pixels
    depth: float  # share of the bone that is gone inside, 0 to 1
    mass: float  # density added inside, in units of a long bone's compact bone


def choose_findings(rng: Rng, sites: tuple[Site, ...], difficulty: float) -> tuple[Finding, ...]:
    """The abnormalities of a study: one, or two more often where the archive is easy."""
    count = 2 if rng.random() < 0.9 - 0.8 * difficulty and len(sites) > 1 else 1
    places = rng.choice(len(sites), size=count, replace=False)
    kinds = rng.choice(len(_KINDS), size=count, replace=False, p=list(_KINDS.values()))
    # Thin wires and lone screws are the first to vanish in a small picture.
    fine = 0.02 + 0.25 * difficulty
    hardware = np.array([0.4, 0.35, 0.25 - 0.1 * difficulty, fine, fine])
    found = []
    for place, chosen in zip(places, kinds, strict=True):
        site, kind = sites[int(place)], list(_KINDS)[int(chosen)]
        style = ""
        if kind == "hardware":
            style = str(rng.choice(_HARDWARE, p=hardware / hardware.sum()))
        elif kind == "lesion":
            style = "lytic" if rng.random() < 0.65 else "sclerotic"
        at = float(rng.uniform(site.low, site.high))
        found.append(Finding(kind, site, at, style, int(rng.integers(2**31))))
    return tuple(found)


def place(anatomy: Anatomy, finding: Finding) -> Points:
    """Where the abnormality lies, [2]."""
    return _frame(anatomy.bones[finding.site.bone], finding.at)[0]


def fracture(anatomy: Anatomy, finding: Finding, difficulty: float) -> Anatomy:
    """Break a bone across and move the far piece, with all that hangs on it, out of line."""
    rng = np.random.default_rng(finding.seed)
    bone = anatomy.bones[finding.site.bone]
    centre, along, half = _frame(bone, finding.at)
    across = np.array([-along[1], along[0]])
    gap = (20 - 15 * difficulty) * min(1.0, 0.55 + half / 40)
    step = rng.choice([-1, 1]) * half * rng.uniform(0.7, 1.0) * (1 - 0.85 * difficulty)
    angle = rng.choice([-1, 1]) * math.radians(rng.uniform(12, 22)) * (1 - 0.75 * difficulty)
    slant = rng.uniform(-0.45, 0.45)
    teeth = rng.uniform(-0.16, 0.16, 7) * half * 2

    def beyond(p: Points) -> Points:
        """How far points lie beyond the broken surface, [N]."""
        side = (p - centre) @ across
        jag = np.interp(side / half, np.linspace(-1.2, 1.2, 7), teeth)
        level: Points = (p - centre) @ along - slant * side - jag
        return level

    def piece(side: int) -> Bone:
        return replace(
            bone,
            outlines=_cut(bone.outlines, beyond, along, side),
            canals=_cut(bone.canals, beyond, along, side),
        )

    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, s], [-s, c]])
    shift = along * gap * 0.7 + across * step

    def moved(p: Points) -> Points:
        around: Points = p - centre
        return np.asarray(around @ turn + centre + shift)

    bones = list(anatomy.bones)
    behind = {finding.site.bone}
    for i, other in enumerate(bones):
        if other.follows in behind:
            behind.add(i)
            bones[i] = other.mapped(moved)
    bones[finding.site.bone] = piece(-1)
    return replace(anatomy, bones=(*bones, piece(1).mapped(moved)))


def hardware(anatomy: Anatomy, finding: Finding, difficulty: float) -> Metal:
    """The metal of a fixation along or across a bone."""
    rng = np.random.default_rng(finding.seed)
    bone = anatomy.bones[finding.site.bone]
    centre, along, half = _frame(bone, finding.at)
    across = np.array([-along[1], along[0]])
    size = 1.15 - 0.55 * difficulty
    reach = float(np.clip(half * 3.6, 66, 115)) * size * rng.uniform(0.9, 1.15)
    broad = float(np.clip(half * 1.1, 26, 40)) * size
    side = float(rng.choice([-1, 1]))
    middle = centre + across * side * half * rng.uniform(0.0, 0.35)
    ends = np.array([middle - along * reach, middle + along * reach])
    spots = np.linspace(-0.85, 0.85, 6)[:, None] * along * reach
    if finding.style == "plate":
        return Metal(
            plates=(_slab(ends, broad),),
            holes=tuple((middle + spot, broad * 0.17) for spot in spots[[1, 4]]),
            rods=tuple(
                (np.array([middle + s - across * broad * 0.7, middle + s + across * broad * 0.7]), 8 * size)
                for s in spots[[0, 2, 3, 5]]
            ),
        )
    if finding.style == "side plate":
        edge = across * side * half * 1.05
        screws = tuple(
            (
                np.array([centre + spot + edge, centre + spot - edge * rng.uniform(0.9, 1.25)]),
                max(10 * size, 4.0),
            )
            for spot in spots
        )
        return Metal(
            plates=(_slab(np.array([centre - along * reach, centre + along * reach]) + edge, broad * 0.62),),
            rods=screws,
        )
    if finding.style == "nail":
        lock = across * half * 1.3
        bolts = tuple(
            (np.array([centre + spot - lock, centre + spot + lock]), max(10 * size, 4.0)) for spot in spots[[0, 5]]
        )
        rod = np.array([centre - along * reach * 1.25, centre + along * reach * 1.25])
        return Metal(rods=((rod, max(broad * 0.72, 7.0)), *bolts))
    angles = rng.uniform(0.5, 1.1, 3) * side
    thick = (13 if finding.style == "screws" else 7) * size
    rods = []
    for i, angle in enumerate(angles):
        heading = math.cos(angle) * across + math.sin(angle) * along
        start = centre + along * (i - 1) * half * 0.9
        length = max(half * 2.0, 45.0) * size
        rods.append((np.array([start - heading * length, start + heading * length]), max(thick, 3.0)))
    heads = tuple((rod[0], thick * 1.05) for rod, _ in rods) if finding.style == "screws" else ()
    return Metal(rods=tuple(rods), discs=heads)


def lesion(anatomy: Anatomy, finding: Finding, difficulty: float) -> Lesion:
    """A hole with a dense shell that swells a thin bone, or a dense mass."""
    rng = np.random.default_rng(finding.seed)
    bone = anatomy.bones[finding.site.bone]
    centre, along, half = _frame(bone, finding.at)
    across = np.array([-along[1], along[0]])
    size = 1.2 - 0.8 * difficulty
    wide = float(np.clip(half * rng.uniform(0.95, 1.15), 22, 40)) * size
    long = wide * rng.uniform(1.1, 1.6)
    angle = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    lumpy = 1 + sum(rng.uniform(0.03, 0.09) * np.sin(k * angle + rng.uniform(0, 2 * math.pi)) for k in (2, 3, 5))
    outline = centre + (
        (np.cos(angle) * lumpy * long)[:, None] * along + (np.sin(angle) * lumpy * wide)[:, None] * across
    )
    if finding.style == "lytic":
        return Lesion(outline, 9 - 6 * difficulty, 0.97 - 0.45 * difficulty, 0.0)
    return Lesion(outline, 0.0, 0.0, 2.6 - 2.0 * difficulty)


def _frame(bone: Bone, at: float) -> tuple[Points, Points, float]:
    """Centre, direction and half width of a bone at a share of its length."""
    step = np.diff(bone.axis, axis=0)
    length = np.concatenate([[0.0], np.cumsum(np.hypot(step[:, 0], step[:, 1]))])
    where = at * length[-1]

    def point(distance: float) -> Points:
        return np.array([np.interp(distance, length, bone.axis[:, i]) for i in (0, 1)])

    tangent = point(where + 4) - point(where - 4)
    return (
        point(where),
        tangent / np.hypot(tangent[0], tangent[1]),
        float(np.interp(where, length, bone.half_width)),
    )


def _cut(
    polygons: tuple[Points, ...], beyond: Callable[[Points], Points], along: Points, side: int
) -> tuple[Points, ...]:
    """The parts of polygons on one side (-1 near, 1 far) of a broken surface that crosses each once."""
    kept = []
    for polygon in polygons:
        level = beyond(polygon) * side
        inside = level >= 0
        if inside.all():
            kept.append(polygon)
        elif inside.any():
            first = int(np.flatnonzero(inside & ~np.roll(inside, 1))[0])
            ring, level = np.roll(polygon, -first, axis=0), np.roll(level, -first)
            run = int(np.argmin(level >= 0))  # the first point that is cut away
            leave = _crossing(ring[run - 1], ring[run], level[run - 1], level[run])
            enter = _crossing(ring[-1], ring[0], level[-1], level[0])
            chord = leave + np.linspace(0, 1, 14)[:, None] * (enter - leave)
            teeth = chord - beyond(chord)[:, None] * along
            kept.append(np.concatenate([ring[:run], teeth]))
    return tuple(kept)


def _crossing(inner: Points, outer: Points, inner_level: float, outer_level: float) -> Points:
    return inner + inner_level / (inner_level - outer_level) * (outer - inner)


def _slab(ends: Points, broad: float) -> Points:
    """A rectangle around a segment."""
    along = ends[1] - ends[0]
    across = np.array([-along[1], along[0]]) / np.hypot(along[0], along[1]) * broad / 2
    return np.array([ends[0] + across, ends[1] + across, ends[1] - across, ends[0] - across])
