"""One view of one study, from a seed and its path."""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from components.phantom import distractors, film, pathology
from components.phantom.anatomy import PARTS, Points, Rng
from components.phantom.plan import METAL_SHARE, Study
from components.phantom.truth import Truth

LONG_SIDE = 512
# 75 of 133 MURA images read from their headers are grey, the others RGB with three equal channels.
GREY_SHARE = 75 / 133
# Six of 36 such patients mix both modes; this share of views draws its own.
OWN_MODE = 0.15
# An abnormality closer to the dark border than this is hard to read, pixels.
_MARGIN = 30
_POSES = 24


@dataclass(frozen=True, slots=True)
class Pose:
    """How a part lies on its plate, and which rectangle of the plate was lit."""

    size: tuple[int, int]  # width and height of the plate, pixels
    field: film.Field
    flip: float  # -1 for the other side of the body
    angle: float  # radians
    scale: float
    shift: Points  # [2]

    def move(self, p: Points) -> Points:
        """Points [N, 2] of the part to pixels of the plate."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        placed: Points = (p * np.array([self.flip, 1.0])) @ (np.array([[c, s], [-s, c]]) * self.scale)
        return placed + self.shift

    def shows(self, p: Points) -> bool:
        """Whether all points of the part lie well inside the lit field."""
        return self.lights(self.move(p), margin=_MARGIN)

    def lights(self, p: Points, margin: float = 0) -> bool:
        """Whether all points of the plate lie inside the lit field and the plate, so far from their edges."""
        turn = math.radians(self.field.angle)
        away = p - np.array(self.field.centre)
        x = away[:, 0] * math.cos(turn) + away[:, 1] * math.sin(turn)
        y = away[:, 1] * math.cos(turn) - away[:, 0] * math.sin(turn)
        half = np.array(self.field.half) - margin
        lit = (np.abs(x) <= half[0]) & (np.abs(y) <= half[1])
        return bool((lit & (p >= margin).all(axis=1) & (p <= np.array(self.size) - margin).all(axis=1)).all())


class View(NamedTuple):
    """One view of a study of an archive."""

    study: Study
    number: int  # counted from 1
    seed: int
    difficulty: float

    @property
    def member(self) -> str:
        """Its name in the archive."""
        return self.study.images[self.number - 1]


def png(picture: film.Grey, view: View) -> bytes:
    """The PNG file of a view: 8 bits, colour type 0 or 2."""
    own = _rng(view.seed, "mode", view.member)
    shared = _rng(view.seed, "mode", view.study.path)
    grey = (own if own.random() < OWN_MODE else shared).random() < GREY_SHARE
    pixels = picture if grey else cv2.merge([picture] * 3)
    # On noisy plates level 3 saves 5 to 10 % and takes half as long again.
    done, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, "OpenCV encodes every uint8 image"
    return encoded.tobytes()


def draw(view: View, *, healthy: bool = False) -> tuple[film.Grey, tuple[Truth, ...]]:
    """The pixels of a view, uint8 [H, W], the longer side 512, and what is to be found on it.

    Args:
        view: which one.
        healthy: leave the findings out, and everything else as it is.
    """
    study, difficulty = view.study, view.difficulty
    habits = _rng(view.seed, "study", study.path)
    rng = _rng(view.seed, "view", view.member)
    anatomy = PARTS[study.part].build(_rng(view.seed, "shape", study.path), rng)
    # A normal study, too, has places that its plates must show: otherwise the pose would tell the label.
    metal = study.metal if study.abnormal else habits.random() < METAL_SHARE
    findings = pathology.choose_findings(habits, anatomy, metal, difficulty)
    pose = _pose(study.part, rng, np.array([pathology.place(anatomy, finding) for finding in findings]))
    anatomy = anatomy.mapped(pose.move, pose.scale)
    certain = int(habits.integers(study.views)) + 1
    seen = rng.random() < _visible_share(difficulty) or view.number == certain
    shown = findings if study.abnormal and seen and not healthy else ()
    patient = pathology.afflict(anatomy, shown, difficulty)
    scene = film.Scene(
        pose.size,
        patient,
        distractors.things(habits, rng, patient.anatomy, study.part, pose.size),
        _exposure(habits, rng, difficulty),
        pose.field,
        distractors.marker(habits, rng, pose.field, difficulty),
    )
    rows = [_truth(view.member, mark, pose) for mark in patient.marks]
    return film.develop(scene, rng), tuple(row for row in rows if row is not None)


def _truth(member: str, mark: pathology.Mark, pose: Pose) -> Truth | None:
    """The row of a finding; none where its middle lies outside the lit field."""
    if not pose.lights(mark.middle):
        return None
    low, high = mark.points.min(axis=0), mark.points.max(axis=0)
    width, height = pose.size
    left, top = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
    right, bottom = min(width, math.ceil(high[0]) + 1), min(height, math.ceil(high[1]) + 1)
    return Truth(member, mark.kind, int(mark.kind in pathology.METAL), left, top, right, bottom)


def _visible_share(difficulty: float) -> float:
    """Share of an abnormal study's views that show it: all of them up to 0.3, half of them at 1."""
    return 1 - 0.5 * max(0.0, difficulty - 0.3) / 0.7


def _pose(part: str, rng: Rng, places: Points) -> Pose:
    """A pose that shows the given places; where none of many does, one with the first in its middle."""
    pose = _any_pose(part, rng)
    for _ in range(_POSES):
        if pose.shows(places):
            return pose
        pose = _any_pose(part, rng)
    return replace(pose, shift=pose.shift + np.array(pose.field.centre) - pose.move(places[:1])[0])


def _any_pose(part: str, rng: Rng) -> Pose:
    short = int(rng.integers(*PARTS[part].short_side, endpoint=True))
    lying = rng.random() < 0.25
    size = (LONG_SIDE, short) if lying else (short, LONG_SIDE)
    middle = np.array(size) / 2
    # One plate in five lies askew in the picture.
    plate = rng.choice([-1, 1]) * rng.uniform(8, 30) if rng.random() < 0.22 else rng.uniform(-3, 3)
    angle = rng.uniform(-6, 6) + plate + (90 if lying else 0) + (180 if rng.random() < 0.15 else 0)
    half = middle * (rng.uniform(0.82, 1.0, 2) if rng.random() < 0.6 else 1.05)
    centre = middle + rng.uniform(-6, 6, 2)
    return Pose(
        size,
        film.Field((float(centre[0]), float(centre[1])), (float(half[0]), float(half[1])), float(plate)),
        flip=float(rng.choice([-1.0, 1.0])),
        angle=math.radians(angle),
        scale=float(rng.uniform(0.84, 1.12)),
        shift=middle + rng.uniform(-0.07, 0.07, 2) * middle * 2,
    )


def _exposure(habits: Rng, rng: Rng, difficulty: float) -> film.Exposure:
    machine = habits.uniform(0.8, 1.6)
    return film.Exposure(
        bone=habits.uniform(0.62, 0.98),
        soft=habits.uniform(0.22, 0.55),
        gain=machine * rng.uniform(0.85, 1.2),
        gamma=habits.uniform(0.85, 1.35) * rng.uniform(0.95, 1.05),
        fog=float(habits.choice([0.0, 2.0, habits.uniform(2, 26)])),
        ceiling=habits.uniform(155, 250),
        heel=rng.uniform(-0.18, 0.18, 2),
        metal=(1 - 0.5 * max(0.0, difficulty - 0.4) / 0.6) * rng.uniform(0.68, 1.0),
        noise=rng.uniform(0.6, 1.8),
        blur=rng.uniform(1.0, 1.7),
        inverted=bool(habits.random() < 0.01),
    )


def _rng(seed: int, *identity: str) -> Rng:
    """A generator for one thing, so that nothing depends on the order in which things are drawn."""
    digest = hashlib.sha256("\0".join((str(seed), *identity)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
