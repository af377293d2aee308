"""Perceptual hash and low frequencies of a picture. Copies of a picture have similar ones."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from components.xray.png import Grey

# Side of the thumbnail that is transformed, pixels, and number of frequencies kept in each direction.
THUMBNAIL_SIDE = 32
SPECTRUM_SIDE = 16


class Signature(NamedTuple):
    """Perceptual hash and low frequencies of a picture."""

    phash: str
    """64 bits as 16 hex digits."""
    spectrum: bytes
    """int8 [16, 16] row by row, for `low_frequencies`."""


def signature(grey: Grey) -> Signature:
    """The DCT hash (pHash) of a picture and the low frequencies it is computed from.

    A bit of the hash says whether one of the 8 x 8 lowest frequencies of the 32 x 32 thumbnail is above their median
    (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010). The spectrum has the 16 x 16
    lowest frequencies, divided by the largest. It stores signed square roots, which keep digits of small values.

    Args:
        grey: uint8 [height, width].
    """
    # Resizing to 32 pixels at once takes a tenth of the decoding time. Exact halves are nearly free.
    while min(grey.shape) >= 128:
        height, width = (side // 2 for side in grey.shape)
        grey = cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    # As float: rounding to grey levels would add frequencies to flat or symmetric pictures.
    square = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    frequencies = cv2.dct(cv2.resize(grey.astype(np.float32), square, interpolation=cv2.INTER_AREA))
    low = frequencies[:8, :8].ravel()
    # Without the first coefficient: it is the mean grey level.
    bits = low > np.sort(low[1:])[31]

    part = frequencies[:SPECTRUM_SIDE, :SPECTRUM_SIDE].copy()
    part[0, 0] = 0
    largest = np.abs(part).max()
    # Below a thousandth of a grey level the picture is flat, and the rest is rounding.
    shares = part / largest if largest > THUMBNAIL_SIDE / 1000 else np.zeros_like(part)
    roots = np.rint(127 * np.sign(shares) * np.sqrt(np.abs(shares))).astype(np.int8)
    return Signature(np.packbits(bits).tobytes().hex(), roots.tobytes())


def low_frequencies(spectra: Iterable[bytes] | NDArray[np.int8]) -> NDArray[np.float32]:
    """Decode the spectra of signatures.

    Args:
        spectra: as signatures have them, or int8 [N, 256].

    Returns:
        float32 [N, 256]: vertical by horizontal frequency, row by row. The largest of a picture is 1 or -1; all are 0
        if the picture is flat. The first one, the mean, is always 0.
    """
    stored = spectra if isinstance(spectra, np.ndarray) else np.frombuffer(b"".join(spectra), np.int8)
    roots = stored.reshape(-1, SPECTRUM_SIDE**2).astype(np.float32)
    shares: NDArray[np.float32] = roots * np.abs(roots) / np.float32(127**2)
    return shares
