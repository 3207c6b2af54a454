"""The fewest edits between two texts, in time and memory for whole books.

Neighbouring edit distances differ by at most 1. So a row of their table is the bits of a few long
integers, and a dozen operations on these give the next row (Myers 1999, Hyyrö 2003). The way back
through the table needs all rows: about sqrt(N) of them are kept, and the others computed again.
Libraries choose otherwise among equally few edits, and benchmarks count substitutions, deletions
and insertions apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from math import isqrt
from typing import NamedTuple

_FREQUENT = 512
"""Tokens whose places are kept as bits; those of the others are made again when they come."""


class _Row(NamedTuple):
    """Bit j belongs to the beginning of the hypothesis with j + 1 tokens.

    more, less: that it is one edit farther from, or nearer to, this beginning of the reference
    than the one with j tokens. level: that the distance of both without their last tokens is the
    same. farther: that this beginning of the reference is one edit farther than the one before.
    """

    more: int
    less: int
    level: int = 0
    farther: int = 0


def count_edits(
    reference: Sequence[Hashable], hypothesis: Sequence[Hashable]
) -> tuple[int, int, int]:
    """(substitutions, deletions, insertions) of the fewest edits.

    Among equally few, from the end, a substitution before a deletion before an insertion.
    """
    places = _Places(hypothesis)
    step = isqrt(len(reference)) + 1
    kept = [_Row(more=places.all, less=0)]
    for start in range(0, len(reference), step):
        *_, last = places.rows(kept[-1], reference[start : start + step])
        kept.append(last)

    i, j = len(reference), len(hypothesis)
    substitutions = deletions = insertions = 0
    for start in reversed(range(0, len(reference), step)):
        rows = list(places.rows(kept[start // step], reference[start : start + step]))
        levels = [places.bytes(row.level) for row in rows]
        farther = [places.bytes(row.farther) for row in rows]
        while i > start and j:
            row, byte, bit = i - 1 - start, (j - 1) >> 3, (j - 1) & 7
            differ = reference[i - 1] != hypothesis[j - 1]
            if not differ or not levels[row][byte] >> bit & 1:
                substitutions += differ
                i, j = i - 1, j - 1
            elif farther[row][byte] >> bit & 1:
                deletions, i = deletions + 1, i - 1
            else:
                insertions, j = insertions + 1, j - 1
    return substitutions, deletions + i, insertions + j


class _Places:
    """Where each token of the hypothesis stands, as bits."""

    def __init__(self, hypothesis: Sequence[Hashable]) -> None:
        self._width = len(hypothesis) // 8 + 1
        self._found: dict[Hashable, list[int]] = defaultdict(list)
        for place, token in enumerate(hypothesis):
            self._found[token].append(place)
        self.all = (1 << len(hypothesis)) - 1
        self._of = lru_cache(_FREQUENT)(self._bits)

    def rows(self, row: _Row, tokens: Sequence[Hashable]) -> Iterator[_Row]:
        """The rows of further tokens of the reference, from the row before them."""
        more, less, every = row.more, row.less, self.all
        for token in tokens:
            same = self._of(token)
            level = ((((same & more) + more) ^ more) | same | less) & every
            farther = less | (every ^ (level | more))
            shifted = ((farther << 1) | 1) & every
            nearer = ((level & more) << 1) & every
            more, less = nearer | (every ^ (level | shifted)), shifted & level
            yield _Row(more, less, level, farther)

    def bytes(self, bits: int) -> bytes:
        return bits.to_bytes(self._width, "little")

    def _bits(self, token: Hashable) -> int:
        bits = bytearray(self._width)
        for place in self._found.get(token, ()):
            bits[place >> 3] |= 1 << (place & 7)
        return int.from_bytes(bits, "little")
