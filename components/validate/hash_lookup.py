"""Find all pairs of hashes that differ in a few bits."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

# Hashes that are compared in one step: 256 kB, which fit into the cache of a core.
_BLOCK = 2**15
# Pairs that `hits` gives at once.
_BATCH = 2**15
# Bits of a bucket's number. numpy sorts numbers of 16 bits in linear time.
_KEY_BITS = 16
# Hashes whose buckets are computed in one step.
_PIECE = 2**20


class Lookup:
    """All pairs of a query and an entry whose hashes differ in at most `radius` bits.

    The bits are distributed over bands. Two hashes that differ in at most `radius` bits differ in one band at least in
    no more than radius / bands of its bits (the pigeonhole principle), so only hashes with such a band are compared.
    Fewer, wider bands mean fewer comparisons in more steps: better for millions of hashes. Memory does not grow with
    the number of pairs.
    """

    def __init__(self, queries: Hashes, entries: Hashes, radius: int, bands: int | None = None) -> None:
        """Take the hashes, uint64 [Q] and [E], a radius of 0 to 62 bits, and a number of bands.

        With radius + 1 bands, the default, one band is equal. There may be half as many: then one differs in one bit.
        """
        self.radius = radius
        self.bands = bands or radius + 1
        self._slack = radius // self.bands
        assert self._slack <= 1
        self._queries, self._entries = queries, entries
        # The bits of a band are spread. Neighbouring bits are similar: as a band, they would make a few large buckets.
        self._bits = [list(range(band, 64, self.bands))[:_KEY_BITS] for band in range(self.bands)]
        self._masks = [np.uint64(sum(1 << bit for bit in bits)) for bits in self._bits]

    def hits(self, band: int) -> Iterator[tuple[Rows, Rows]]:
        """Pairs that this band is the first to find, in batches: int64 [P] queries and int64 [P] entries."""
        some: list[tuple[Rows, Rows]] = []
        count = 0
        for pair in self._blocks(band):
            # Nearly all blocks have none, and there are millions of blocks.
            if len(pair[0]):
                some.append(pair)
            count += len(pair[0])
            if count >= _BATCH:
                yield np.concatenate([one for one, _ in some]), np.concatenate([other for _, other in some])
                some, count = [], 0
        if count:
            yield np.concatenate([one for one, _ in some]), np.concatenate([other for _, other in some])

    def _blocks(self, band: int) -> Iterator[tuple[Rows, Rows]]:
        bits = self._bits[band]
        query, entry = _buckets(self._queries, bits), _buckets(self._entries, bits)
        # Buckets whose numbers are equal and, where a bit may differ, those that differ in each bit.
        for flip in (0, *(1 << bit for bit in range(len(bits)) if self._slack)):
            numbers = np.arange(len(query.sizes))
            for a in np.flatnonzero((query.sizes > 0) & (entry.sizes[numbers ^ flip] > 0)):
                ones, others = query.rows(int(a)), entry.rows(int(a) ^ flip)
                width = min(len(others), _BLOCK)
                height = max(1, _BLOCK // width)
                for i, j in itertools.product(range(0, len(ones), height), range(0, len(others), width)):
                    yield self._compare(ones[i : i + height], others[j : j + width], band)

    def _compare(self, ones: Rows, others: Rows, band: int) -> tuple[Rows, Rows]:
        unequal = np.bitwise_xor.outer(self._queries[ones], self._entries[others]).ravel()
        near = np.flatnonzero(np.bitwise_count(unequal) <= self.radius)
        # Each pair once: if an earlier band is near too, that band has found the pair.
        for mask in self._masks[:band] if len(near) else ():
            near = near[np.bitwise_count(unequal[near] & mask) > self._slack]
        return ones[near // len(others)], others[near % len(others)]


class _Buckets(NamedTuple):
    sizes: Rows
    ends: Rows
    order: NDArray[np.uint32]

    def rows(self, bucket: int) -> Rows:
        end = self.ends[bucket]
        return self.order[end - self.sizes[bucket] : end].astype(np.int64)


def _buckets(hashes: Hashes, bits: list[int]) -> _Buckets:
    """Rows by the number that these bits of their hashes make."""
    keys = np.zeros(len(hashes), np.uint16)
    for start in range(0, len(hashes), _PIECE):
        piece = hashes[start : start + _PIECE]
        for place, bit in enumerate(bits):
            keys[start : start + _PIECE] |= ((piece >> np.uint64(bit) & np.uint64(1)) << np.uint64(place)).astype(
                np.uint16
            )
    sizes = np.bincount(keys, minlength=1 << len(bits))
    return _Buckets(sizes, np.cumsum(sizes), np.argsort(keys, kind="stable").astype(np.uint32))
