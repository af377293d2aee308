"""What makes a study abnormal: which findings it has, and what they do to its anatomy.

`difficulty` runs from -0.5 to 1. At 0 a person sees each at a glance, and a network still does at 64 pixels. At 1 they
are small and faint, and half of the views do not show them. Below 0 they are coarser than in any patient, so
that a network learns to see them within a few hundred steps; metal and dense masses stay as they are at 0.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from components.phantom import breaks, hardware
from components.phantom.anatomy import Anatomy, Bone, Flesh, Frame, Points, Rng
from components.phantom.hardware import Metal

Kind = Literal[
    "fracture",
    "dislocation",
    "lytic lesion",
    "sclerotic lesion",
    "degeneration",
    "swelling",
    "fixation",
    "old hardware",
]
# Metal over a fresh fracture, and metal that has outlasted one: MURA calls both abnormal.
METAL: frozenset[Kind] = frozenset({"fixation", "old hardware"})
_OF_JOINTS: frozenset[Kind] = frozenset({"dislocation", "degeneration"})
# How often each is chosen; ours, since MURA tells no kinds. A swelling comes with a fracture or a dislocation.
_WITHOUT_METAL: dict[Kind, float] = {
    "fracture": 0.16,
    "lytic lesion": 0.22,
    "sclerotic lesion": 0.3,
    "dislocation": 0.08,
    "degeneration": 0.24,
}
_WITH_METAL: dict[Kind, float] = {"fixation": 0.4, "old hardware": 0.6}
_SWOLLEN = 0.7  # share of fractures and dislocations
# Two findings of a study lie at least so far apart, pixels: otherwise one would hide the other.
_APART = 90


@dataclass(frozen=True, slots=True)
class Finding:
    """One abnormality of a study; its views show the same one."""

    kind: Kind
    where: int  # the site, or, for kinds of joints, the joint
    at: float  # share of the bone's length
    style: str
    seed: int  # of its details


@dataclass(frozen=True, slots=True)
class Lesion:
    """A hole in the bone with a sclerotic rim, or a dense mass."""

    outline: Points
    rim: float  # thickness of the dense shell, pixels
    depth: float  # share of the bone that is gone inside, 0 to 1
    mass: float  # density added inside, in units of a long bone's compact bone


class Mark(NamedTuple):
    """What a reader would draw a box around."""

    kind: Kind
    points: Points  # [N, 2], on its edge

    @property
    def middle(self) -> Points:
        """Centre of its box, [1, 2]."""
        middle: Points = (self.points.min(axis=0) + self.points.max(axis=0))[None] / 2
        return middle


@dataclass(frozen=True, slots=True)
class Diseased:
    """An anatomy with its findings, in pixels of the plate."""

    anatomy: Anatomy
    lesions: tuple[Lesion, ...] = ()
    metal: tuple[Metal, ...] = ()
    swellings: tuple[Flesh, ...] = ()
    marks: tuple[Mark, ...] = ()

    def plus(self, other: "Diseased") -> "Diseased":
        """The other's anatomy, which comes of this one's, and the findings of both."""
        return Diseased(
            other.anatomy,
            self.lesions + other.lesions,
            self.metal + other.metal,
            self.swellings + other.swellings,
            self.marks + other.marks,
        )


def choose_findings(rng: Rng, anatomy: Anatomy, metal: bool, difficulty: float) -> tuple[Finding, ...]:
    """The abnormalities of a study: one, or two more often where the archive is easy.

    Args:
        rng: of the study.
        anatomy: a view of it; any will do.
        metal: whether the first one is of metal; otherwise none is.
        difficulty: 0 to 1.
    """
    first = _any_finding(rng, anatomy, _WITH_METAL if metal else _WITHOUT_METAL, difficulty)
    if rng.random() >= 1 - 0.9 * difficulty:
        return (first,)
    for _ in range(12):
        second = _any_finding(rng, anatomy, _WITHOUT_METAL, difficulty)
        if np.hypot(*(place(anatomy, first) - place(anatomy, second))) >= _APART and _apart(anatomy, first, second):
            return first, second
    return (first,)


def place(anatomy: Anatomy, finding: Finding) -> Points:
    """Where the abnormality lies, [2]."""
    if finding.kind in _OF_JOINTS:
        middle: Points = anatomy.joints[finding.where].seam.mean(axis=0)
        return middle
    return _frame(anatomy, finding).centre


def afflict(anatomy: Anatomy, findings: tuple[Finding, ...], difficulty: float) -> Diseased:
    """Give an anatomy its findings; what moves bones comes first, so that the others move with them."""
    ill = Diseased(anatomy)
    for finding in sorted(findings, key=lambda finding: finding.kind not in ("dislocation", "fracture", "fixation")):
        ill = _with(ill, finding, difficulty)
    return ill


def _any_finding(rng: Rng, anatomy: Anatomy, shares: dict[Kind, float], difficulty: float) -> Finding:
    weights = np.array(list(shares.values()))
    kind = list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    if kind in _OF_JOINTS and not anatomy.joints:
        kind = "fracture" if kind == "dislocation" else "lytic lesion"
    if kind in _OF_JOINTS:
        return Finding(kind, int(rng.integers(len(anatomy.joints))), 0.0, "", int(rng.integers(2**31)))
    where = int(rng.integers(len(anatomy.sites)))
    site = anatomy.sites[where]
    style = hardware.choose_style(rng, difficulty) if kind in METAL else ""
    return Finding(kind, where, float(rng.uniform(site.low, site.high)), style, int(rng.integers(2**31)))


def _apart(anatomy: Anatomy, *findings: Finding) -> bool:
    """Whether the findings lie on different bones and joints."""
    bones = [
        ("joint", each.where) if each.kind in _OF_JOINTS else ("bone", anatomy.sites[each.where].bone)
        for each in findings
    ]
    return len(set(bones)) == len(bones)


def _with(ill: Diseased, finding: Finding, difficulty: float) -> Diseased:
    """One finding more."""
    rng = np.random.default_rng(finding.seed)
    swells = rng.random() < _SWOLLEN
    if finding.kind == "dislocation":
        joint = ill.anatomy.joints[finding.where]
        anatomy, edge = breaks.dislocate(ill.anatomy, joint, rng, difficulty)
        ill = ill.plus(Diseased(anatomy, marks=(Mark("dislocation", edge),)))
        return _swollen(ill, joint.seam, difficulty) if swells else ill
    if finding.kind == "degeneration":
        anatomy, seam = breaks.narrow(ill.anatomy, ill.anatomy.joints[finding.where], difficulty)
        lesions = _wear(seam, rng, difficulty)
        edge = np.concatenate([lesion.outline for lesion in lesions])
        return ill.plus(Diseased(anatomy, lesions, marks=(Mark("degeneration", edge),)))

    frame = _frame(ill.anatomy, finding)
    if finding.kind in ("lytic lesion", "sclerotic lesion"):
        lesion = _lesion(frame, finding.kind, rng, difficulty)
        mark = Mark(finding.kind, _widened(lesion.outline, lesion.rim / 2))
        return ill.plus(Diseased(ill.anatomy, (lesion,), marks=(mark,)))
    if finding.kind == "old hardware":
        ill = ill.plus(Diseased(ill.anatomy, (_callus(frame, rng),)))
    else:
        severity = breaks.Severity.of(difficulty, reduced=finding.kind == "fixation")
        bone = ill.anatomy.sites[finding.where].bone
        anatomy, edge = breaks.fracture(ill.anatomy, bone, frame, rng, severity)
        ill = ill.plus(Diseased(anatomy, marks=(Mark("fracture", edge),)))
        if swells:
            ends = frame.centre + np.array([[-1.0], [1.0]]) * frame.along * frame.half
            ill = _swollen(ill, ends, difficulty)
    if finding.kind in METAL:
        metal = hardware.shapes(finding.style, frame, rng, difficulty)
        mark = Mark(finding.kind, hardware.edge(metal))
        ill = ill.plus(Diseased(ill.anatomy, metal=(metal,), marks=(mark,)))
    return ill


def _swollen(ill: Diseased, path: Points, difficulty: float) -> Diseased:
    """Thicker flesh around a path."""
    middle = path.mean(axis=0)
    around = max((each.radius - each.distance(middle) for each in ill.anatomy.flesh if each.weight > 0), default=0.0)
    if around <= 0:
        return ill
    radius = around * (1.3 - 0.2 * difficulty) + 8
    mark = Mark("swelling", _widened(path, radius))
    return ill.plus(Diseased(ill.anatomy, swellings=(Flesh(path, radius),), marks=(mark,)))


def _lesion(frame: Frame, kind: Kind, rng: Rng, difficulty: float) -> Lesion:
    """A hole with a dense shell that swells a thin bone, or a dense mass."""
    size = 1.45 - 1.05 * difficulty
    wide = float(np.clip(frame.half * rng.uniform(0.95, 1.15), 24, 42)) * size
    long = wide * rng.uniform(1.1, 1.6)
    outline = _blob(frame, long, wide, rng)
    if kind == "lytic lesion":
        return Lesion(outline, 16 - 13 * difficulty, min(1.0, 0.97 - 0.45 * difficulty), 0.0)
    return Lesion(outline, 0.0, 0.0, 1.3 - 1.0 * max(0.0, difficulty))


def _callus(frame: Frame, rng: Rng) -> Lesion:
    """The spindle of new bone that a healed fracture leaves."""
    wide = frame.half * rng.uniform(1.1, 1.3)
    return Lesion(_blob(frame, wide * rng.uniform(1.3, 1.8), wide, rng), 0.0, 0.0, rng.uniform(0.25, 0.45))


def _wear(seam: Points, rng: Rng, difficulty: float) -> tuple[Lesion, ...]:
    """A worn joint: dense bone on both sides, spurs at its edges, a cyst or two beneath the surface."""
    frame = Frame.of_seam(seam)
    half = frame.half
    thick = (14 + 0.14 * half) * (1.2 - 0.6 * difficulty)
    dense = Lesion(_blob(frame, thick, half * 1.1, rng), 0.0, 0.0, 0.85 - 0.6 * difficulty)
    spurs = [
        Lesion(_blob(frame.moved(0.0, end * half), thick * 0.7, thick * 0.6, rng), 0.0, 0.0, 0.7 - 0.5 * difficulty)
        for end in (-1.12, 1.12)
    ]
    cysts = [
        Lesion(
            _blob(frame.moved(side * thick * 1.5, rng.uniform(-0.5, 0.5) * half), 0.6 * thick, 0.55 * thick, rng),
            4,
            0.85,
            0,
        )
        for side in (-1, 1)
    ]
    return (*cysts, dense, *spurs)


def _blob(frame: Frame, long: float, wide: float, rng: Rng) -> Points:
    """A lumpy ellipse, [40, 2]."""
    angle = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    lumpy = 1 + sum(rng.uniform(0.03, 0.09) * np.sin(k * angle + rng.uniform(0, 2 * math.pi)) for k in (2, 3, 5))
    along, across = (np.cos(angle) * lumpy * long)[:, None], (np.sin(angle) * lumpy * wide)[:, None]
    rim: Points = frame.centre + along * frame.along + across * frame.across
    return rim


def _frame(anatomy: Anatomy, finding: Finding) -> Frame:
    """Where a finding of a bone lies on it."""
    bone: Bone = anatomy.bones[anatomy.sites[finding.where].bone]
    return Frame.on(bone, finding.at)


def _widened(points: Points, by: float) -> Points:
    """The corners of a box around points, [4, 2]."""
    low, high = points.min(axis=0) - by, points.max(axis=0) + by
    return np.array([low, high, (low[0], high[1]), (high[0], low[1])])
