"""The pictures of a golden set: drawn, never of a patient. Several sizes, kinds of PNG and body parts."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class Drawn(NamedTuple):
    """A picture."""

    name: str
    body_part: str
    """Empty where a file says none."""
    png: bytes


def draw() -> tuple[Drawn, ...]:
    """Draw the pictures: the same bytes of pixels everywhere."""
    bars = [
        ("wrist-upright", "wrist", _bone(128, 96), "L"),
        ("hand-wide", "hand", _bone(80, 160), "RGB"),
        ("elbow-broken", "elbow", _broken(_bone(200, 144)), "L"),
        ("shoulder-16-bit", "shoulder", _bone(112, 112), "I;16"),
        ("unknown-large", "", _broken(_bone(320, 256)), "L"),
        ("finger-black", "finger", np.zeros((64, 48), np.uint8), "L"),
    ]
    return tuple(Drawn(name, part, _png(grey, mode)) for name, part, grey, mode in bars)


def _bone(height: int, width: int) -> NDArray[np.uint8]:
    """A bright bar along a ramp of grey levels."""
    ramp = np.linspace(10, 110, width, dtype=np.uint8)
    grey = np.ascontiguousarray(np.broadcast_to(ramp, (height, width)))
    cv2.line(grey, (width // 2, height // 16), (width // 2, height - height // 16), 220, width // 5)
    cv2.line(grey, (width // 2, height // 16), (width // 2, height - height // 16), 170, width // 12)
    return grey


def _broken(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same with a dark gap across."""
    height, width = grey.shape
    cv2.line(grey, (width // 4, height // 2), (3 * width // 4, height // 2 + height // 12), 60, max(2, height // 40))
    return grey


def _png(grey: NDArray[np.uint8], mode: str) -> bytes:
    modes: dict[str, NDArray[Any]] = {
        "L": grey,
        "RGB": np.dstack([grey] * 3),
        "I;16": grey.astype(np.uint16) * 257,
    }
    done, png = cv2.imencode(".png", modes[mode])
    assert done, "OpenCV encodes every such image"
    return bytes(png)
