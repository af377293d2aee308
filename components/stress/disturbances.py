"""What is done to a picture. The same picture, strength and seed give the same result.

Grey levels are those of the square that the network sees, after scaling and padding. Strengths that params.yaml names
are mild to strong for radiographs; where ImageNet-C (Hendrycks & Dietterich, arXiv:1903.12261, appendix B) has the same
disturbance, they are its first ones.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""uint8 [S, S]"""
Random = np.random.Generator
WHITE = 255


class Disturbance(NamedTuple):
    """A way to disturb pictures."""

    title: str
    unit: str
    """How a strength is written: `{:g}` stands for the number, `{:.0%}` for a share."""
    about: str
    """What is done, and where it comes from in practice."""
    apply: Callable[[Picture, float, Random], Picture]

    def written(self, strength: float) -> str:
        """The disturbance with its strength, such as `Rotation 15°`."""
        return f"{self.title} {self.unit.format(strength)}"


def disturb(pixels: NDArray[np.uint8], name: str, strength: float, seeds: Sequence[int]) -> NDArray[np.uint8]:
    """Disturb pictures.

    What is drawn at random, such as the direction of a rotation, depends on the seed alone: with other strengths it is
    the same.

    Args:
        pixels: uint8 [N, S, S].
        name: one of `DISTURBANCES`.
        strength: in the unit of the disturbance.
        seeds: N of them, one for each picture.

    Returns:
        uint8 [N, S, S]
    """
    apply = DISTURBANCES[name].apply
    made = [apply(each, strength, np.random.default_rng(seed)) for each, seed in zip(pixels, seeds, strict=True)]
    return np.stack(made) if made else pixels


def seed_of(image: str, name: str, seed: int) -> int:
    """The seed of an image for a disturbance. It does not depend on which other images there are."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name} {image}".encode()).digest()[:8], "big")


def _rotate(picture: Picture, strength: float, random: Random) -> Picture:
    """Turn it by so many degrees, left or right, around its middle. Corners become black."""
    middle = (len(picture) - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), strength * random.choice((-1, 1)), 1)
    return _uint8(cv2.warpAffine(picture, turn, picture.shape[::-1], flags=cv2.INTER_LINEAR))


def _brighten(picture: Picture, strength: float, random: Random) -> Picture:
    """Add to all grey levels, or subtract, a share of white."""
    return _rounded(picture + float(random.choice((-1, 1)) * strength * WHITE))


def _flatten(picture: Picture, strength: float, _: Random) -> Picture:
    """Bring all grey levels nearer to their mean."""
    mean = picture.mean()
    return _rounded(mean + (1 - strength) * (picture - mean))


def _compress(picture: Picture, strength: float, _: Random) -> Picture:
    """Encode and decode it as JPEG of a quality from 1 to 100."""
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
    assert done, "OpenCV encodes every uint8 image"
    return _uint8(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _crop(picture: Picture, strength: float, random: Random) -> Picture:
    """Cut off a share of both sides, somewhere, and enlarge the rest to the old size."""
    size = len(picture)
    left = max(1, round(size * (1 - strength)))
    top, start = (int(each) for each in random.integers(0, size - left, 2, endpoint=True))
    rest = picture[top : top + left, start : start + left]
    return _uint8(cv2.resize(rest, (size, size), interpolation=cv2.INTER_LINEAR))


def _invert(picture: Picture, strength: float, random: Random) -> Picture:
    """Let black and white change places, in this share of the pictures; the padding of the square too."""
    return _uint8(WHITE - picture) if random.random() < strength else picture


def _add_noise(picture: Picture, strength: float, random: Random) -> Picture:
    """Add Gaussian noise, each pixel's own; the standard deviation is a share of white."""
    return _rounded(picture + random.standard_normal(picture.shape) * strength * WHITE)


def _rounded(grey: NDArray[np.floating[Any]]) -> Picture:
    return _uint8(np.clip(np.rint(grey), 0, WHITE))


def _uint8(picture: object) -> Picture:
    return np.asarray(picture, np.uint8)


DISTURBANCES: Mapping[str, Disturbance] = {
    "rotation": Disturbance(
        "Rotation",
        "{:g}°",
        "Turned left or right; half of the pictures each, by chance. MURA's authors train with up to 30° "
        "(arXiv:1712.06957).",
        _rotate,
    ),
    "brightness": Disturbance(
        "Brightness",
        "±{:.0%}",
        "All grey levels shifted up or down by a share of white, as by another exposure or window. The first three "
        "strengths of ImageNet-C.",
        _brighten,
    ),
    "contrast": Disturbance(
        "Contrast",
        "-{:.0%}",
        "Grey levels moved towards their mean, as by a higher tube voltage, scatter or a wide window. ImageNet-C "
        "begins at -60%.",
        _flatten,
    ),
    "jpeg": Disturbance(
        "JPEG",
        "quality {:g}",
        "Compressed with loss, as archives and teaching files do; here in the small square, where it does more harm. "
        "ImageNet-C goes from 25 to 7.",
        _compress,
    ),
    "crop": Disturbance(
        "Crop",
        "-{:.0%}",
        "A share of the side cut off at a random place, the rest enlarged: another collimation or framing. A finding "
        "near the edge may be cut off.",
        _crop,
    ),
    "inversion": Disturbance(
        "Inversion",
        "{:.0%} of pictures",
        "Black and white exchanged in this share of the pictures: DICOM's MONOCHROME1 read as MONOCHROME2.",
        _invert,
    ),
    "noise": Disturbance(
        "Noise",
        "{:.0%}",
        "Gaussian noise with this standard deviation, a share of white, as at a lower dose. ImageNet-C begins at 8%.",
        _add_noise,
    ),
}
