"""Which items of an endless stream are kept, if only a fixed number of them may be kept.

The objects do not change: adding an item gives a new object. So a question can look at what would
be kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Recent(Generic[T]):
    """The newest `capacity` items, which must be at least 1."""

    capacity: int
    items: tuple[T, ...] = ()

    def add(self, item: T) -> Self:
        return replace(self, items=(*self.items, item)[-self.capacity :])


@dataclass(frozen=True)
class Uniform(Generic[T]):
    """Every `stride`-th item since the first one, and always the newest.

    When that is more than `capacity` (at least 1), every other one goes and the stride doubles. So
    at least half of the places are in use once they were filled, all gaps are equal but the last,
    which may be shorter, and all items but the newest stay the same while others are added.

    count: items that were added. numbers: which of them `items` are.
    """

    capacity: int
    stride: int = 1
    count: int = 0
    numbers: tuple[int, ...] = ()
    items: tuple[T, ...] = ()

    def add(self, item: T) -> Self:
        newest, stride = self.count, self.stride
        kept = [*zip(self.numbers, self.items, strict=True)]
        if kept and kept[-1][0] % stride:
            kept.pop()
        kept.append((newest, item))
        if len(kept) > self.capacity:
            stride *= 2
            kept = [(number, x) for number, x in kept if not number % stride or number == newest]
            kept = kept[-self.capacity :]  # a single place is the newest's
        numbers, items = zip(*kept, strict=True)
        return replace(self, stride=stride, count=newest + 1, numbers=numbers, items=items)
