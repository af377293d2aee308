"""Whether a view is like those that a network learned from, by what the network saw in it.

The density of training pictures over that of pictures that show nothing of their kind is estimated by least squares
with Gaussian kernels (Kanamori, Hido & Sugiyama 2009; for outliers: Hido et al. 2011). Far from both it is 0, so that
what nobody thought of is unlike, too. The distance is 1 minus the share of training pictures: about 0 for a view like
them, about 1 for others.

Features are what a network saw at several depths (components/network/features.py). A logarithm tames them, and the
channels of each depth, then all depths together, are reduced to their principal components.

The threshold is a quantile of the tuning studies, which the network did not learn from. It is the conformal one (Vovk,
Gammerman & Shafer 2005): of exchangeable studies, at most the stated share is called unlike, on the average.
"""

import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.artifacts.evaluation import Comparison, Depth, FalseAlarms, Familiarity, Numbers
from components.artifacts.manifest import TEST, TUNING

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]

CHANNELS = 16
"""Principal components of the channels of a depth."""
COMPONENTS = 128
"""Principal components of all depths."""
REFERENCES = 2_000
"""Pictures of each kind that a view is compared with."""
WHITENING = 0.5
"""Power of a component's deviation that it is divided by: 0 keeps all as they are, 1 makes all alike."""
WIDTH = 0.5
"""Of the kernel, in the median distance of two pictures."""
RIDGE = 1e-6
SHARE = 0.3
"""Of the mean size of a channel: below it the logarithm is nearly linear."""
ROWS = 20_000
SAMPLE = 2_000


def fewest_studies(share: float) -> int:
    """How many tuning studies a share of false alarms needs."""
    return math.ceil(1 / share - 1 - 1e-9)


def depths(known: Array, strange: Array, seen: Sequence[tuple[int, int]], seed: int) -> tuple[Depth, ...]:
    """Learn how the features of each depth are reduced.

    Args:
        known: float32 [N, D], features of training pictures; a sample is enough.
        strange: float32 [M, D], those of pictures that show nothing of their kind.
        seen: rows and channels of each depth; D is the sum of their products.
        seed: of the rows that are looked at.
    """
    rng = np.random.default_rng(seed)
    made, start = [], 0
    for rows, channels in seen:
        own, others = (_rows(each, start, rows, channels) for each in (known, strange))
        start += rows * channels
        size = SHARE * np.abs(own).mean(axis=(0, 1))
        scale = np.asarray(size + 0.01 * size.mean() + 1e-9, np.float32)
        tame = np.concatenate([_tame(each, scale) for each in (own, others)])
        flat = tame.reshape(-1, channels)
        flat = flat[rng.permutation(len(flat))[:ROWS]]
        centre = np.asarray(flat.mean(axis=0), np.float32)
        found = np.linalg.eigh(np.cov((flat - centre).T).reshape(channels, channels))[1][:, ::-1][:, :CHANNELS]
        basis = np.asarray(found, np.float32)
        spread = ((tame - centre) @ basis).var(axis=0).sum()
        # A depth that sees no difference between any pictures tells nothing.
        weight = 1 / math.sqrt(spread) if spread > 0 else 0.0
        made.append(Depth(rows=rows, scale=pack(scale), centre=pack(centre), basis=pack(basis), weight=weight))
    return tuple(made)


def reduced(learned: Sequence[Depth], features: Array) -> Array:
    """Reduce features, float32 [B, D] to float32 [B, R]."""
    found, start = [], 0
    for depth in learned:
        scale, centre, basis = (unpack(each) for each in (depth.scale, depth.centre, depth.basis))
        rows = _rows(features, start, depth.rows, len(scale))
        start += depth.rows * len(scale)
        found.append(((_tame(rows, scale) - centre) @ basis).reshape(len(features), -1) * depth.weight)
    return np.asarray(np.concatenate(found, axis=1), np.float32)


def fit(learned: tuple[Depth, ...], known: Array, strange: Array, seed: int) -> Comparison:
    """Learn what training pictures are told from others by.

    Args:
        learned: of `depths`.
        known: float32 [N, R], of training pictures, by `reduced`; N >= 2.
        strange: float32 [M, R], of pictures that show nothing of their kind; M >= 2.
        seed: of the choice of the pictures to compare with.
    """
    rng = np.random.default_rng(seed)
    both = np.concatenate([known, strange])
    centre = np.asarray(both.mean(axis=0), np.float32)
    sample = both[rng.permutation(len(both))[:SAMPLE]] - centre
    # The components by way of the pictures, which are fewer than the features of an ensemble.
    values, vectors = np.linalg.eigh(np.asarray(sample @ sample.T, np.float64))
    kept = [number for number in range(len(values))[::-1][:COMPONENTS] if values[number] > 1e-6 * values[-1]]
    axes = sample.T @ vectors[:, kept] / np.sqrt(values[kept])
    basis = np.asarray(axes / (((both - centre) @ axes).std(axis=0) ** WHITENING), np.float32)
    places = (both - centre) @ basis
    one, other = (places[rng.integers(0, len(places), SAMPLE)] for _ in range(2))
    width = WIDTH * float(np.sqrt(np.median(((one - other) ** 2).sum(axis=1)))) or 1.0
    chosen = [rng.permutation(count)[:REFERENCES] for count in (len(known), len(strange))]
    references = np.asarray(places[np.concatenate([chosen[0], len(known) + chosen[1]])], np.float32)
    kernel = _kernel(places, references, width)
    counts = np.repeat([0.5 / len(known), 0.5 / len(strange)], [len(known), len(strange)])
    is_known = np.repeat([1.0, 0.0], [len(known), len(strange)])
    gram = (kernel * counts[:, None]).T @ kernel + RIDGE * np.eye(len(references))
    weights = np.linalg.solve(gram, kernel.T @ (counts * is_known))
    return Comparison(
        depths=learned,
        centre=pack(centre),
        basis=pack(basis),
        references=pack(references),
        weights=pack(weights),
        width=width,
    )


class Measure:
    """Measures distances of views."""

    def __init__(self, comparison: Comparison) -> None:
        """Unpack what they are compared with."""
        self._depths = comparison.depths
        self._centre, self._basis, self._references, self._weights = (
            unpack(each) for each in (comparison.centre, comparison.basis, comparison.references, comparison.weights)
        )
        self._width = comparison.width

    def __call__(self, features: Array) -> NDArray[np.float32]:
        """The distance of each view, float32 [B]; infinite where it is no number.

        Args:
            features: float32 [B, D], of the network.
        """
        places = (reduced(self._depths, features) - self._centre) @ self._basis
        found = 1 - _kernel(places, self._references, self._width) @ self._weights.astype(np.float64)
        return np.asarray(np.where(np.isfinite(found), found, np.inf), np.float32)


def is_unlike(distance: Array, familiarity: Familiarity) -> NDArray[np.bool_]:
    """Whether views are unlike the training pictures, bool [B]."""
    return np.asarray(~(np.asarray(distance) <= familiarity.threshold))


def false_alarms(predictions: "pd.DataFrame", share: float, pictures: int) -> FalseAlarms | None:
    """Choose the threshold on tuning, and measure how many studies of both splits are beyond it.

    A study is as far as the farthest of its views. Of n tuning studies the threshold is the distance of the
    ceil((n + 1) (1 - share))-th: then another study of this kind is farther with a chance of at most the share.

    Args:
        predictions: one row per image: study, patient, split, distance.
        share: of studies that may be called unlike.
        pictures: number of training pictures that distances are from.

    Returns:
        None if there are too few tuning studies, or no distances.
    """
    # Imports SciPy, which a server that answers does without.
    from components.scores import intervals

    if "distance" not in predictions or predictions["distance"].isna().any():
        return None
    rows = predictions.assign(study=predictions["study"].astype(str))
    studies = rows.groupby("study", sort=True).agg(
        split=("split", "first"), patient=("patient", "first"), distance=("distance", "max")
    )
    tuning = np.sort(studies.loc[studies["split"] == TUNING, "distance"].to_numpy(np.float64))
    if len(tuning) < fewest_studies(share):
        return None
    place = math.ceil((len(tuning) + 1) * (1 - share) - 1e-9)
    threshold = float(tuning[place - 1])
    found = {}
    for split in (TUNING, TEST):
        own = studies[studies["split"] == split]
        beyond = own["distance"].to_numpy(np.float64) > threshold
        found[split] = intervals.share(beyond, own["patient"].to_numpy().astype(str))
    return FalseAlarms(threshold=threshold, pictures=pictures, **found)


def pack(array: Array) -> Numbers:
    """An array as JSON can hold it, float32."""
    found = np.ascontiguousarray(array, "<f4")
    return Numbers(shape=found.shape, base64=base64.b64encode(found.tobytes()).decode("ascii"))


def unpack(numbers: Numbers) -> NDArray[np.float32]:
    """The array.

    Raises:
        ValueError: it is none.
    """
    return np.frombuffer(base64.b64decode(numbers.base64, validate=True), "<f4").reshape(numbers.shape)


def _rows(features: Array, start: int, rows: int, channels: int) -> Array:
    """The features of one depth, [B, rows, C]."""
    return features[:, start : start + rows * channels].reshape(len(features), rows, channels)


def _tame(rows: Array, scale: Array) -> Array:
    return np.sign(rows) * np.log1p(np.abs(rows) / scale)


def _kernel(places: Array, references: Array, width: float) -> Array:
    """Gaussian kernels, float64 [B, N]."""
    one, other = places.astype(np.float64), references.astype(np.float64)
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.asarray(np.exp(-np.maximum(squares, 0) / (2 * width**2)))
