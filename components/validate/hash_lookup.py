"""Find all pairs of hashes that differ in a few bits."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

# Hashes that are compared in one step: 2 MB, which fit into the cache of a core.
_BLOCK = 2**18
# Pairs that `hits` gives at once.
_BATCH = 2**15


class Lookup:
    """All pairs of a query and an entry whose hashes differ in at most `radius` bits.

    The bits are distributed over radius + 1 bands. Two hashes that differ in at most `radius` bits are equal in one
    band at least (the pigeonhole principle), so only hashes with an equal band are compared. Memory does not grow with
    the number of pairs.
    """

    def __init__(self, queries: Hashes, entries: Hashes, radius: int) -> None:
        """Take the hashes, uint64 [Q] and [E], and a radius of 0 to 62 bits."""
        self.radius = radius
        self._queries, self._entries = queries, entries
        # Every (radius + 1)-th bit belongs to one band. Neighbouring bits are similar: as a band, they would make a few
        # large buckets.
        bands = radius + 1
        self._masks = [np.uint64(sum(1 << bit for bit in range(band, 64, bands))) for band in range(bands)]

    def hits(self, band: int) -> Iterator[tuple[Rows, Rows]]:
        """Pairs that this band is the first to find, in batches: int64 [P] queries and int64 [P] entries."""
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
        # Each pair once: if an earlier band is equal too, that band has found the pair.
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
