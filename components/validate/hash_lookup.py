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
    Not all bands need that many: with a radius of 6 and four bands, either one of the first three differs in one bit
    at most, or these three take all six and the last is equal (Norouzi et al., IEEE TPAMI 2014). Fewer, wider bands
    mean fewer comparisons in more steps: better for millions of hashes. Memory does not grow with the number of pairs.
    """

    def __init__(self, queries: Hashes, entries: Hashes, radius: int, bands: int | None = None) -> None:
        """Take the hashes, uint64 [Q] and [E], a radius of 0 to 62 bits, and a number of bands.

        With radius + 1 bands, the default, one band is equal. There may be half as many: then one differs in one bit.
        """
        self.radius = radius
        self.bands = bands or radius + 1
        most, rest = divmod(radius, self.bands)
        assert most <= 1
        self._slack = [most if band <= rest else most - 1 for band in range(self.bands)]
        self._queries, self._entries = queries, entries
        # The bits of a band are spread. Neighbouring bits are similar: as a band, they would make a few large buckets.
        self._bits = [list(range(band, 64, self.bands))[:_KEY_BITS] for band in range(self.bands)]
        self._masks = [np.uint64(sum(1 << bit for bit in bits)) for bits in self._bits]

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
        bits = self._bits[band]
        query, entry = _Buckets.of(self._queries, bits), _Buckets.of(self._entries, bits)
        # The bucket of the same number and, where a bit may differ, those whose number differs in one.
        flips = (0, *(1 << bit for bit in range(len(bits)) if self._slack[band]))
        for number in np.flatnonzero(query.sizes).tolist():
            mine, theirs = query.places(number), [entry.places(number ^ flip) for flip in flips]
            ones, others = query.hashes[mine], np.concatenate([entry.hashes[places] for places in theirs])
            width = max(1, min(len(others), _BLOCK))
            height = max(1, _BLOCK // width)
            for i, j in itertools.product(range(0, len(ones), height), range(0, len(others), width)):
                one, other = self._compare(ones[i : i + height], others[j : j + width], band)
                # Of different pictures, nearly all blocks have none, and there are millions of blocks.
                if len(one):
                    rows = np.concatenate([entry.rows[places] for places in theirs])
                    yield query.rows[mine][i + one].astype(np.int64), rows[j + other].astype(np.int64)

    def _compare(self, ones: Hashes, others: Hashes, band: int) -> tuple[Rows, Rows]:
        """Places of near hashes in the two blocks."""
        unequal = np.bitwise_xor.outer(ones, others).ravel()
        near = np.flatnonzero(np.bitwise_count(unequal) <= self.radius)
        # Each pair once: if an earlier band is near too, that band has found the pair.
        for mask, slack in zip(self._masks[:band], self._slack, strict=False) if len(near) else ():
            near = near[np.bitwise_count(unequal[near] & mask) > slack]
        return near // len(others), near % len(others)


class _Buckets(NamedTuple):
    """Hashes in the order of the numbers that some of their bits make: those of a bucket are neighbours in memory."""

    sizes: Rows
    ends: Rows
    rows: NDArray[np.uint32]
    hashes: Hashes

    @classmethod
    def of(cls, hashes: Hashes, bits: list[int]) -> "_Buckets":
        keys = np.zeros(len(hashes), np.uint16)
        for start in range(0, len(hashes), _PIECE):
            piece = hashes[start : start + _PIECE]
            for place, bit in enumerate(bits):
                keys[start : start + _PIECE] |= ((piece >> np.uint64(bit) & np.uint64(1)) << np.uint64(place)).astype(
                    np.uint16
                )
        sizes = np.bincount(keys, minlength=1 << len(bits))
        rows = np.argsort(keys, kind="stable").astype(np.uint32)
        return cls(sizes, np.cumsum(sizes), rows, hashes[rows])

    def places(self, number: int) -> slice:
        """Where a bucket is."""
        end = int(self.ends[number])
        return slice(end - int(self.sizes[number]), end)
