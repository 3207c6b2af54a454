"""The mix and the plan: functions of the seed and the sizes, balanced over ranks."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from ming_core.errors import BadConfig
from ming_recipes.training.mixing import Mix
from ming_recipes.training.planning import (
    MicroBatch,
    Plan,
    Unit,
    cost_of,
    imbalance,
    units_of,
)
from ming_recipes.training.sizes import Measured, Size


def recorded(count: int, seed: int = 0) -> list[Unit]:
    """Shapes as the reports have them: texts of 50 to 2000 tokens, pictures of 64 to 4096 and
    sounds of 25 to 750; four patches or frames are a token."""
    rng = np.random.default_rng(seed)

    def between(low: float, high: float) -> int:
        return int(math.exp(rng.uniform(math.log(low), math.log(high))))

    units = []
    for number in range(count):
        kind, tokens, work = rng.random(), between(50, 2000), 0.0
        if kind < 0.4:
            picture = between(64, 4096)
            tokens, work = min(tokens, 300) + picture, 4 * picture * 0.4
        elif kind < 0.7:
            sound = between(25, 750)
            tokens, work = min(tokens, 300) + sound, 4 * sound * 0.6
        units.append(Unit(0, (number,), tokens, tokens + work, 10.0))
    return units


def planned(units: list[Unit], micro_batches: int, rows: int = 1, capacity: int = 8192) -> Plan:
    mix = Mix([len(units)], [1.0], 0)
    return Plan([units], mix, capacity=capacity, rows=rows, micro_batches=micro_batches)


def test_mix_keeps_the_shares_and_shows_everything_once_a_pass() -> None:
    mix = Mix([10, 5, 7], [0.5, 0.2, 0.3], seed=3)
    draws = mix.draws(0, 1000)
    for end in (50, 333, 1000):
        counts = Counter(which for which, _ in draws[:end])
        for which, share in enumerate((0.5, 0.2, 0.3)):
            assert abs(counts[which] - share * end) < 4
    for which, size in enumerate(mix.sizes):
        units = [unit for found, unit in draws if found == which]
        passes = [units[first : first + size] for first in range(0, len(units) - size, size)]
        assert all(sorted(one) == list(range(size)) for one in passes)
        assert passes[0] != passes[1]


def test_any_draw_of_a_mix_can_be_had_at_once() -> None:
    mix = Mix([100, 30], [3.0, 1.0], seed=1)
    draws = mix.draws(0, 500)
    assert Mix([100, 30], [3.0, 1.0], seed=1).draws(321, 20) == draws[321:341]
    assert mix.draws(7, 3) == draws[7:10]
    assert Mix([100, 30], [3.0, 1.0], seed=2).draws(0, 500) != draws


@pytest.mark.parametrize(("sizes", "shares"), [([1, 0], [1.0, 1.0]), ([1], [0.0]), ([1], [-1.0])])
def test_mix_of_nothing_is_refused(sizes: list[int], shares: list[float]) -> None:
    with pytest.raises(BadConfig):
        Mix(sizes, shares, 0)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 1), (8, 1), (8, 2), (16, 1)])
def test_ranks_have_the_same_work_and_rows_are_full(ranks: int, rows: int) -> None:
    plan, capacity = planned(recorded(4000), ranks, rows), 8192
    assert imbalance(plan, 24, ranks) < 1.05
    worst = []
    for number in range(24):
        costs = list(map(cost_of, plan.step(number)))
        worst.append(max(costs) / (sum(costs) / ranks))
    assert max(worst) < 1.1
    held = [
        sum(unit.tokens for unit in row)
        for number in range(24)
        for batch in plan.step(number)
        for row in batch
    ]
    assert max(held) <= capacity
    assert np.mean(held) / capacity > 0.98


def test_plan_that_counts_tokens_alone_would_not_be_balanced() -> None:
    units = recorded(4000)
    blind = [Unit(0, unit.rows, unit.tokens, float(unit.tokens), 1.0) for unit in units]
    plan = planned(blind, 8)
    ratios = []
    for number in range(24):
        costs = [
            sum(units[unit.rows[0]].cost for row in batch for unit in row)
            for batch in plan.step(number)
        ]
        ratios.append(max(costs) / (sum(costs) / 8))
    assert np.mean(ratios) > 1.05 > 1.02 > imbalance(planned(units, 8), 24, 8)


def test_micro_batches_do_not_depend_on_the_ranks() -> None:
    units = recorded(500)
    two_ranks, one_rank = planned(units, 2 * 1), planned(units, 1 * 2)
    for number in (0, 1, 9, 20):
        assert two_ranks.step(number) == one_rank.step(number)


def test_every_row_comes_before_any_comes_again_and_none_is_lost() -> None:
    units = recorded(300)
    plan = planned(units, 2)
    counts: Counter[int] = Counter()
    for number in range(10 * plan.window):
        counts.update(unit.rows[0] for b in plan.step(number) for row in b for unit in row)
    assert len(counts) == 300
    assert plan.drawn > 4 * 300
    assert max(counts.values()) - min(counts.values()) <= 3  # a window shows each about twice


@pytest.mark.parametrize("step", [0, 7, 8, 30])
def test_plan_goes_on_from_its_state(step: int) -> None:
    units = recorded(500)
    plan = planned(units, 4)
    wanted = [plan.step(number) for number in range(step, step + 20)]
    first = planned(units, 4)
    first.step(step)
    state = json.loads(json.dumps(first.state()))
    again = planned(units, 4)
    again.restore(state)
    assert [again.step(number) for number in range(step, step + 20)] == wanted
    fresh = planned(units, 4)
    assert fresh.step(step) == wanted[0]
    assert fresh.step(0) == plan.step(0)  # back again


def test_steps_are_not_sorted_by_their_cost() -> None:
    plan = planned(recorded(2000), 2)
    costs = [sum(map(cost_of, plan.step(number))) for number in range(32)]
    assert costs != sorted(costs)
    assert costs != sorted(costs, reverse=True)


def size(tokens: int, group: str = "", prefix: int = 0, patches: int = 0) -> Size:
    return Size(tokens, 5, 1.0, {"image": patches} if patches else {}, prefix, group)


@pytest.fixture
def measured(write_rows: Callable[..., object], said: Callable[..., object]) -> Measured:
    from ming_recipes.training.files import open_rows

    rows = open_rows(write_rows([said("?")] * 7))  # type: ignore[arg-type]
    sizes = [
        size(50, "a", 30, 100),
        size(20),
        None,
        size(45, "a", 30, 100),
        size(60, "b", 30, 200),
        size(48, "a", 30, 140),
        size(500),
    ]
    return Measured(rows, sizes)


def test_rows_about_the_same_media_are_a_unit(measured: Measured) -> None:
    units = units_of(measured, 3, 128, {"image": 0.5})
    assert [unit.rows for unit in units] == [(0, 3, 5), (1,), (4,)]
    shared = units[0]
    assert shared.tokens == 50 + 15 + 18
    assert shared.cost == shared.tokens + 0.5 * (100 + 40)  # the picture that they share is once
    assert shared.weight == 15
    assert {unit.dataset for unit in units} == {3}
    assert units[2].cost == 60 + 100


def test_unit_that_would_be_too_long_is_split(measured: Measured) -> None:
    units = units_of(measured, 0, 70, {"image": 0.5})
    assert [unit.rows for unit in units] == [(0, 3), (5,), (1,), (4,)]
    assert units[0].tokens == 65
    assert all(unit.tokens <= 70 for unit in units)


def test_micro_batches_have_the_rows_that_were_asked() -> None:
    batches: list[MicroBatch] = planned(recorded(500), 3, rows=4).step(5)
    assert [len(batch) for batch in batches] == [4, 4, 4]
