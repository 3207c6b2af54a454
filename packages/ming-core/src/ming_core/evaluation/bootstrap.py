"""The 95 % interval of a score: where it would lie for other samples of the same kind.

Nearly every score is made of sums over samples: right answers over questions, errors over words,
intersections over unions, or a mean of several such ratios. So a sample is a row of numbers, and
the score is a function of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 1000
MOST = 2**22
"""Numbers that are drawn at once."""

INSIDE = (2.5, 97.5)
"""Percentiles: 95 % of the draws lie between them."""


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first sum over the second: a share, or errors per word. sums: [draws, 2]."""
    return sums[:, 0] / sums[:, 1]


@dataclass(frozen=True, eq=False)
class Sums:
    """What a score is made of.

    Attributes:
        numbers: [samples, K], what each sample adds to the sums.
        score: From the sums of many draws, [draws, K], to their scores, [draws].
        groups: Samples of one group, such as a speaker, are drawn together.
    """

    numbers: Sequence[Sequence[float]] | np.ndarray
    score: Callable[[np.ndarray], np.ndarray] = ratio
    groups: Sequence[Hashable] | None = None

    def table(self) -> np.ndarray:
        """[samples or groups, K] float64."""
        table = np.asarray(self.numbers, np.float64)
        if self.groups is None or not len(table):
            return table
        _, own = np.unique(np.array([repr(group) for group in self.groups]), return_inverse=True)
        sums = np.zeros((own.max() + 1, table.shape[1]))
        np.add.at(sums, own, table)
        return sums


def interval(sums: Sums) -> tuple[float, float] | None:
    """The 95 % interval of a score by the bootstrap, which is the same in every run.

    Returns None for fewer than two samples or groups. Draws without a score, as one without any
    word, are left out.
    """
    return _interval([sums.table()], lambda drawn: sums.score(drawn[0]))


def interval_of_difference(before: Sums, after: Sums) -> tuple[float, float] | None:
    """The 95 % interval of the score `after` minus the score `before`, sample by sample.

    Both are about the same samples in the same order. A draw takes the same samples of both. So
    what makes a sample hard for both does not widen the interval. Returns None as `interval`.
    Raises ValueError for another number of samples.
    """
    tables = [before.table(), after.table()]
    if tables[0].shape != tables[1].shape:
        raise ValueError(f"scores of {tables[0].shape} and {tables[1].shape} numbers")
    return _interval(tables, lambda drawn: after.score(drawn[1]) - before.score(drawn[0]))


def _interval(
    tables: Sequence[np.ndarray], value: Callable[[list[np.ndarray]], np.ndarray]
) -> tuple[float, float] | None:
    """Percentiles of a value of the sums of tables [samples, K]; a draw is the same in all."""
    first = tables[0]
    if len(first) < 2:
        return None
    random = np.random.default_rng(0)
    at_once = max(1, MOST // first.size)
    found: list[np.ndarray] = []
    for start in range(0, DRAWS, at_once):
        count = min(at_once, DRAWS - start)
        drawn = random.integers(len(first), size=(count, len(first)))
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.asarray(value([table[drawn].sum(1) for table in tables]), np.float64))
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, INSIDE)
    return float(low), float(high)
