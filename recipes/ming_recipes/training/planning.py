"""Which rows make up which micro-batch, planned from their sizes alone.

The plan is a pure function of the sizes and the seed. It gives every step as a list of
micro-batches, whose number is ranks x accumulation. Rank r of w takes every w-th of them. So two
ranks see in a step what one rank sees with twice the accumulation.

Micro-batches of a step cost nearly the same: as many tokens and as much work of the encoders. A
rank with more work would let the others wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ming_recipes.training.mixing import Mix
from ming_recipes.training.sizes import Measured, Size

ROWS_AHEAD, STEPS_AHEAD = 64, 8
"""Rows and steps that are planned together at least."""


@dataclass(frozen=True)
class Unit:
    """Rows of a data set that lie together, because they are about the same media.

    tokens: what they take in a packed row. cost: the same with the work of the encoders, in tokens.
    weight: sum of the weights of their targets.
    """

    dataset: int
    rows: tuple[int, ...]
    tokens: int
    cost: float
    weight: float


MicroBatch = tuple[tuple[Unit, ...], ...]
"""The units of each packed row."""


def units_of(
    measured: Measured, dataset: int, capacity: int, costs: Mapping[str, float]
) -> list[Unit]:
    """The rows of a data set as units of at most `capacity` tokens, in the order of the rows.

    costs: as of `Parts`.
    """
    groups: dict[str, list[int]] = {}
    for number, size in enumerate(measured.sizes):
        if size is not None and size.tokens <= capacity:
            groups.setdefault(size.group or f"row {number}", []).append(number)
    return [
        unit
        for rows in groups.values()
        for unit in _split(rows, measured.sizes, dataset, capacity, costs)
    ]


def _split(
    rows: Sequence[int],
    sizes: Sequence[Size | None],
    dataset: int,
    capacity: int,
    costs: Mapping[str, float],
) -> Iterator[Unit]:
    held: list[int] = []
    tokens, work, weight, shared = 0, 0.0, 0.0, 0.0
    for number in rows:
        size = sizes[number]
        assert size is not None
        own = sum(count * costs.get(name, 0.0) for name, count in size.work.items())
        if held and tokens + size.tokens - size.prefix > capacity:
            yield Unit(dataset, tuple(held), tokens, tokens + work, weight)
            held, tokens, work, weight = [], 0, 0.0, 0.0
        if held:
            tokens += size.tokens - size.prefix
            work += max(own - shared, 0.0)
        else:  # the media that all share are paid by the first
            tokens, work, shared = size.tokens, own, own
        shared = min(shared, own)
        weight += size.targets * size.weight
        held.append(number)
    if held:
        yield Unit(dataset, tuple(held), tokens, tokens + work, weight)


class Plan:
    """The micro-batches of every step of a training."""

    def __init__(
        self,
        units: Sequence[Sequence[Unit]],
        mix: Mix,
        *,
        capacity: int,
        rows: int,
        micro_batches: int,
    ) -> None:
        """units: of each data set of the mix. capacity: tokens of a packed row. rows: of a
        micro-batch. micro_batches: of a step, over all ranks.
        """
        self.units, self.mix = units, mix
        self.capacity, self.rows, self.micro_batches = capacity, rows, micro_batches
        self.window = max(-(-ROWS_AHEAD // (rows * micro_batches)), STEPS_AHEAD)
        self._number = -1  # of the window whose steps are held
        self._steps: list[list[MicroBatch]] = []
        self._ordinal = 0
        self._left: list[tuple[int, int]] = []
        self._before: tuple[int, list[tuple[int, int]]] = (0, [])

    def step(self, number: int) -> list[MicroBatch]:
        """The micro-batches of a step, counted from 0."""
        window, place = divmod(number, self.window)
        if window < self._number:
            self._number, self._ordinal, self._left = -1, 0, []
        while self._number < window:
            self._next_window()
        return self._steps[place]

    def state(self) -> dict[str, Any]:
        """Where the plan stands: the window of the last step, and what it began with."""
        ordinal, left = self._before
        return {"window": self._number, "ordinal": ordinal, "left": [list(one) for one in left]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` of the same plan, without planning what lies before it."""
        if state["window"] >= 0:
            self._number = state["window"] - 1
            self._ordinal = state["ordinal"]
            self._left = [(which, unit) for which, unit in state["left"]]

    @property
    def drawn(self) -> int:
        """Units that were drawn up to the end of the window of the last step."""
        return self._ordinal

    def _next_window(self) -> None:
        self._before = self._ordinal, list(self._left)
        count = self.window * self.micro_batches * self.rows
        taken = self._draw(count * self.capacity)
        filled, self._left = self._fill(taken, count)
        self._number += 1
        self._steps = self._as_steps(filled)

    def _draw(self, tokens: int) -> list[tuple[int, int]]:
        """What was left before, and further draws up to so many tokens."""
        taken = list(self._left)
        have = sum(self.units[which][unit].tokens for which, unit in taken)
        while have < tokens:
            (draw,) = self.mix.draws(self._ordinal, 1)
            self._ordinal += 1
            taken.append(draw)
            have += self.units[draw[0]][draw[1]].tokens
        return taken

    def _fill(
        self, taken: Sequence[tuple[int, int]], count: int
    ) -> tuple[list[list[Unit]], list[tuple[int, int]]]:
        """Put units into rows, the dearest first, each into the cheapest row with room for it.

        What was left before comes first of all, so that nothing waits for long. Returns the rows,
        and the draws for which no row had room.
        """
        rows: list[list[Unit]] = [[] for _ in range(count)]
        room = [self.capacity] * count
        heap: list[tuple[float, int]] = [(0.0, row) for row in range(count)]
        left: set[int] = set()
        waited = len(self._left)
        order = sorted(range(len(taken)), key=lambda i: (i >= waited, -self._unit(taken[i]).cost))
        for place in order:
            unit = self._unit(taken[place])
            passed: list[tuple[float, int]] = []
            while heap and room[heap[0][1]] < unit.tokens:
                passed.append(heapq.heappop(heap))
            if heap:
                cost, row = heapq.heappop(heap)
                rows[row].append(unit)
                room[row] -= unit.tokens
                heapq.heappush(heap, (cost + unit.cost, row))
            else:
                left.add(place)
            for one in passed:
                heapq.heappush(heap, one)
        return rows, [draw for place, draw in enumerate(taken) if place in left]

    def _unit(self, draw: tuple[int, int]) -> Unit:
        return self.units[draw[0]][draw[1]]

    def _as_steps(self, rows: Sequence[Sequence[Unit]]) -> list[list[MicroBatch]]:
        """Rows of like cost become one step, and in it the micro-batches are balanced.

        The order of the steps is drawn, as the dearest would come first otherwise.
        """
        size = self.micro_batches * self.rows
        dearest = sorted(rows, key=lambda row: -_cost(row))
        steps = [
            _balanced(dearest[first : first + size], self.micro_batches, self.rows)
            for first in range(0, len(dearest), size)
        ]
        order = np.random.default_rng((self.mix.seed, 1, self._number)).permutation(len(steps))
        return [steps[place] for place in order]


def _balanced(rows: Sequence[Sequence[Unit]], bins: int, most: int) -> list[MicroBatch]:
    """The dearest row first, each to the cheapest micro-batch that has fewer than `most` rows."""
    held: list[list[Sequence[Unit]]] = [[] for _ in range(bins)]
    costs = [0.0] * bins
    for row in rows:
        target = min((b for b in range(bins) if len(held[b]) < most), key=lambda b: costs[b])
        held[target].append(row)
        costs[target] += _cost(row)
    return [tuple(tuple(row) for row in batch) for batch in held]


def _cost(row: Sequence[Unit]) -> float:
    return sum(unit.cost for unit in row)


def cost_of(batch: MicroBatch) -> float:
    """Tokens and encoder work of a micro-batch, in tokens."""
    return sum(map(_cost, batch))


def weight_of(batch: MicroBatch) -> float:
    """Sum of the weights of the targets of a micro-batch."""
    return sum(unit.weight for row in batch for unit in row)


def imbalance(plan: Plan, steps: int, ranks: int) -> float:
    """Mean over steps of the largest cost of a rank divided by the mean cost of all ranks."""
    ratios = []
    for number in range(steps):
        step = plan.step(number)
        costs = [sum(map(cost_of, step[rank::ranks])) for rank in range(ranks)]
        ratios.append(max(costs) / (sum(costs) / ranks))
    return float(np.mean(ratios))
