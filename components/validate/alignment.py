"""Compare two pictures pixel by pixel: lay one over the other, then correlate their details."""

import functools
import itertools
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from components.archive.archive import Archive
from components.base.errors import DataRefused, again
from components.validate.warps import WARPS, Real, Warp
from components.xray.png import BadImage, Grey, decode

# Longer side of the pictures, pixels.
_COARSE, _FINE = 64, 192
_STEPS = 30
# Standard deviation of the blur that is subtracted, pixels of _FINE.
_DETAIL = 2.0
# After the coarse alignment, copies reached 0.88 or more, nine of ten other pairs 0.57 or less.
_WORTH_REFINING = 0.6
# Share of the copy that the original must cover.
_LEAST_COVERED = 0.6
# Decoded pictures that a worker keeps.
_REMEMBERED = 256


class Pair(NamedTuple):
    """Two images to compare."""

    copy: str
    original: str
    warp: Warp
    """The window of the original that the copy probably shows."""
    mirrored: bool


def compare(archive: Archive, pairs: list[Pair]) -> list[float]:
    """Similarities of pairs, in a worker process.

    Args:
        archive: reopened by this process.
        pairs: to compare.

    Raises:
        DataRefused: an image that was ingested cannot be read any more.
    """
    mine = archive.reopen()
    mine.expect(dict.fromkeys(itertools.chain.from_iterable((pair.copy, pair.original) for pair in pairs)))
    return [
        similarity(_picture(mine, copy)[:, ::-1] if mirrored else _picture(mine, copy), _picture(mine, original), warp)
        for copy, original, warp, mirrored in pairs
    ]


@functools.lru_cache(_REMEMBERED)
def _picture(archive: Archive, member: str) -> Grey:
    try:
        return _small(again(member, lambda: decode(archive.bytes_of(member))).grey, _FINE)
    except (KeyError, BadImage) as error:
        raise DataRefused(
            f"{member}: was ingested, but cannot be read any more ({error}). Run `mura ingest` again."
        ) from error


def _small(grey: Grey, longest: int) -> Grey:
    scale = longest / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def similarity(copy: Grey, original: Grey, start: Warp = WARPS[0]) -> float:
    """Correlation of the details of two pictures after alignment.

    Enhanced correlation (Evangelidis & Psarakis, IEEE TPAMI 2008) finds the affine map, first at a coarse scale. Before
    the correlation, a blur is subtracted: large structures are similar in all radiographs of a body part.

    Args:
        copy: uint8 [h, w].
        original: uint8 [H, W].
        start: the window of the original that the copy probably shows.

    Returns:
        Correlation, -1 to 1; 0 if there is no alignment.
    """
    height, width = _small(copy, _FINE).shape
    one, other = (_resized(each, width, height) for each in (copy, original))
    less = _COARSE / _FINE
    coarse = max(8, round(width * less)), max(8, round(height * less))
    to_coarse = _scaling(coarse[0] / width, coarse[1] / height)
    to_fine = np.linalg.inv(to_coarse)
    # Maps positions in the copy to positions in the original.
    guess = to_coarse @ start.matrix(width, height) @ to_fine
    found = _fitted(_resized(one, *coarse), _resized(other, *coarse), guess)
    if found is None:
        return 0.0
    found = to_fine @ found @ to_coarse
    alike = _details_alike(one, other, found)
    if alike < _WORTH_REFINING:
        return alike
    # Ten times as expensive as everything above.
    refined = _fitted(one, other, found)
    return alike if refined is None else max(alike, _details_alike(one, other, refined))


def _details_alike(one: Real, other: Real, placed: NDArray[np.float64]) -> float:
    """Correlation of the differences to a blur, where the pictures overlap; 0 if the overlap is too small."""
    height, width = one.shape
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(other, placed[:2], (width, height), flags=how)
    covered = cv2.warpAffine(np.ones_like(other), placed[:2], (width, height), flags=how) > 0.999
    # Without the edge of the covered area: it is a detail that the copy does not have.
    inner = cv2.erode(covered.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0
    if inner.mean() < _LEAST_COVERED:
        return 0.0
    a, b = ((each - cv2.GaussianBlur(each, (0, 0), _DETAIL))[inner] for each in (one, laid))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def _resized(grey: NDArray[Any], width: int, height: int) -> Real:
    return cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)


def _scaling(x: float, y: float) -> NDArray[np.float64]:
    """Map pixels to those of a scaled picture. The centre of a pixel is at whole numbers, its edges at halves."""
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _fitted(one: Real, other: Real, guess: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The map from positions in `one` to positions in `other`, [3, 3]. None if none is found."""
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _STEPS, 1e-4)
    start, everywhere = guess[:2].astype(np.float32), np.ones(other.shape, np.uint8)
    try:
        _, found = cv2.findTransformECC(one, other, start, cv2.MOTION_AFFINE, until, everywhere, gaussFiltSize=3)
    except cv2.error:
        return None  # it did not converge
    return np.vstack([found, [0, 0, 1]]).astype(np.float64)
