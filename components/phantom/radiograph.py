"""One view of one study, from a seed and its path."""

import hashlib
import math
from dataclasses import dataclass

import cv2
import numpy as np

from components.phantom import film, pathology
from components.phantom.anatomy import PARTS, Anatomy, Points, Rng
from components.phantom.plan import Study

LONG_SIDE = 512
# 75 of 133 MURA images read from their headers are grey, the others RGB with three equal channels.
GREY_SHARE = 75 / 133
# Six of 36 such patients mix both modes; this share of views draws its own.
OWN_MODE = 0.15
# An abnormality closer to the dark border than this is hard to read, pixels.
_MARGIN = 30
_POSES = 12


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
        turn = math.radians(self.field.angle)
        away = self.move(p) - np.array(self.field.centre)
        x = away[:, 0] * math.cos(turn) + away[:, 1] * math.sin(turn)
        y = away[:, 1] * math.cos(turn) - away[:, 0] * math.sin(turn)
        half = np.minimum(np.array(self.field.half), np.array(self.size) / 2) - _MARGIN
        return bool((np.abs(x) <= half[0]).all() and (np.abs(y) <= half[1]).all())


def png(study: Study, view: int, seed: int, difficulty: float) -> bytes:
    """The PNG file of a view (counted from 1): 8 bits, colour type 0 or 2."""
    picture = draw(study, view, seed, difficulty)
    own = _rng(seed, "mode", study.images[view - 1])
    shared = _rng(seed, "mode", study.path)
    grey = (own if own.random() < OWN_MODE else shared).random() < GREY_SHARE
    pixels = picture if grey else cv2.merge([picture] * 3)
    # On noisy plates level 3 saves 5 to 10 % and takes half as long again.
    done, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, "OpenCV encodes every uint8 image"
    return encoded.tobytes()


def draw(study: Study, view: int, seed: int, difficulty: float) -> film.Grey:
    """The pixels of a view, uint8 [H, W], the longer side 512."""
    habits = _rng(seed, "study", study.path)
    rng = _rng(seed, "view", study.images[view - 1])
    anatomy = PARTS[study.part].build(_rng(seed, "shape", study.path), rng)
    # A normal study, too, has places that its plates must show: otherwise the pose would tell the label.
    findings = pathology.choose_findings(habits, anatomy.sites, difficulty)
    pose = _pose(study.part, rng, np.array([pathology.place(anatomy, finding) for finding in findings]))
    anatomy = anatomy.mapped(pose.move, pose.scale)
    certain = int(habits.integers(study.views)) + 1
    seen = rng.random() < _visible_share(difficulty) or view == certain
    shown = findings if study.abnormal and seen else ()
    decoys = _decoys(habits, rng, anatomy, pose.size)

    lesions = tuple(pathology.lesion(anatomy, f, difficulty) for f in shown if f.kind == "lesion")
    metal = tuple(pathology.hardware(anatomy, f, difficulty) for f in shown if f.kind == "hardware")
    for finding in shown:
        if finding.kind == "fracture":
            anatomy = pathology.fracture(anatomy, finding, difficulty)
    exposure = _exposure(habits, rng, difficulty)
    marker = _marker(habits, rng, pose.field, difficulty)
    return film.develop(pose.size, anatomy, lesions, metal, decoys, exposure, pose.field, marker, rng)


def _visible_share(difficulty: float) -> float:
    """Share of an abnormal study's views that show it: all of them up to 0.3, half of them at 1."""
    return 1 - 0.5 * max(0.0, difficulty - 0.3) / 0.7


def _pose(part: str, rng: Rng, places: Points) -> Pose:
    """A pose that shows the given places, or after a dozen tries one that may not."""
    pose = _any_pose(part, rng)
    for _ in range(_POSES):
        if pose.shows(places):
            break
        pose = _any_pose(part, rng)
    return pose


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
        ceiling=rng.uniform(188, 236),
        heel=rng.uniform(-0.18, 0.18, 2),
        metal=(1 - 0.5 * max(0.0, difficulty - 0.4) / 0.6) * rng.uniform(0.8, 1.0),
        noise=rng.uniform(0.6, 1.8),
        blur=rng.uniform(1.0, 1.7),
        inverted=bool(habits.random() < 0.01),
    )


def _marker(habits: Rng, rng: Rng, field: film.Field, difficulty: float) -> film.Marker | None:
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
    return film.Marker(
        letter,
        at,
        # Its strokes are as bright as metal, but too thin to stay so in a small picture.
        height=rng.uniform(20, 28) + 14 * difficulty,
        level=rng.uniform(170, 250),
        angle=-field.angle + float(rng.uniform(-8, 8)),
        mirrored=bool(rng.random() < 0.15),
    )


def _decoys(habits: Rng, rng: Rng, anatomy: Anatomy, size: tuple[int, int]) -> tuple[film.Stroke, ...]:
    """Harmless things that catch the eye, on two studies of five whatever their label."""
    kind = habits.random()
    bone = anatomy.bones[anatomy.sites[int(habits.integers(len(anatomy.sites)))].bone]
    if kind < 0.12:  # the growth plates of a child: a dark wavy line near each end, without a step
        return tuple(_growth_plate(bone.axis, float(bone.half_width[end]), end) for end in (9, -10))
    if kind < 0.2:  # a bone island
        spot = bone.axis[int(habits.integers(8, 28))] + habits.uniform(-6, 6, 2)
        return (film.Stroke(np.array([spot, spot + 2]), habits.uniform(8, 14), 0.7),)
    if kind < 0.29:  # a cable or a thread across the plate
        x = np.linspace(-20, size[0] + 20, 24)
        y = size[1] * rng.uniform(0.1, 0.9) + rng.uniform(10, 50) * np.sin(x / rng.uniform(50, 120))
        return (film.Stroke(np.stack([x, y], axis=1), rng.uniform(2, 4), 0.5),)
    if kind < 0.36:  # a label with the hospital's name, at the edge
        left, top = size[0] * rng.uniform(0.2, 0.7), size[1] * (0.05 if rng.random() < 0.5 else 0.95)
        return (film.Stroke(np.array([[left, top], [left + 60, top]]), 18, habits.uniform(0.6, 4)),)
    if kind < 0.44:  # a button or a coin, as bright as metal
        spot = np.array(size) * rng.uniform(0.1, 0.9, 2)
        return (film.Stroke(np.array([spot, spot + 1]), rng.uniform(18, 28), habits.uniform(1, 5)),)
    return ()


def _growth_plate(axis: Points, half: float, end: int) -> film.Stroke:
    along = axis[end + 1] - axis[end]
    along = along / max(float(np.hypot(along[0], along[1])), 1e-6)
    across = np.array([-along[1], along[0]])
    side = np.linspace(-1.3, 1.3, 9)[:, None] * half * across
    wave = 2.5 * np.sin(np.linspace(0, 3 * math.pi, 9))[:, None] * along
    return film.Stroke(axis[end] + side + wave, 4.0, -0.6)


def _rng(seed: int, *identity: str) -> Rng:
    """A generator for one thing, so that nothing depends on the order in which things are drawn."""
    digest = hashlib.sha256("\0".join((str(seed), *identity)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
