"""From bones, flesh and metal to grey levels: attenuation, exposure, collimation, marker, noise."""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from components.phantom.anatomy import Anatomy, Points, Rng
from components.phantom.hardware import Metal
from components.phantom.pathology import Diseased, Lesion

Grey = npt.NDArray[np.uint8]  # [H, W]
Layer = npt.NDArray[np.float32]  # [H, W]

_CORTEX, _MARROW = 200, 108  # levels in which a bone is drawn; _CORTEX is density 1
_SOFT_SCALE = 4  # flesh is smooth: it is drawn at a quarter of the size
_WHITE = 252  # grey level behind metal and lead
_TILE = 1024
_SHIFT = 3  # OpenCV's fixed-point bits: an eighth of a pixel


@dataclass(frozen=True, slots=True)
class Exposure:
    """How a plate was exposed and developed."""

    bone: float  # attenuation of compact bone
    soft: float  # attenuation of flesh
    gain: float
    gamma: float
    heel: Points  # [2], how much stronger the beam is at the right and lower edge than in the middle
    fog: float  # grey level of the unexposed field inside the collimator
    ceiling: float  # grey level that tissue approaches and metal exceeds
    metal: float  # opacity of metal, 0 to 1
    noise: float  # standard deviation at mid-grey, grey levels
    blur: float  # of the bones' edges, pixels
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """The lit rectangle of a plate."""

    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float  # degrees


@dataclass(frozen=True, slots=True)
class Marker:
    """The lead letter that tells the side."""

    letter: str
    at: tuple[float, float]
    height: float  # pixels
    level: float  # grey level
    angle: float  # degrees
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line on the plate that is neither bone nor metal."""

    path: Points
    thickness: float  # pixels
    density: float  # 1 is compact bone; below 0 a gap in the bone


@dataclass(frozen=True, slots=True)
class Things:
    """What lies on a plate beside the patient."""

    strokes: tuple[Stroke, ...] = ()
    metal: tuple[Metal, ...] = ()
    lead: Points | None = None  # a sheet that covers a part of the plate
    cast: float = 0.0  # thickness of plaster around the limb, pixels


class Scene(NamedTuple):
    """Everything that one plate is made of."""

    size: tuple[int, int]  # width and height, pixels
    patient: Diseased
    things: Things
    exposure: Exposure
    field: Field
    marker: Marker | None


def develop(scene: Scene, rng: Rng) -> Grey:
    """One plate, uint8 [height, width]."""
    (width, height), exposure = scene.size, scene.exposure
    attenuation = exposure.bone * _hard(scene, rng) + exposure.soft * _soft(scene)
    np.maximum(attenuation, 0, out=attenuation)
    # The beam is weaker on the anode's side of the tube (heel effect).
    attenuation *= np.linspace(1 - exposure.heel[0], 1 + exposure.heel[0], width, dtype=np.float32)
    attenuation *= np.linspace(1 - exposure.heel[1], 1 + exposure.heel[1], height, dtype=np.float32)[:, None]
    light = 1 - np.exp(-exposure.gain * attenuation)
    grey = exposure.fog + (exposure.ceiling - exposure.fog) * light**exposure.gamma
    if metal := scene.patient.metal + scene.things.metal:
        opacity = exposure.metal * _metal(metal, width, height)
        grey += opacity * (_WHITE - grey)
    if scene.things.lead is not None:
        grey += _polygon(scene.things.lead, width, height) * (_WHITE - grey)
    if exposure.inverted:
        grey = 235 - grey
    if scene.marker is not None:
        lead = _marker(scene.marker, width, height)
        grey += lead * (scene.marker.level - grey)
    grain = _crop(_grain(), rng, width, height)
    grey += grain * (exposure.noise * np.sqrt(np.maximum(grey, 0) / 128 + 0.15))
    corners = cv2.boxPoints((scene.field.centre, (2 * scene.field.half[0], 2 * scene.field.half[1]), scene.field.angle))
    grey *= _polygon(corners.astype(np.float64), width, height)
    return np.clip(grey + 0.5, 0, 255).astype(np.uint8)


def _hard(scene: Scene, rng: Rng) -> Layer:
    """Thickness of bone and of what is like it; below 0 where a gap is."""
    width, height = scene.size
    bones = _bones(scene.patient.anatomy, width, height, scene.exposure.blur)
    for each in scene.patient.lesions:
        _erode(bones, each)
    for stroke in scene.things.strokes:
        _stroke(bones, stroke)
    bones *= 1 + 0.16 * _crop(_spongiosa(), rng, width, height)
    return np.maximum(bones, -0.5)


def _bones(anatomy: Anatomy, width: int, height: int, blur: float) -> Layer:
    """Thickness of compact bone; 1 is the cortex of a long bone. Overlapping bones add."""
    layer = np.zeros((height, width), np.float32)
    for bone in anatomy.bones:
        if not bone.outlines:
            continue
        box = _box(bone.outlines, width, height, 6)
        if box is None:
            continue
        left, top, right, bottom = box
        patch = np.zeros((bottom - top, right - left), np.uint8)
        for outline in bone.outlines:
            _fill(patch, outline, _CORTEX, box)
        for canal in bone.canals:
            _fill(patch, canal, _MARROW, box)
        patch = _blurred(patch, blur)
        layer[top:bottom, left:right] += patch * np.float32(bone.density / _CORTEX)
    return layer


def _soft(scene: Scene) -> Layer:
    """Thickness of soft tissue, about 1 in the middle of a limb, and of plaster."""
    width, height = scene.size
    flesh = scene.patient.anatomy.flesh
    small = (math.ceil(height / _SOFT_SCALE), math.ceil(width / _SOFT_SCALE))
    mask = np.zeros(small, np.uint8)
    air = np.zeros(small, np.uint8)
    for each in (*flesh, *scene.patient.swellings):
        target = mask if each.weight > 0 else air
        level = 255 if each.weight > 0 else int(-255 * each.weight)
        path = np.round(each.path / _SOFT_SCALE * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(target, [path], False, level, max(1, round(2 * each.radius / _SOFT_SCALE)), cv2.LINE_AA, _SHIFT)
    inside = (mask > 127).astype(np.uint8)
    thickest = max([1.0, *(each.radius / _SOFT_SCALE for each in flesh if each.weight > 0)])
    depth = np.sqrt(np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5) / np.float32(thickest), 1))
    depth = cv2.GaussianBlur(depth, (0, 0), 1.3) * (1 - cv2.GaussianBlur(air, (0, 0), 5).astype(np.float32) / 255)
    if scene.things.cast:
        depth += _plaster(inside, scene.things.cast / _SOFT_SCALE)
    return _layer(cv2.resize(depth, (width, height), interpolation=cv2.INTER_CUBIC))


def _plaster(inside: Grey, thickness: float) -> Layer:
    """A shell around the limb: thin in its middle, thick at its edges, where the beam passes along it."""
    away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    shell = np.exp(-(((away - thickness / 2) / (0.45 * thickness)) ** 2))
    return _layer(0.75 * shell + 0.25 * inside)


def _erode(bones: Layer, lesion: Lesion) -> None:
    height, width = bones.shape
    box = _box((lesion.outline,), width, height, 24)
    if box is None:
        return
    left, top, right, bottom = box
    part = bones[top:bottom, left:right]
    inside = np.zeros(part.shape, np.uint8)
    _fill(inside, lesion.outline, 255, box)
    share = cv2.GaussianBlur(inside, (0, 0), 1.5 if lesion.rim else 3.5).astype(np.float32) / 255
    part *= 1 - lesion.depth * share
    if lesion.mass:
        part += lesion.mass * share
    if lesion.rim:
        shell = np.zeros(part.shape, np.uint8)
        cv2.polylines(shell, [_fixed(lesion.outline, box)], True, 255, max(1, round(lesion.rim)), cv2.LINE_AA, _SHIFT)
        part += 1.1 * cv2.GaussianBlur(shell, (0, 0), 1.2).astype(np.float32) / 255


def _stroke(bones: Layer, stroke: Stroke) -> None:
    path, thickness, density = stroke.path, stroke.thickness, stroke.density
    height, width = bones.shape
    box = _box((path,), width, height, round(thickness) + 8)
    if box is None:
        return
    left, top, right, bottom = box
    part = bones[top:bottom, left:right]
    line = np.zeros(part.shape, np.uint8)
    cv2.polylines(line, [_fixed(path, box)], False, 255, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)
    share = cv2.GaussianBlur(line, (0, 0), 1.2).astype(np.float32) / 255
    if density < 0:
        part *= 1 + density * share
    else:
        part += density * share


def _metal(metal: tuple[Metal, ...], width: int, height: int) -> Layer:
    """Opacity, 0 to 1, with sharp edges."""
    mask = np.zeros((height, width), np.uint8)
    whole = (0, 0, width, height)
    for each in metal:
        for plate in each.plates:
            _fill(mask, plate, 255, whole)
        for path, thickness in each.rods:
            cv2.polylines(mask, [_fixed(path, whole)], False, 255, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)
        for shapes, level in ((each.discs, 255), (each.holes, 120)):
            for centre, radius in shapes:
                x, y = np.round(centre * (1 << _SHIFT)).astype(int).tolist()
                cv2.circle(
                    mask,
                    (x, y),
                    max(1, round(radius * (1 << _SHIFT))),
                    level,
                    cv2.FILLED,
                    cv2.LINE_AA,
                    _SHIFT,
                )
    return _layer(cv2.GaussianBlur(mask, (3, 3), 0)) / np.float32(255)


def _marker(marker: Marker, width: int, height: int) -> Layer:
    glyph = np.zeros((height, width), np.uint8)
    scale = marker.height / 21  # a Hershey capital is 21 pixels high at scale 1
    x, y = marker.at
    origin = (round(x - 8 * scale), round(y + 10 * scale))
    cv2.putText(
        glyph,
        marker.letter,
        origin,
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        255,
        max(2, round(3 * scale)),
        cv2.LINE_AA,
    )
    turn = cv2.getRotationMatrix2D((x, y), marker.angle, 1)
    if marker.mirrored:
        turn = turn @ np.array([[-1, 0, 2 * x], [0, 1, 0], [0, 0, 1]])
    return _layer(cv2.warpAffine(glyph, turn, (width, height))) / np.float32(255)


def _polygon(corners: Points, width: int, height: int) -> Layer:
    """1 inside, 0 outside, over a pixel or two."""
    mask = np.zeros((height, width), np.uint8)
    _fill(mask, corners, 255, (0, 0, width, height))
    return _layer(cv2.GaussianBlur(mask, (5, 5), 0)) / np.float32(255)


@functools.cache
def _grain() -> Layer:
    """Film grain, [1024, 1024], standard deviation 1; plates take different pieces of it."""
    noise = np.random.default_rng(1895).standard_normal((_TILE, _TILE), np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 0.55)
    return _layer(soft / soft.std())


@functools.cache
def _spongiosa() -> Layer:
    """The mesh of spongy bone, [1024, 1024], standard deviation 1."""
    noise = np.random.default_rng(1896).standard_normal((_TILE, _TILE), np.float32)
    mesh = cv2.GaussianBlur(noise, (0, 0), 1.6) - cv2.GaussianBlur(noise, (0, 0), 5)
    cloud = cv2.GaussianBlur(noise, (0, 0), 14)
    return _layer((mesh / mesh.std() + 0.7 * cloud / cloud.std()) / math.sqrt(1.5))


def _crop(tile: Layer, rng: Rng, width: int, height: int) -> Layer:
    x, y = int(rng.integers(_TILE - width)), int(rng.integers(_TILE - height))
    piece = tile[y : y + height, x : x + width]
    return piece[:: -1 if rng.random() < 0.5 else 1, :: -1 if rng.random() < 0.5 else 1]


Box = tuple[int, int, int, int]  # left, top, right, bottom


def _box(polygons: tuple[Points, ...], width: int, height: int, margin: int) -> Box | None:
    low = np.min([p.min(axis=0) for p in polygons], axis=0)
    high = np.max([p.max(axis=0) for p in polygons], axis=0)
    left, top = max(0, math.floor(low[0]) - margin), max(0, math.floor(low[1]) - margin)
    right, bottom = min(width, math.ceil(high[0]) + margin), min(height, math.ceil(high[1]) + margin)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _fixed(points: Points, box: Box) -> npt.NDArray[np.int32]:
    return np.asarray(np.round((points - np.array(box[:2])) * (1 << _SHIFT)), np.int32)


def _fill(target: Grey, polygon: Points, level: int, box: Box) -> None:
    if len(polygon) > 2:
        cv2.fillPoly(target, [_fixed(polygon, box)], level, cv2.LINE_AA, _SHIFT)


def _blurred(patch: Grey, sigma: float) -> Grey:
    return cv2.GaussianBlur(patch, (0, 0), sigma).astype(np.uint8, copy=False)


def _layer(array: npt.NDArray[np.generic]) -> Layer:
    return array.astype(np.float32, copy=False)
