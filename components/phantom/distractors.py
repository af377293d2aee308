"""Harmless things that catch the eye, on normal and abnormal studies alike.

The brightest thing on a plate is often none of the patient's: a marker, a ring, a coin, a sheet of lead.
"""

import math

import numpy as np

from components.phantom.anatomy import Anatomy, Frame, Points, Rng
from components.phantom.film import Field, Marker, Stroke, Things
from components.phantom.hardware import Metal

# Shares of studies.
_GROWTH_PLATES, _BONE_ISLAND, _THREAD, _LABEL = 0.1, 0.08, 0.09, 0.09
_COIN, _LEAD, _CAST = 0.15, 0.24, 0.08
_RING = 0.15  # of hands and fingers


def things(habits: Rng, rng: Rng, anatomy: Anatomy, part: str, size: tuple[int, int]) -> Things:
    """What lies about on a plate.

    Args:
        habits: of the study.
        rng: of the view.
        anatomy: the patient's, in pixels of the plate: a ring stays on its finger.
        part: body part.
        size: width and height of the plate, pixels.
    """
    strokes = _strokes(habits, rng, anatomy, size)
    metal = []
    if habits.random() < _COIN:
        metal.append(Metal(discs=((np.array(size) * rng.uniform(0.1, 0.9, 2), float(habits.uniform(10, 24))),)))
    if part in ("HAND", "FINGER") and habits.random() < _RING:
        metal.append(_ring(habits, anatomy))
    lead = _lead(rng, size) if habits.random() < _LEAD else None
    cast = float(habits.uniform(14, 30)) if habits.random() < _CAST else 0.0
    return Things(strokes, tuple(metal), lead, cast)


def marker(habits: Rng, rng: Rng, field: Field, difficulty: float) -> Marker | None:
    """The letter of the side in a corner of the lit field; some plates have none."""
    letter = "L" if habits.random() < 0.5 else "R"
    if rng.random() < 0.12:
        return None
    corner = rng.choice([-1, 1], 2) * rng.uniform(0.72, 0.86, 2)
    turn = math.radians(field.angle)
    x, y = corner * np.array(field.half)
    at = (
        field.centre[0] + x * math.cos(turn) - y * math.sin(turn),
        field.centre[1] + x * math.sin(turn) + y * math.cos(turn),
    )
    return Marker(
        letter,
        at,
        height=rng.uniform(20, 36) + 10 * difficulty,
        level=rng.uniform(170, 252),
        angle=-field.angle + float(rng.uniform(-8, 8)),
        mirrored=bool(rng.random() < 0.15),
    )


def _strokes(habits: Rng, rng: Rng, anatomy: Anatomy, size: tuple[int, int]) -> tuple[Stroke, ...]:
    """At most one kind of thing that is neither bone nor metal."""
    kind = habits.random()
    bone = anatomy.bones[anatomy.sites[int(habits.integers(len(anatomy.sites)))].bone]
    if (kind := kind - _GROWTH_PLATES) < 0:
        return tuple(_growth_plate(bone.axis, float(bone.half_width[end]), end) for end in (9, -10))
    if (kind := kind - _BONE_ISLAND) < 0:
        return (_island(habits, bone.axis),)
    if (kind := kind - _THREAD) < 0:
        return (_thread(rng, size),)
    if kind - _LABEL < 0:
        return (_label(habits, rng, size),)
    return ()


def _growth_plate(axis: Points, half: float, end: int) -> Stroke:
    """A child's: a dark wavy line near the end of a bone, without a step."""
    along = axis[end + 1] - axis[end]
    along = along / max(float(np.hypot(along[0], along[1])), 1e-6)
    across = np.array([-along[1], along[0]])
    side = np.linspace(-1.3, 1.3, 9)[:, None] * half * across
    wave = 2.5 * np.sin(np.linspace(0, 3 * math.pi, 9))[:, None] * along
    return Stroke(axis[end] + side + wave, 4.0, -0.6)


def _island(habits: Rng, axis: Points) -> Stroke:
    """A small dense spot within a bone."""
    spot = axis[int(habits.integers(8, 28))] + habits.uniform(-6, 6, 2)
    return Stroke(np.array([spot, spot + 2]), habits.uniform(8, 14), 0.7)


def _thread(rng: Rng, size: tuple[int, int]) -> Stroke:
    """A cable or a thread across the plate."""
    x = np.linspace(-20, size[0] + 20, 24)
    y = size[1] * rng.uniform(0.1, 0.9) + rng.uniform(10, 50) * np.sin(x / rng.uniform(50, 120))
    return Stroke(np.stack([x, y], axis=1), rng.uniform(2, 4), 0.5)


def _label(habits: Rng, rng: Rng, size: tuple[int, int]) -> Stroke:
    """The hospital's name, at the edge."""
    left, top = size[0] * rng.uniform(0.2, 0.7), size[1] * (0.05 if rng.random() < 0.5 else 0.95)
    return Stroke(np.array([[left, top], [left + 60, top]]), rng.uniform(18, 30), habits.uniform(0.6, 6))


def _ring(habits: Rng, anatomy: Anatomy) -> Metal:
    """A ring around a finger: a band across the first phalanx of one."""
    site = anatomy.sites[int(habits.integers(len(anatomy.sites)))]
    frame = Frame.on(anatomy.bones[site.bone], habits.uniform(0.35, 0.65))
    reach = frame.across * (frame.half * 1.5 + 4)
    return Metal(rods=((np.array([frame.centre - reach, frame.centre + reach]), habits.uniform(9, 15)),))


def _lead(rng: Rng, size: tuple[int, int]) -> Points:
    """A sheet along one edge of the plate, somewhat askew, [4, 2]."""
    width, height = size
    near, far = rng.uniform(0.05, 0.15, 2)
    edge = np.array([(-0.1, -0.1), (1.1, -0.1), (1.1, near), (-0.1, far)])  # the upper edge, in shares
    if rng.random() < 0.5:
        edge[:, 1] = 1 - edge[:, 1]
    if rng.random() < 0.5:
        edge = edge[:, ::-1]
    sheet: Points = edge * np.array([width, height])
    return sheet
