"""Bones out of their places: fractures, dislocations, narrowed joints."""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np

from components.phantom.anatomy import Anatomy, Bone, Frame, Joint, Points, Rng

Move = Callable[[Points], Points]


class Severity(NamedTuple):
    """How far the pieces of a bone lie from each other."""

    gap: float  # pixels, of a thick bone
    step: float  # sideways, as a share of half the bone
    angle: float  # share of the usual bend

    @classmethod
    def of(cls, difficulty: float, *, reduced: bool) -> Self:
        """Less where it is hard, and where a surgeon has set the bone."""
        whole = cls(28 - 23 * difficulty, 1 - 0.85 * difficulty, 1 - 0.75 * difficulty)
        return cls(whole.gap * 0.5, whole.step * 0.25, whole.angle * 0.25) if reduced else whole


def fracture(anatomy: Anatomy, number: int, frame: Frame, rng: Rng, severity: Severity) -> tuple[Anatomy, Points]:
    """Break a bone across and move the far piece, with all that hangs on it, out of line.

    Args:
        anatomy: with the bone whole.
        number: which bone.
        frame: where it breaks.
        rng: of the break.
        severity: how far the pieces part.

    Returns:
        The anatomy, and points around the broken ends.
    """
    bone = anatomy.bones[number]
    centre, along, across, half = frame
    gap = severity.gap * min(1.0, 0.55 + half / 40)
    step = rng.choice([-1, 1]) * half * rng.uniform(0.9, 1.3) * severity.step
    angle = rng.choice([-1, 1]) * math.radians(rng.uniform(14, 26)) * severity.angle
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

    moved = _rigid(centre, angle, along * gap * 0.7 + across * step)
    hanging = _followers(anatomy.bones, number)
    far = piece(1).mapped(moved)
    shifted = _displaced(anatomy, hanging, moved, lambda p, nearest: beyond(p[None])[0] > 0 and nearest == number)
    bones = [*shifted.bones, far]
    bones[number] = piece(-1)
    side = np.linspace(-1.3, 1.3, 9)[:, None] * half
    surface = centre + side * across + slant * side * along
    margin = along * (0.3 * half + 6)
    return replace(shifted, bones=tuple(bones)), np.concatenate([surface - margin, moved(surface + margin)])


def dislocate(anatomy: Anatomy, joint: Joint, rng: Rng, difficulty: float) -> tuple[Anatomy, Points]:
    """Slide all bones beyond a joint off its surface; return the anatomy and points around the joint."""
    frame = _frame(anatomy, joint)
    far = frame.half * rng.uniform(1.1, 1.5) * (1 - 0.6 * difficulty)
    shift = frame.across * far - frame.along * frame.half * rng.uniform(0.3, 0.6) * (1 - 0.6 * difficulty)
    moved = _rigid(frame.centre, rng.choice([-1, 1]) * math.radians(rng.uniform(8, 24)) * (1 - difficulty / 2), shift)
    margin = frame.along * frame.half * 0.6
    return (
        _displaced(anatomy, joint.moves, moved),
        np.concatenate(
            [joint.seam - margin, joint.seam + margin, moved(joint.seam - margin), moved(joint.seam + margin)]
        ),
    )


def narrow(anatomy: Anatomy, joint: Joint, difficulty: float) -> tuple[Anatomy, Points]:
    """Bring the bones of a joint together, as where its cartilage is gone; return the anatomy and the seam."""
    along = _frame(anatomy, joint).along
    closer = _rigid(joint.seam[0], 0.0, -along * (7 - 4 * difficulty))
    return _displaced(anatomy, joint.moves, closer), joint.seam


def _frame(anatomy: Anatomy, joint: Joint) -> Frame:
    """A joint as a place: across its surface, towards the bones beyond."""
    frame = Frame.of_seam(joint.seam)
    beyond = np.mean([anatomy.bones[i].axis.mean(axis=0) for i in joint.moves], axis=0)
    return frame if (beyond - frame.centre) @ frame.along > 0 else frame._replace(along=-frame.along)


def _followers(bones: tuple[Bone, ...], number: int) -> frozenset[int]:
    """The bones that hang on one."""
    behind = {number}
    for i, other in enumerate(bones):
        if other.follows in behind:
            behind.add(i)
    return frozenset(behind - {number})


def _displaced(
    anatomy: Anatomy,
    moving: Collection[int],
    moved: Move,
    also: Callable[[Points, int], bool] = lambda _, __: False,
) -> Anatomy:
    """Move some bones, their joints and the flesh around them.

    Args:
        anatomy: where all is in place.
        moving: the bones.
        moved: where points go.
        also: whether a point of flesh goes too, by the bone that is nearest to it.
    """
    bones = tuple(bone.mapped(moved) if i in moving else bone for i, bone in enumerate(anatomy.bones))

    def carried(p: Points) -> Points:
        nearest = int(np.argmin([np.hypot(*(bone.axis - p).T).min() for bone in anatomy.bones]))
        return moved(p[None])[0] if nearest in moving or also(p, nearest) else p

    flesh = tuple(replace(each, path=np.array([carried(p) for p in each.path])) for each in anatomy.flesh)
    joints = tuple(
        replace(joint, seam=moved(joint.seam)) if set(joint.moves) <= set(moving) else joint for joint in anatomy.joints
    )
    return replace(anatomy, bones=bones, flesh=flesh, joints=joints)


def _rigid(centre: Points, angle: float, shift: Points) -> Move:
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, s], [-s, c]])

    def moved(p: Points) -> Points:
        around: Points = p - centre
        return np.asarray(around @ turn + centre + shift)

    return moved


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
