"""Which unit of which data set comes next: a function of the seed and of the number of the draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ming_core.errors import BadConfig

_GOLDEN = 11400714819323198485
"""2^64 divided by the golden ratio: its multiples are spread evenly over 0 to 2^64."""

_PIECE = 1 << 20


class Mix:
    """An endless sequence of draws from several data sets.

    A data set is drawn evenly: after n draws its count differs from its share of n by a few only.
    Each pass over a data set has a new order, in which everything comes once.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], seed: int) -> None:
        """sizes: units of each data set. shares: how often each is drawn, in any scale.

        Raises BadConfig for shares that are not above 0.
        """
        if not all(size > 0 for size in sizes):
            raise BadConfig("a data set has no row to draw; take it out of the mix")
        if not all(0 < share < float("inf") for share in shares):
            raise BadConfig(f"the shares of the data sets are {list(shares)}; each must be above 0")
        self.sizes = tuple(sizes)
        self.seed = seed
        self._ends = np.cumsum(shares) / np.sum(shares)
        self._offset = int(np.random.default_rng(seed).integers(2**63))
        self._drawn = 0
        self._counts = np.zeros(len(sizes), dtype=np.int64)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def draws(self, first: int, count: int) -> list[tuple[int, int]]:
        """The draws number first, first + 1, ...: (data set, unit)."""
        self._seek(first)
        found = []
        for which in self._sets(first, count).tolist():
            found.append((which, self._unit(which, int(self._counts[which]))))
            self._counts[which] += 1
        self._drawn = first + count
        return found

    def _seek(self, place: int) -> None:
        if place < self._drawn:
            self._drawn, self._counts[:] = 0, 0
        while self._drawn < place:
            count = min(_PIECE, place - self._drawn)
            which = self._sets(self._drawn, count)
            self._counts += np.bincount(which, minlength=len(self.sizes))
            self._drawn += count

    def _sets(self, first: int, count: int) -> np.ndarray:
        """The data set of each draw."""
        numbers = np.arange(first, first + count, dtype=np.uint64)
        spread = numbers * np.uint64(_GOLDEN) + np.uint64(
            self._offset
        )  # wraps around, as it should
        places = spread.astype(np.float64) / 2.0**64
        return np.minimum(np.searchsorted(self._ends, places, side="right"), len(self.sizes) - 1)

    def _unit(self, which: int, number: int) -> int:
        """The unit of a data set that comes as its draw of this number."""
        turn, place = divmod(number, self.sizes[which])
        if self._orders.get(which, (-1,))[0] != turn:
            rng = np.random.default_rng((self.seed, which, turn))
            self._orders[which] = turn, rng.permutation(self.sizes[which])
        return int(self._orders[which][1][place])
