"""Find copies of pictures in an archive: equal, or cropped, mirrored, turned, recompressed, brightened.

Crops by 5 % and turns by 2 degrees are searched for. Beyond, copies are missed in part: of crops of 8 to 18 % at one
side, drawn frames and parts magnified 1.4 to 1.9 times, 9 of 32. More warps would make the search longer in proportion.

Copies in two splits make the test too easy: training has seen the answer. Copies of two patients do so as well, because
splits go by patient. Of copies with two labels, one label is wrong. Copies that are not equal are found in three steps,
each more exact and more expensive than the one before:

1.  Hashes (hash_lookup.py). The perceptual hash of every picture is looked up among those of all others, and among
    those of all others after a crop or turn. A crop by 5 % changes up to 16 of the 63 bits of a hash; thousands of
    unrelated pictures are that near. The hash of the same crop of the original is much nearer. It is computed from the
    low frequencies with a matrix (warps.py), so no picture is read. The lookup finds all hashes within RADIUS.
2.  Spectra (warps.py). The low frequencies of the remaining pairs are compared, after the crop or turn.
3.  Pixels (alignment.py). The remaining pairs are read from the archive and aligned, and their details are compared.
"""

import functools
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.archive.archive import Archive
from components.base import space, workers
from components.base.progress import track
from components.base.words import count
from components.validate.alignment import Pair, compare
from components.validate.hash_lookup import Hashes, Lookup, Rows
from components.validate.pieces import pieces
from components.validate.warps import WARPS, Flags, Low, LowOnDisk, Real, Spectra
from components.xray.signature import SPECTRUM_SIDE

logger = logging.getLogger(__name__)

EXACT, NEAR = "exact", "near"

# Bits in which the hash of a copy may differ from that of the same warp of its original. Of 1,576 planted copies of
# each kind, 99.0 % (crops of 5 %, turns of 2 degrees) to 100 % (JPEG, darker) differed in at most 6 bits, 97.2 % to
# 100 % in at most 5. Of unrelated pairs, 2 in 10,000 differed in at most 6. So the hash has seven bands of nine bits.
RADIUS = 6
# Limit for 1 - the correlation of weighted spectra. 98 % of the copies within RADIUS are below it, and three in a
# million unrelated pairs: 2,677 in a phantom of 40,005 images. Comparing their pixels takes two cores nine seconds.
MOST_DISTANT = 0.055
# Correlation of the aligned details from which two pictures count as copies. Copies reached 0.96 or more; the best of
# those 2,677 unrelated pairs had 0.87.
LEAST_SIMILAR = 0.92
# Pictures with the same hash that are all compared with each other. If there are more, the rest is compared with the
# first only: ten thousand equal test plates would otherwise need ten thousand squared comparisons.
CROWD = 64
# Pairs of a picture whose pixels are compared, the nearest first.
PARTNERS = 8

# From so many pictures on, wide bands find candidates faster than narrow ones.
MANY = 2**17
# Hashes of warped pictures that are looked up together. In order of their buckets they take 12 bytes each, in every
# thread.
MOST_ENTRIES = 2**22
# Threads, from so many pictures on.
THREADS, MILLION = 2, 2**20

# Pairs that a worker gets at once.
_CHUNK = 32

Codes = NDArray[np.int32]


class Candidates(NamedTuple):
    """Pairs that may be copies: picture `copy` looks like a warp of picture `original`."""

    copy: Rows
    original: Rows
    warp: Rows
    """Which of WARPS."""
    mirrored: Flags
    distance: Real
    """0 for equal spectra, up to MOST_DISTANT."""


def find(archive: Archive, table: pd.DataFrame) -> pd.DataFrame:
    """Find copies that matter: in two splits, of two patients, or with two labels.

    Args:
        archive: with the pictures.
        table: rows of a `Manifest`. Rows without pixels are skipped.

    Returns:
        One row per pair, exact ones first, then by similarity:

            first, second   str     the images, in ascending order
            kind            str     exact (equal pixel by pixel) or near
            similarity      float64 correlation of the aligned details, below 1; 1 if exact
            mirrored        bool    one is the mirror image of the other
            splits, patients, labels
                            bool    whether the two differ in this

        Of several equal pictures, each one is paired with the first that it differs from in one of these. The other
        pairs are left out.

    Raises:
        DataRefused: an image that was ingested cannot be read any more.
    """
    low = np.zeros((len(table), SPECTRUM_SIDE**2), np.int8)
    has = table["spectrum"].notna().to_numpy()
    low[has] = np.frombuffer(b"".join(table["spectrum"][has]), np.int8).reshape(-1, SPECTRUM_SIDE**2)
    return _find(archive, lambda name: iter([table[name]]), low, has)


def find_in(archive: Archive, path: Path, folder: Path) -> pd.DataFrame:
    """Find copies that matter in a table that may be too large for the memory.

    Args:
        archive: with the pictures.
        path: the table of a `Manifest`.
        folder: where a temporary file may be, of 256 bytes for each image.

    Returns:
        As `find`.

    Raises:
        DataRefused, OutsideFailed: as `find`; or the disk is too small.
    """
    if "spectrum" not in pq.read_schema(path).names:
        raise KeyError("spectrum")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".spectra-") as here:
        rows = pq.read_metadata(path).num_rows
        space.require(folder, rows * SPECTRUM_SIDE**2, f"spectra of {rows:,} images")
        has = np.zeros(rows, bool)
        nothing = bytes(SPECTRUM_SIDE**2)
        with (Path(here) / "low").open("wb") as low:
            for piece in pieces(path, ["spectrum"]):
                has[piece.index] = piece["spectrum"].notna()
                low.write(b"".join(nothing if each is None else each for each in piece["spectrum"]))

        def column(name: str) -> Iterator[pd.Series]:
            return (piece[name] for piece in pieces(path, [name]))

        return _find(archive, column, LowOnDisk(Path(here) / "low", rows), has)


Column = Callable[[str], Iterator[pd.Series]]
"""Gives a column of a table by its name, in pieces."""


def _find(archive: Archive, column: Column, low: Low, has: Flags) -> pd.DataFrame:
    """As `find`, with a piece of the table at a time."""
    # Rows of pictures, ascending by name, each name once.
    at = _ascending(column)
    digests = _codes(column("pixels_sha256"))
    at = at[(has & (digests >= 0))[at]]
    digests = digests[at]
    differ = _Differences.of(column, at)
    exact = equal_pairs(digests, differ)
    # One of several equal pictures is enough to find near copies.
    single = np.flatnonzero(~pd.Series(digests).duplicated().to_numpy())
    sides = zip(column("width"), column("height"), strict=True)
    aspects = [(width / height).to_numpy(dtype=np.float64, na_value=1) for width, height in sides]
    aspect = np.concatenate([np.empty(0), *aspects])[at[single]]
    near = candidates(Spectra.of(low, aspect, at[single]), lambda one, other: differ(single[one], single[other]))
    near = near._replace(copy=single[near.copy], original=single[near.original])
    similar = _confirmed(archive, _names(column, at[near.copy]), _names(column, at[near.original]), near)

    kept = similar >= LEAST_SIMILAR
    one = np.concatenate([exact[:, 0], near.copy[kept]])
    other = np.concatenate([exact[:, 1], near.original[kept]])
    found = pd.DataFrame(
        {
            "first": pd.Series(_names(column, at[np.minimum(one, other)]), dtype="str"),
            "second": pd.Series(_names(column, at[np.maximum(one, other)]), dtype="str"),
            "kind": pd.Series([EXACT] * len(exact) + [NEAR] * int(kept.sum()), dtype="str"),
            "similarity": np.concatenate([np.ones(len(exact)), np.minimum(similar[kept].round(4), 0.9999)]),
            "mirrored": np.concatenate([np.zeros(len(exact), bool), near.mirrored[kept]]),
            **differ.named(one, other),
        }
    )
    order = ["kind", "similarity", "first", "second"]
    logger.info(
        "duplicates: %s, %s compared, %s and %s that matter",
        count(len(at), "picture"),
        count(len(near.copy), "pair"),
        count(len(exact), "exact copy"),
        count(int(kept.sum()), "near copy"),
    )
    return found.sort_values(order, ascending=[True, False, True, True], ignore_index=True)


def _codes(words: Iterator[pd.Series]) -> Codes:
    """A number for each word, the same for the same; -1 for a missing one. int32 [N].

    Words are compared by a hash of 64 bits: of ten million different ones, two have the same once in 400,000 times.
    """
    hashed, missing = [np.empty(0, np.uint64)], [np.empty(0, bool)]
    for piece in words:
        missing.append(piece.isna().to_numpy())
        known = piece.astype("str").fillna("").to_numpy(dtype=object)
        hashed.append(pd.util.hash_array(known, categorize=False))
    codes = pd.factorize(np.concatenate(hashed))[0].astype(np.int32)
    codes[np.concatenate(missing)] = -1
    return codes


def _ascending(column: Column) -> Rows:
    """Rows in ascending order of their names, each name once: its first row."""
    # As `mura ingest` writes them. Otherwise all names are in memory for a moment.
    count, last = 0, None
    for piece in column("image"):
        names = pa.array(piece, pa.large_string())
        follows = pc.all(pc.greater(names[1:], names[:-1]), skip_nulls=False).as_py()
        if not follows or names[0].as_py() is None or (last is not None and not names[0].as_py() > last):
            every = pd.concat(list(column("image")), ignore_index=True).astype("str")
            return every.drop_duplicates().dropna().sort_values().index.to_numpy(dtype=np.int64)
        count, last = count + len(names), names[-1].as_py()
    return np.arange(count)


def _names(column: Column, rows: Rows) -> list[str]:
    """Names of rows, in the order of the rows. They are read anew: of millions, few are wanted."""
    wanted, place = np.unique(rows, return_inverse=True)
    found: list[str] = []
    start = 0
    for piece in column("image") if len(wanted) else ():
        first, end = np.searchsorted(wanted, [start, start + len(piece)])
        found += piece.iloc[wanted[first:end] - start].tolist()
        start += len(piece)
    return [found[each] for each in place.tolist()]


def equal_pairs(digest: NDArray[Any], differ: Callable[[Rows, Rows], Flags]) -> Rows:
    """Pairs of rows with the same digest that differ: each row with the first row before it that differs.

    Args:
        digest: [N], the same for equal pictures.
        differ: says whether rows [P] differ from rows [P], bool [P].

    Returns:
        int64 [P, 2], at most one pair for each row.
    """
    order = np.argsort(digest, kind="stable")
    starts = np.flatnonzero(np.r_[True, digest[order][1:] != digest[order][:-1]]) if len(digest) else np.empty(0, int)
    group = np.repeat(starts, np.diff(np.r_[starts, len(digest)]))  # [N] place of the first of the group
    place = np.arange(len(digest))
    pairs = []
    # Compare each row with the first of its group, then the rest with the second, the third...
    ahead, open_ = group, place[place > group]
    while len(open_):
        first = order[ahead[open_]]
        matters = differ(first, order[open_])
        pairs.append(np.stack([first[matters], order[open_][matters]], axis=1))
        open_ = open_[~matters]
        ahead = ahead + 1
        open_ = open_[ahead[open_] < open_]
    return np.concatenate(pairs).astype(np.int64) if pairs else np.empty((0, 2), np.int64)


def candidates(spectra: Spectra, matters: Callable[[Rows, Rows], Flags]) -> Candidates:
    """Pairs that may be copies, by the low frequencies alone.

    Args:
        spectra: of N pictures. Flat pictures have no copies.
        matters: says whether pairs of rows, [P] and [P], are wanted, bool [P].

    Returns:
        Each pair once, ascending by rows. At most PARTNERS for each picture, the nearest.
    """
    not_flat = spectra.not_flat()
    every = np.arange(len(spectra.place))
    leaders, followers = _crowds(spectra.hashes(WARPS[0], every), not_flat)
    queries = np.concatenate([spectra.hashes(WARPS[0], leaders, mirrored) for mirrored in (False, True)])

    def sift(query: Rows, entry: Rows, first: int) -> Candidates:
        """Keep hits of the lookup whose spectra are near too. The first entries are of that warp."""
        mirrored, copy = np.divmod(query, len(leaders))
        warp, original = np.divmod(entry, len(leaders))
        return near_ones(leaders[copy], leaders[original], warp + first, mirrored.astype(bool))

    def near_ones(copy: Rows, original: Rows, warp: Rows, mirrored: Flags) -> Candidates:
        wanted = (copy != original) & matters(copy, original)
        copy, original, warp, mirrored = (each[wanted] for each in (copy, original, warp, mirrored))
        distance = spectra.distance(copy, original, warp, mirrored)
        near = distance <= MOST_DISTANT
        return Candidates(copy[near], original[near], warp[near], mirrored[near], distance[near])

    found = [near_ones(*followers, np.zeros(len(followers[0]), np.int64), np.zeros(len(followers[0]), bool))]
    # All warps at once, if there are few pictures.
    together = max(1, MOST_ENTRIES // max(1, len(leaders)))
    bands = RADIUS + 1 if len(leaders) < MANY else (RADIUS + 1) // 2 + 1
    for first in range(0, len(WARPS), together) if len(leaders) else ():
        entries = np.concatenate([spectra.hashes(warp, leaders) for warp in WARPS[first : first + together]])
        lookup = Lookup(queries, entries, RADIUS, bands)

        def of_band(band: int, lookup: Lookup = lookup, first: int = first) -> Candidates:
            return _nearest(sift(query, entry, first) for query, entry in lookup.hits(band))

        with ThreadPoolExecutor(min(workers.cores(), THREADS if len(leaders) >= MILLION else bands)) as pool:
            found = [_nearest([*found, *pool.map(of_band, range(bands))])]
    return _nearest(found)


def _crowds(plain: Hashes, rows: Rows) -> tuple[Rows, tuple[Rows, Rows]]:
    """Split rows into those to compare with all others, and the rest of large crowds with the same hash.

    The rest comes as pairs: each row with the first of its crowd.
    """
    order = rows[np.argsort(plain[rows], kind="stable")]
    _, first, count = np.unique(plain[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    rest = rank >= CROWD
    return np.sort(order[~rest]), (order[rest], np.repeat(order[first], count)[rest])


def _nearest(found: Iterable[Candidates]) -> Candidates:
    """Keep each pair once, and the nearest pairs of each picture; ascending by rows."""
    none = np.empty(0, np.int64)
    kept = Candidates(none, none, none, none.astype(bool), none.astype(np.float32))
    for each in found:
        every = Candidates._make(
            np.concatenate([getattr(part, name) for part in (kept, each)]) for name in kept._fields
        )
        low, high = np.minimum(every.copy, every.original), np.maximum(every.copy, every.original)
        order = np.lexsort((every.mirrored, every.warp, every.copy, every.distance, high, low))
        again = (low[order][1:] == low[order][:-1]) & (high[order][1:] == high[order][:-1])
        order = order[np.r_[True, ~again]] if len(order) else order
        order = order[
            (_rank(low[order], every.distance[order]) < PARTNERS)
            | (_rank(high[order], every.distance[order]) < PARTNERS)
        ]
        kept = Candidates._make(column[order] for column in every)
    return kept


def _rank(rows: Rows, distance: Real) -> Rows:
    """For each pair, how many pairs of the same row are nearer."""
    order = np.lexsort((distance, rows))
    _, first, count = np.unique(rows[order], return_index=True, return_counts=True)
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(first, count)
    return rank


class _Differences:
    """Tells whether rows differ in split, patient or label."""

    def __init__(self, split: Codes, patient: Codes, label: Codes) -> None:
        self._split, self._patient, self._label = split, patient, label

    @classmethod
    def of(cls, column: Column, at: Rows) -> "_Differences":
        return cls(*(_codes(column(name))[at] for name in ("split", "patient", "abnormal")))

    def __call__(self, one: Rows, other: Rows) -> Flags:
        named = self.named(one, other)
        return named["splits"] | named["patients"] | named["labels"]

    def named(self, one: Rows, other: Rows) -> dict[str, Flags]:
        return {
            name: (column[one] != column[other]) & (column[one] >= 0) & (column[other] >= 0)
            for name, column in (("splits", self._split), ("patients", self._patient), ("labels", self._label))
        }


def _confirmed(archive: Archive, copies: list[str], originals: list[str], near: Candidates) -> NDArray[np.float64]:
    """Similarity of the pixels of every candidate, float64 [P]."""
    jobs = [
        Pair(copy, original, WARPS[warp], bool(mirrored))
        for copy, original, warp, mirrored in zip(copies, originals, near.warp, near.mirrored, strict=True)
    ]
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    # Starting a worker takes longer than comparing a few pairs.
    few = 1 if len(chunks) < 4 else None
    with workers.in_order(functools.partial(compare, archive), chunks, workers=few) as results:
        every = (similarity for some in results for similarity in some)
        return np.array(list(track(every, len(jobs), "duplicates: pairs")), np.float64)
