"""The 95 % interval of a score: where it would lie for other samples of the same kind.

Nearly every score is made of sums over samples: right answers over questions, errors over words,
intersections over unions, or a mean of several such ratios. So a sample is a row of numbers, and
the score is a function of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

DRAWS = 1000
MOST = 2**22
"""Numbers that are drawn at once."""

INSIDE = (2.5, 97.5)
"""Percentiles: 95 % of the draws lie between them."""


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first sum over the second: a share, or errors per word. sums: [draws, 2]."""
    return sums[:, 0] / sums[:, 1]


def interval(
    numbers: Sequence[Sequence[float]] | np.ndarray,
    score: Callable[[np.ndarray], np.ndarray] = ratio,
    groups: Sequence[Hashable] | None = None,
) -> tuple[float, float] | None:
    """The 95 % interval of a score by the bootstrap, which is the same in every run.

    Args:
        numbers: [samples, K], what each sample adds to the sums.
        score: From the sums of many draws, [draws, K], to their scores, [draws].
        groups: Samples of one group, such as a speaker, are drawn together.

    Returns None for fewer than two samples or groups. Draws without a score, as one without any
    word, are left out.
    """
    table = np.asarray(numbers, np.float64)
    if groups is not None and len(table):
        _, own = np.unique(np.array([repr(group) for group in groups]), return_inverse=True)
        sums = np.zeros((own.max() + 1, table.shape[1]))
        np.add.at(sums, own, table)
        table = sums
    if len(table) < 2:
        return None
    random = np.random.default_rng(0)
    at_once = max(1, MOST // table.size)
    found: list[np.ndarray] = []
    for start in range(0, DRAWS, at_once):
        count = min(at_once, DRAWS - start)
        drawn = table[random.integers(len(table), size=(count, len(table)))].sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.asarray(score(drawn), np.float64))
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, INSIDE)
    return float(low), float(high)
