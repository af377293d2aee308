"""Crops, turns and mirror images of pictures, computed from the pictures' low frequencies alone."""

import functools
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from components.validate.hash_lookup import Hashes, Rows
from components.xray.signature import SPECTRUM_SIDE, THUMBNAIL_SIDE, low_frequencies

Real = NDArray[np.float32]
Flags = NDArray[np.bool_]


class Low(Protocol):
    """Low frequencies of pictures, [M, 256], in memory or in a file."""

    def __getitem__(self, rows: Rows, /) -> NDArray[Any]:
        """Some rows, [P, 256]."""


class LowOnDisk:
    """int8 [M, 256] in a file. It is mapped only while rows are read: else all of it would count as memory."""

    def __init__(self, path: Path, count: int) -> None:
        """Take the file and its number of rows."""
        self._path, self._count = path, count

    def __getitem__(self, rows: Rows) -> NDArray[np.int8]:
        if not len(rows):
            return np.empty((0, SPECTRUM_SIDE**2), np.int8)
        return np.array(np.memmap(self._path, np.int8, "r", shape=(self._count, SPECTRUM_SIDE**2))[rows])


class Warp(NamedTuple):
    """A turned window of a picture: the part of the original that a copy shows."""

    side: float
    """Of the window, as a share of the picture's."""
    right: float
    down: float
    """Position of the window: -1 at one edge, 0 in the middle, 1 at the other edge."""
    degrees: float

    def matrix(self, width: int, height: int) -> NDArray[np.float64]:
        """Map pixels of the window, scaled to width x height, to pixels of the whole picture of that size, [3, 3]."""
        turn = np.deg2rad(self.degrees)
        turned = self.side * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        margin = (1 - self.side) / 2 * np.array([width * self.right, height * self.down])
        return np.vstack([np.column_stack([turned, centre - turned @ centre + margin]), [0, 0, 1]])


# The whole; crops by 5 % of width and height, at nine positions; a crop by 5 % at every edge; turns. Hashes of warps
# between these are within `duplicates.RADIUS`.
WARPS = (
    Warp(1, 0, 0, 0),
    *(Warp(0.95, right, down, 0) for right in (-1, 0, 1) for down in (-1, 0, 1)),
    Warp(0.90, 0, 0, 0),
    Warp(1, 0, 0, 2),
    Warp(1, 0, 0, -2),
)

_BITS = 63
# Pairs or pictures whose spectra are in memory at a time: 100 MB.
_BATCH = 2**15
# Frequencies that are compared, in each direction.
_SIDE = 12
_VERTICAL, _HORIZONTAL = np.indices((_SIDE, _SIDE)).reshape(2, -1)
# Mirroring changes the sign of odd horizontal frequencies.
MIRROR: Real = np.where(_HORIZONTAL % 2, -1, 1).astype(np.float32)
# Amplitudes of radiographs fall with the frequency. With this weight all frequencies count.
_WEIGHT: Real = np.hypot(_VERTICAL, _HORIZONTAL).astype(np.float32)


class Spectra(NamedTuple):
    """The low frequencies of N pictures."""

    low: Low
    """[M, 256], as `signature.low_frequencies` gives them or as the manifest stores them."""
    shape: Rows
    """int64 [N], aspect in quarter octaves. The effect of a turn on the square thumbnail depends on it."""
    place: Rows
    """int64 [N], row of `low`."""

    @classmethod
    def of(cls, low: Low, aspect: NDArray[np.float64], place: Rows | None = None) -> "Spectra":
        """Take low frequencies and aspects (width / height, float64 [N]), and which row each picture has."""
        shape = np.clip(np.rint(4 * np.log2(aspect)), -8, 8).astype(np.int64)  # up to 4 : 1
        return cls(low, shape, np.arange(len(shape)) if place is None else place)

    def warped(self, warp: Warp, rows: Rows) -> Real:
        """The lowest frequencies of some pictures after a warp.

        Args:
            warp: the window.
            rows: int64 [P], which pictures.

        Returns:
            float32 [P, 144]: 12 x 12. Higher ones would need frequencies that `low` does not have.
        """
        return _warped(self._decoded(rows), self.shape[rows], warp)

    def hashes(self, warp: Warp, rows: Rows, mirrored: bool = False) -> Hashes:
        """Hashes of some pictures after a warp, uint64 [P]."""
        found = np.empty(len(rows), np.uint64)
        for start in range(0, len(rows), _BATCH):
            low = self.warped(warp, rows[start : start + _BATCH])
            found[start : start + _BATCH] = hashes(low * MIRROR if mirrored else low)
        return found

    def not_flat(self) -> Rows:
        """Pictures that have any frequency."""
        every = np.arange(len(self.place))
        blocks = (every[start : start + _BATCH] for start in range(0, len(every), _BATCH))
        return np.concatenate([every[:0], *(block[self.low[self.place[block]].any(axis=1)] for block in blocks)])

    def _decoded(self, rows: Rows) -> Real:
        low = self.low[self.place[rows]]
        return low_frequencies(low) if low.dtype == np.int8 else low.astype(np.float32)

    def distance(self, copy: Rows, original: Rows, warp: Rows, mirrored: Flags) -> Real:
        """1 minus the correlation of the weighted spectra of pairs.

        Args:
            copy: int64 [P], rows of pictures.
            original: int64 [P], rows of pictures that are warped.
            warp: int64 [P], which of WARPS.
            mirrored: bool [P], whether the copy is mirrored.

        Returns:
            float32 [P], 0 to 2.
        """
        distance = np.empty(len(copy), np.float32)
        for each in np.unique(warp):
            mine = np.flatnonzero(warp == each)
            for start in range(0, len(mine), _BATCH):
                part = mine[start : start + _BATCH]
                one = (
                    self.warped(WARPS[0], copy[part]) * np.where(mirrored[part, None], MIRROR, np.float32(1)) * _WEIGHT
                )
                other = self.warped(WARPS[each], original[part]) * _WEIGHT
                size = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
                distance[part] = 1 - np.einsum("pk,pk->p", one, other) / np.maximum(size, np.float32(1e-12))
        return distance


def hashes(low: Real) -> Hashes:
    """Signs of the 8 x 8 lowest frequencies without the first one, the mean.

    `signature.signature` compares them with their median instead of 0. With 0, the hash of the mirrored picture follows
    from the signs, and a bit does not depend on other coefficients.

    Args:
        low: float32 [N, 144], as `Spectra.warped` gives them.

    Returns:
        uint64 [N], 63 bits.
    """
    signs = low.reshape(-1, _SIDE, _SIDE)[:, :8, :8].reshape(len(low), 64)[:, 1:] > 0
    packed = np.packbits(np.pad(signs, ((0, 0), (0, 64 - _BITS))), axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8").ravel().astype(np.uint64)


def _warped(low: Real, shape: Rows, warp: Warp) -> Real:
    changed = np.empty((len(low), _SIDE**2), np.float32)
    for each in np.unique(shape) if warp.degrees else (0,):
        mine = shape == each if warp.degrees else slice(None)
        changed[mine] = low[mine] @ _matrix(warp, int(each))
    return changed


def _cosines(place: NDArray[np.float64], frequencies: int) -> NDArray[np.float64]:
    """The basis of the orthonormal DCT-II at positions in the thumbnail, in pixels: [..., frequencies]."""
    frequency = np.arange(frequencies)
    size = np.sqrt((1.0 + (frequency > 0)) / THUMBNAIL_SIDE)
    waves: NDArray[np.float64] = size * np.cos(np.pi * frequency * (place[..., None] + 0.5) / THUMBNAIL_SIDE)
    return waves


@functools.cache
def _matrix(warp: Warp, shape: int) -> Real:
    """The effect of a warp on low frequencies, as a matrix to multiply from the right: [256, 144].

    A picture is a sum of cosines. Their values at the warped positions make the warped picture, which is transformed
    again. Outside of its edges a picture continues as its mirror image.
    """
    pixels = np.arange(THUMBNAIL_SIDE, dtype=np.float64)
    places = (pixels + 0.5) / THUMBNAIL_SIDE - 0.5
    down, right = places[:, None], places[None, :]
    turn, aspect, margin = np.deg2rad(warp.degrees), 2 ** (shape / 4), (1 - warp.side) / 2
    x = warp.side * (np.cos(turn) * right - np.sin(turn) * down / aspect) + margin * warp.right
    y = warp.side * (np.sin(turn) * right * aspect + np.cos(turn) * down) + margin * warp.down
    across = _cosines((x + 0.5) * THUMBNAIL_SIDE - 0.5, SPECTRUM_SIDE)
    along = _cosines((y + 0.5) * THUMBNAIL_SIDE - 0.5, SPECTRUM_SIDE)
    basis = _cosines(pixels, _SIDE)  # [y, p] and [x, q]
    # [u, v: before; p, q: after; y, x: positions], one vertical frequency at a time: all are a million numbers.
    spectra = [basis.T @ (along[:, :, u, None] * across).transpose(2, 0, 1) @ basis for u in range(SPECTRUM_SIDE)]
    return np.asarray(spectra, np.float32).reshape(SPECTRUM_SIDE**2, _SIDE**2)
