"""Pictures of what the network used in each view."""

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from components.base.errors import UsageError
from components.base.files import check_place
from components.network.grad_cam import GradCam
from components.predict.keras_network import KerasNetwork
from components.predict.predictor import Predictor

MOST = 500
"""Views that are drawn. More are not looked at."""
SIDE = 480
"""Of a picture, pixels."""
ORANGE = (0.90, 0.38, 0.0)
"""Red, green and blue, as in the reports."""
OPAQUE = 0.75
_WORDS = re.compile(r"[^A-Za-z0-9._-]+")


class Maps:
    """Draws each view beside itself with its map: PNGs in a directory, numbered in the order of the views."""

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        """Make the directory.

        Raises:
            UsageError: it has files already.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}: not an empty directory. Name another one for the maps.")
        folder.mkdir(parents=True, exist_ok=True)
        check_place(folder / "view.png")
        network = predictor.network
        assert isinstance(network, KerasNetwork), "of a version from the registry"
        self._folder, self._cam = folder, GradCam(network.network, flips=network.flips)
        self.drawn = 0

    def draw(self, paths: list[str], squares: NDArray[np.uint8]) -> None:
        """Draw some views.

        Args:
            paths: N, of the views.
            squares: uint8 [N, S, S], as the network sees them.
        """
        wanted = max(0, MOST - self.drawn)
        found = self._cam.maps(squares[:wanted, ..., None]) if wanted else np.zeros(0, np.float32)
        for path, pixels, strength in zip(paths[:wanted], squares, found, strict=False):
            self.drawn += 1
            name = _WORDS.sub("_", path.removesuffix(".png"))[-80:].strip("_.") or "view"
            file = self._folder / f"{self.drawn:03}-{name}.png"
            file.write_bytes(_drawn(pixels, strength))


def _drawn(pixels: NDArray[np.uint8], strength: NDArray[np.float32]) -> bytes:
    """The view, and beside it the view with the map laid over; the strongest place of each view is the brightest."""
    grey = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.float32)[..., None]
    share = cv2.resize(strength / (float(strength.max()) or 1.0), (SIDE, SIDE))[..., None] * OPAQUE
    colour = np.array(ORANGE[::-1], np.float32) * 255
    both = np.hstack([np.repeat(grey, 3, axis=2), grey * (1 - share) + colour * share])
    done, encoded = cv2.imencode(".png", np.rint(both).astype(np.uint8))
    assert done, "OpenCV encodes every uint8 image"
    return encoded.tobytes()
