"""The same picture twice in an archive: pixel for pixel, or cropped, mirrored, turned, recompressed, brightened.

A copy in two splits asks in the test what training has answered; a copy under two patients gets past every split by
patient; a copy with two labels has a wrong one. Copies that differ are found by three sieves, each finer and dearer
than the one before:

1.  Hashes. The perceptual hash of every picture is looked up among those of all others, and of all others as they would
    be cropped or turned. A hash of 63 bits does not survive a crop by 5 % itself: it comes to lie up to 16 bits away,
    where thousands of strangers are. The hash of the same crop does. What a crop or a turn makes of low frequencies
    is a product with a matrix, so no picture is read for it. The lookup misses nothing within its radius.
2.  Spectra. The low frequencies of the pairs that are left are compared, as cropped or turned.
3.  Pixels. The pairs that are left are read from the archive, laid over each other, and compared in their details.
"""

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.archive.archive import Archive
from components.base import workers
from components.base.errors import DataRefused
from components.base.progress import track
from components.xray.images import SPECTRUM_SIDE, THUMBNAIL_SIDE, BadImage, Grey, decode, low_frequencies

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
Real = NDArray[np.float32]

EXACT, NEAR = "exact", "near"


class Warp(NamedTuple):
    """A window of a picture, turned: what a copy may show of its original."""

    side: float
    """Of the window, as a share of the picture's."""
    right: float
    down: float
    """Where the window lies: -1 at one edge, 0 in the middle, 1 at the other."""
    degrees: float


# 5 % off the width and the height, wherever taken; 5 % off every edge; a turn. What lies between is within RADIUS.
WARPS = (
    Warp(1, 0, 0, 0),
    *(Warp(0.95, right, down, 0) for right in (-1, 0, 1) for down in (-1, 0, 1)),
    Warp(0.90, 0, 0, 0),
    Warp(1, 0, 0, 2),
    Warp(1, 0, 0, -2),
)
MIRRORED = (False, True)
# Bits that the hash of a copy may lie from that of the same warp of its original. Of 1,576 planted copies of each kind
# 99.0 % (crops of 5 %, turns of 2 degrees) to 100 % (JPEG, darker) were within 6, 97.2 % to 100 % within 5; of the
# pairs of strangers 2 in 10,000 were within 6. So the hash has seven bands of nine bits.
RADIUS = 6
# One less the correlation of weighted spectra. 98 % of the copies within RADIUS are nearer than this, and three in a
# million of the pairs of strangers: 2,677 of a phantom of 40,005 images, which take two cores nine seconds to compare.
MOST_APART = 0.055
# Correlation of the registered details from which two pictures are one. Copies reached 0.96 or more; of those 2,677
# pairs of strangers the most alike had 0.87.
LEAST_ALIKE = 0.92
# Pictures with one and the same hash that are all compared with all. Of a larger crowd the others are compared with
# its first only: an archive of ten thousand test plates would otherwise ask for as many comparisons squared.
CROWD = 64
# Pairs of a picture that are looked at in pixels, the nearest first.
PARTNERS = 8

# Comparisons done at once: 2 MB of hashes, which stay in the cache of a core.
_BLOCK = 2**18
# Pairs whose spectra are compared at once: 40 MB.
_BATCH = 2**15
_BITS = 63
# Longer side of the pictures that are laid over each other, pixels.
_COARSE, _FINE = 64, 192
_STEPS = 30
# Standard deviation of the blur that is taken out of them, pixels of _FINE.
_DETAIL = 2.0
# Laid over each other coarsely, copies reached 0.88 or more, nine of ten strangers 0.57 or less.
_WORTH_REFINING = 0.6
# Share of the copy that the original must cover.
_LEAST_COVERED = 0.6
# Pairs that a worker takes at once, and pictures that it remembers meanwhile.
_CHUNK, _REMEMBERED = 32, 256


class Candidates(NamedTuple):
    """Pairs that may be copies: row `copy` looks like a warp of row `original`."""

    copy: Rows
    original: Rows
    warp: Rows
    """Which of WARPS."""
    mirrored: NDArray[np.bool_]
    apart: Real
    """0 for equal spectra, up to MOST_APART."""


def find(archive: Archive, table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Copies that matter: in two splits, of two patients, or with two labels.

    Args:
        archive: where the pictures are.
        table: rows of a `Manifest`; those without pixels are passed over.

    Returns:
        One row per pair, exact ones first, then by similarity:

            first, second   str     the images, in ascending order
            kind            str     exact, equal pixel for pixel, or near
            similarity      float64 correlation of the registered details; 1 if exact
            mirrored        bool    the one shows the mirror image of the other
            splits, patients, labels
                            bool    in which of these the two differ

        Of a set of equal pictures every one is paired with the first that it differs from; not every pair is named.

    Raises:
        DataRefused: an image that was ingested can no longer be read.
    """
    import pandas as pd

    rows = table.drop_duplicates("image").dropna(subset=["pixels_sha256", "spectrum"]).sort_values("image")
    rows = rows.reset_index(drop=True)
    differ = _Differences.of(rows)
    exact = equal_pairs(rows["pixels_sha256"].to_numpy(dtype=str), differ)
    # Of pictures that are equal one is enough to find what else looks like them.
    single = np.flatnonzero(~rows["pixels_sha256"].duplicated().to_numpy())
    low = low_frequencies(rows["spectrum"].iloc[single])
    aspect = (rows["width"] / rows["height"]).to_numpy(dtype=np.float64)[single]
    near = candidates(low, aspect, lambda one, other: differ(single[one], single[other]))
    near = near._replace(copy=single[near.copy], original=single[near.original])
    similar = _confirmed(archive, rows["image"].tolist(), near)

    kept = similar >= LEAST_ALIKE
    one = np.concatenate([exact[:, 0], near.copy[kept]])
    other = np.concatenate([exact[:, 1], near.original[kept]])
    found = pd.DataFrame(
        {
            "first": rows["image"].to_numpy()[np.minimum(one, other)],
            "second": rows["image"].to_numpy()[np.maximum(one, other)],
            "kind": [EXACT] * len(exact) + [NEAR] * int(kept.sum()),
            "similarity": np.concatenate([np.ones(len(exact)), similar[kept].round(4)]),
            "mirrored": np.concatenate([np.zeros(len(exact), bool), near.mirrored[kept]]),
            **differ.named(one, other),
        }
    )
    order = ["kind", "similarity", "first", "second"]
    logger.info(
        "duplicates: %s pictures, %s pairs looked at, %s exact and %s near copies that matter",
        f"{len(rows):,}",
        f"{len(near.copy):,}",
        f"{len(exact):,}",
        f"{int(kept.sum()):,}",
    )
    return found.sort_values(order, ascending=[True, False, True, True], ignore_index=True)


def equal_pairs(digest: NDArray[np.str_], differ: Callable[[Rows, Rows], NDArray[np.bool_]]) -> Rows:
    """Pairs of rows with one digest that differ: each row with the first before it that it differs from.

    Args:
        digest: str [N].
        differ: whether rows [P] and rows [P] differ in what matters, bool [P].

    Returns:
        int64 [P, 2], at most one pair for each row.
    """
    order = np.argsort(digest, kind="stable")
    starts = np.flatnonzero(np.r_[True, digest[order][1:] != digest[order][:-1]]) if len(digest) else np.empty(0, int)
    group = np.repeat(starts, np.diff(np.r_[starts, len(digest)]))  # [N] place of the first of the group
    place = np.arange(len(digest))
    pairs = []
    # Most rows differ from the first of their group; the others try the second, the third...
    ahead, open_ = group, place[place > group]
    while len(open_):
        first = order[ahead[open_]]
        matters = differ(first, order[open_])
        pairs.append(np.stack([first[matters], order[open_][matters]], axis=1))
        open_ = open_[~matters]
        ahead = ahead + 1
        open_ = open_[ahead[open_] < open_]
    return np.concatenate(pairs).astype(np.int64) if pairs else np.empty((0, 2), np.int64)


def candidates(
    low: Real, aspect: NDArray[np.float64], matters: Callable[[Rows, Rows], NDArray[np.bool_]]
) -> Candidates:
    """Pairs that may be copies, by the low frequencies alone.

    Args:
        low: float32 [N, 256], as `images.low_frequencies` gives them; flat pictures are like none.
        aspect: float64 [N], width by height.
        matters: whether pairs of rows, [P] and [P], are asked for, bool [P].

    Returns:
        Each pair once, ascending by rows; at most PARTNERS per picture, the nearest.
    """
    shape = np.clip(np.rint(4 * np.log2(aspect)), -8, 8).astype(np.int64)  # quarter octaves, up to 4 : 1
    sound = np.flatnonzero(low.any(axis=1))
    plain = warped(low, shape, WARPS[0])
    leaders, followers = _crowds(hashes(plain), sound)
    queries = [hashes(plain[leaders] * _MIRROR if mirrored else plain[leaders]) for mirrored in MIRRORED]
    entries = [hashes(warped(low[leaders], shape[leaders], warp)) for warp in WARPS]

    def sift(query: Rows, entry: Rows) -> Candidates:
        """Of hits of the lookup those whose spectra agree too."""
        mirrored, copy = np.divmod(query, len(leaders))
        warp, original = np.divmod(entry, len(leaders))
        return judged(leaders[copy], leaders[original], warp, mirrored.astype(bool))

    def judged(copy: Rows, original: Rows, warp: Rows, mirrored: NDArray[np.bool_]) -> Candidates:
        wanted = (copy != original) & matters(copy, original)
        copy, original, warp, mirrored = (each[wanted] for each in (copy, original, warp, mirrored))
        apart = _apart(plain, low, shape, copy, original, warp, mirrored)
        near = apart <= MOST_APART
        return Candidates(copy[near], original[near], warp[near], mirrored[near], apart[near])

    found = [judged(*followers, np.zeros(len(followers[0]), np.int64), np.zeros(len(followers[0]), bool))]
    if len(leaders):
        lookup = Lookup(np.concatenate(queries), np.concatenate(entries), RADIUS)
        with ThreadPoolExecutor(workers.cores()) as pool:
            found += pool.map(lambda band: _nearest(sift(*hit) for hit in lookup.hits(band)), range(RADIUS + 1))
    return _nearest(found)


class Lookup:
    """All pairs of a query and an entry whose hashes differ in at most `radius` bits.

    The bits are dealt out to radius + 1 bands. Two hashes that differ in at most `radius` bits are equal in one band at
    least (the pigeonhole principle), so only those that share a band are compared. Memory does not grow with the
    number of pairs.
    """

    def __init__(self, queries: Hashes, entries: Hashes, radius: int) -> None:
        """Take the hashes, uint64 [Q] and [E], and a radius of 0 to 62 bits."""
        self.radius = radius
        self._queries, self._entries = queries, entries
        # Dealt out like cards: neighbouring bits, of neighbouring frequencies, are alike, and a band of such bits would
        # have a few large buckets.
        bands = radius + 1
        self._masks = [np.uint64(sum(1 << bit for bit in range(band, 64, bands))) for band in range(bands)]

    def hits(self, band: int) -> Iterator[tuple[Rows, Rows]]:
        """Pairs, as int64 [P] queries and int64 [P] entries, that this band is the first to find; in batches."""
        some: list[tuple[Rows, Rows]] = []
        count = 0
        for pair in self._blocks(band):
            some.append(pair)
            count += len(pair[0])
            if count >= _BATCH:
                yield np.concatenate([one for one, _ in some]), np.concatenate([other for _, other in some])
                some, count = [], 0
        if count:
            yield np.concatenate([one for one, _ in some]), np.concatenate([other for _, other in some])

    def _blocks(self, band: int) -> Iterator[tuple[Rows, Rows]]:
        query, entry = _buckets(self._queries, self._masks[band]), _buckets(self._entries, self._masks[band])
        _, in_query, in_entry = np.intersect1d(query.keys, entry.keys, assume_unique=True, return_indices=True)
        for a, b in zip(in_query, in_entry, strict=True):
            ones, others = query.rows(a), entry.rows(b)
            width = min(len(others), _BLOCK)
            height = max(1, _BLOCK // width)
            for i, j in itertools.product(range(0, len(ones), height), range(0, len(others), width)):
                yield self._compare(ones[i : i + height], others[j : j + width], band)

    def _compare(self, ones: Rows, others: Rows, band: int) -> tuple[Rows, Rows]:
        unequal = np.bitwise_xor.outer(self._queries[ones], self._entries[others]).ravel()
        near = np.flatnonzero(np.bitwise_count(unequal) <= self.radius)
        # Each pair once: an earlier band has found it if that band is equal too.
        for mask in self._masks[:band]:
            near = near[unequal[near] & mask != 0]
        return ones[near // len(others)], others[near % len(others)]


class _Buckets(NamedTuple):
    keys: Hashes
    starts: Rows
    order: Rows

    def rows(self, bucket: int) -> Rows:
        end = self.starts[bucket + 1] if bucket + 1 < len(self.starts) else len(self.order)
        return self.order[self.starts[bucket] : end]


def _buckets(hashes: Hashes, mask: np.uint64) -> _Buckets:
    masked = hashes & mask
    order = np.argsort(masked, kind="stable")
    keys, starts = np.unique(masked[order], return_index=True)
    return _Buckets(keys, starts, order)


def hashes(low: Real) -> Hashes:
    """Signs of the 8 x 8 lowest frequencies but the first, the mean.

    `images.perceptual_hash` takes them about their median. About zero, the hash of a mirrored picture is known from the
    signs, and one bit does not depend on the other coefficients.

    Args:
        low: float32 [N, 144], as `warped` gives them.

    Returns:
        uint64 [N], 63 bits.
    """
    signs = low.reshape(-1, _SIDE, _SIDE)[:, :8, :8].reshape(len(low), 64)[:, 1:] > 0
    packed = np.packbits(np.pad(signs, ((0, 0), (0, 64 - _BITS))), axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8").ravel().astype(np.uint64)


def warped(low: Real, shape: Rows, warp: Warp) -> Real:
    """The lowest frequencies of warped pictures.

    Args:
        low: float32 [N, 256].
        shape: int64 [N], aspect in quarter octaves: turning a thumbnail that was squeezed into a square depends on it.
        warp: which window.

    Returns:
        float32 [N, 144]: 12 by 12, for the others would need those that the spectrum has not.
    """
    changed = np.empty((len(low), _SIDE**2), np.float32)
    for each in np.unique(shape) if warp.degrees else (0,):
        mine = shape == each if warp.degrees else slice(None)
        changed[mine] = low[mine] @ _matrix(warp, int(each))
    return changed


def _cosines(place: NDArray[np.float64], frequencies: int) -> NDArray[np.float64]:
    """The basis of the orthonormal DCT-II at places within the thumbnail, pixels: [..., frequencies]."""
    frequency = np.arange(frequencies)
    size = np.sqrt((1.0 + (frequency > 0)) / THUMBNAIL_SIDE)
    waves: NDArray[np.float64] = size * np.cos(np.pi * frequency * (place[..., None] + 0.5) / THUMBNAIL_SIDE)
    return waves


@functools.cache
def _matrix(warp: Warp, shape: int) -> Real:
    """What a warp does to low frequencies, to be multiplied from the right: [256, 144].

    A picture is a sum of cosines. Read off at the warped places they make another picture, whose transform is taken.
    Beyond its edges, a picture goes on as its mirror image.
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
    # [u, v: before; p, q: after; y, x: places], one vertical frequency at a time: all at once are a million numbers.
    spectra = [basis.T @ (along[:, :, u, None] * across).transpose(2, 0, 1) @ basis for u in range(SPECTRUM_SIDE)]
    return np.asarray(spectra, np.float32).reshape(SPECTRUM_SIDE**2, _SIDE**2)


# Frequencies that are compared, either way.
_SIDE = 12
_VERTICAL, _HORIZONTAL = np.indices((_SIDE, _SIDE)).reshape(2, -1)
# Mirroring turns the sign of what is odd.
_MIRROR: Real = np.where(_HORIZONTAL % 2, -1, 1).astype(np.float32)
# Frequencies of radiographs fall with their distance from the origin: so weighted all have a say.
_WEIGHT: Real = np.hypot(_VERTICAL, _HORIZONTAL).astype(np.float32)


def _apart(
    plain: Real, low: Real, shape: Rows, copy: Rows, original: Rows, warp: Rows, mirrored: NDArray[np.bool_]
) -> Real:
    """One less the correlation of the weighted spectra of pairs, float32 [P], 0 to 2."""
    apart = np.empty(len(copy), np.float32)
    for each in np.unique(warp):
        mine = np.flatnonzero(warp == each)
        for start in range(0, len(mine), _BATCH):
            part = mine[start : start + _BATCH]
            one = plain[copy[part]] * np.where(mirrored[part, None], _MIRROR, np.float32(1)) * _WEIGHT
            other = warped(low[original[part]], shape[original[part]], WARPS[each]) * _WEIGHT
            size = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            apart[part] = 1 - np.einsum("pk,pk->p", one, other) / np.maximum(size, np.float32(1e-12))
    return apart


def _crowds(plain: Hashes, rows: Rows) -> tuple[Rows, tuple[Rows, Rows]]:
    """The rows to compare with all others, and of crowds of one hash the rest, each with the first of its crowd."""
    order = rows[np.argsort(plain[rows], kind="stable")]
    _, first, count = np.unique(plain[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    rest = rank >= CROWD
    return np.sort(order[~rest]), (order[rest], np.repeat(order[first], count)[rest])


def _nearest(found: Iterable[Candidates]) -> Candidates:
    """Each pair once, and of a picture's pairs the nearest; ascending by rows."""
    none = np.empty(0, np.int64)
    kept = Candidates(none, none, none, none.astype(bool), none.astype(np.float32))
    for each in found:
        every = Candidates._make(
            np.concatenate([getattr(part, name) for part in (kept, each)]) for name in kept._fields
        )
        low, high = np.minimum(every.copy, every.original), np.maximum(every.copy, every.original)
        order = np.lexsort((every.mirrored, every.warp, every.copy, every.apart, high, low))
        again = (low[order][1:] == low[order][:-1]) & (high[order][1:] == high[order][:-1])
        order = order[np.r_[True, ~again]] if len(order) else order
        order = order[
            (_rank(low[order], every.apart[order]) < PARTNERS) | (_rank(high[order], every.apart[order]) < PARTNERS)
        ]
        kept = Candidates._make(column[order] for column in every)
    return kept


def _rank(rows: Rows, apart: Real) -> Rows:
    """How many of its pairs are nearer, for the row of each pair."""
    order = np.lexsort((apart, rows))
    _, first, count = np.unique(rows[order], return_index=True, return_counts=True)
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(first, count)
    return rank


class _Differences:
    """In which of split, patient and label rows differ."""

    def __init__(self, split: Rows, patient: Rows, label: Rows) -> None:
        self._split, self._patient, self._label = split, patient, label

    @classmethod
    def of(cls, rows: "pandas.DataFrame") -> "_Differences":
        return cls(*(rows[name].factorize()[0].astype(np.int64) for name in ("split", "patient", "abnormal")))

    def __call__(self, one: Rows, other: Rows) -> NDArray[np.bool_]:
        named = self.named(one, other)
        return named["splits"] | named["patients"] | named["labels"]

    def named(self, one: Rows, other: Rows) -> dict[str, NDArray[np.bool_]]:
        return {
            name: (column[one] != column[other]) & (column[one] >= 0) & (column[other] >= 0)
            for name, column in (("splits", self._split), ("patients", self._patient), ("labels", self._label))
        }


def _confirmed(archive: Archive, image: list[str], near: Candidates) -> NDArray[np.float64]:
    """Similarity of every candidate in its pixels, float64 [P]."""
    jobs = [
        (image[copy], image[original], WARPS[warp], bool(mirrored))
        for copy, original, warp, mirrored, _ in zip(*near, strict=True)
    ]
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    # Starting a worker takes longer than a few pairs.
    few = 1 if len(chunks) < 4 else None
    with workers.in_order(functools.partial(_compare, archive), chunks, workers=few) as results:
        every = (similarity for some in results for similarity in some)
        return np.array(list(track(every, len(jobs), "duplicates: pairs")), np.float64)


def _compare(archive: Archive, pairs: list[tuple[str, str, Warp, bool]]) -> list[float]:
    mine = archive.reopen()
    mine.expect(dict.fromkeys(itertools.chain.from_iterable(pair[:2] for pair in pairs)))
    return [
        similarity(_picture(mine, copy)[:, ::-1] if mirrored else _picture(mine, copy), _picture(mine, original), warp)
        for copy, original, warp, mirrored in pairs
    ]


@functools.lru_cache(_REMEMBERED)
def _picture(archive: Archive, member: str) -> Grey:
    try:
        return _small(decode(archive.bytes_of(member)).grey, _FINE)
    except (KeyError, BadImage) as error:
        raise DataRefused(
            f"{member}: was ingested, but can no longer be read ({error}). Run `mura ingest` again."
        ) from error


def _small(grey: Grey, longest: int) -> Grey:
    import cv2

    scale = longest / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def similarity(copy: Grey, original: Grey, start: Warp = WARPS[0]) -> float:
    """How alike two pictures are in their details, once one is laid over the other.

    Enhanced correlation (Evangelidis & Psarakis, IEEE TPAMI 2008) finds the affine map, coarsely first. What is coarser
    than details is taken out before they are correlated: two radiographs of one part share that anyway.

    Args:
        copy: uint8 [h, w].
        original: uint8 [H, W].
        start: which window of the original the copy shows, as far as is known.

    Returns:
        Correlation, -1 to 1; 0 if nothing fits.
    """
    height, width = _small(copy, _FINE).shape
    one, other = (_resized(each, width, height) for each in (copy, original))
    less = _COARSE / _FINE
    coarse = max(8, round(width * less)), max(8, round(height * less))
    to_coarse = _scaling(coarse[0] / width, coarse[1] / height)
    to_fine = np.linalg.inv(to_coarse)
    # Maps places of the copy to those of the original.
    guess = to_coarse @ _placing(start, width, height) @ to_fine
    found = _fitted(_resized(one, *coarse), _resized(other, *coarse), guess)
    if found is None:
        return 0.0
    found = to_fine @ found @ to_coarse
    alike = _details_alike(one, other, found)
    if alike < _WORTH_REFINING:
        return alike
    # Ten times dearer than all before.
    refined = _fitted(one, other, found)
    return alike if refined is None else max(alike, _details_alike(one, other, refined))


def _details_alike(one: Real, other: Real, placed: NDArray[np.float64]) -> float:
    """Correlation of what is finer than a blur, where both have something; 0 if they share too little."""
    import cv2

    height, width = one.shape
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(other, placed[:2], (width, height), flags=how)
    covered = cv2.warpAffine(np.ones_like(other), placed[:2], (width, height), flags=how) > 0.999
    # The edge of what is covered is a detail that the copy does not have.
    inner = cv2.erode(covered.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0
    if inner.mean() < _LEAST_COVERED:
        return 0.0
    a, b = ((each - cv2.GaussianBlur(each, (0, 0), _DETAIL))[inner] for each in (one, laid))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def _resized(grey: NDArray[Any], width: int, height: int) -> Real:
    import cv2

    return cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)


def _scaling(x: float, y: float) -> NDArray[np.float64]:
    """From pixels to those of a picture so much larger; a pixel's middle is at whole numbers, its edges at halves."""
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _placing(warp: Warp, width: int, height: int) -> NDArray[np.float64]:
    """From pixels of a window to those of the picture it shows a part of, both of one size."""
    turn = np.deg2rad(warp.degrees)
    turned = warp.side * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    margin = (1 - warp.side) / 2 * np.array([width * warp.right, height * warp.down])
    return np.vstack([np.column_stack([turned, centre - turned @ centre + margin]), [0, 0, 1]])


def _fitted(one: Real, other: Real, guess: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The map from places of the one to those of the other, [3, 3]; None if none is found."""
    import cv2

    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _STEPS, 1e-4)
    start, everywhere = guess[:2].astype(np.float32), np.ones(other.shape, np.uint8)
    try:
        _, found = cv2.findTransformECC(one, other, start, cv2.MOTION_AFFINE, until, everywhere, gaussFiltSize=3)
    except cv2.error:
        # It says so when it does not converge.
        return None
    return np.vstack([found, [0, 0, 1]]).astype(np.float64)
