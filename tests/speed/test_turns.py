"""The verdicts of the speed scripts: right for noisy timings, and undecided rather than wrong."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def turns(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_turns", repository / "speed/_turns.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def busy(draw: random.Random, turns: int) -> list[float]:
    """How much slower a machine is in each turn: waves, and now and then a stall."""
    wave = [1 + 0.4 * math.sin(turn / 7) ** 2 for turn in range(turns)]
    return [slow * (5 if draw.random() < 0.1 else 1) for slow in wave]


def noisy(draw: random.Random, factor: float, turns: int = 40) -> tuple[list[float], list[float]]:
    """Times of two calls of which the first takes `factor` times as long."""
    both = [
        (factor * load * draw.lognormvariate(0, 0.1), load * draw.lognormvariate(0, 0.1))
        for load in busy(draw, turns)
    ]
    return [first for first, _ in both], [second for _, second in both]


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(2.0, "yes"), (1.5, "yes"), (1.1, "no"), (0.7, "no"), (1.3, "not decided here")],
)
def test_a_noisy_machine_says_what_is_true_or_nothing(
    turns: ModuleType, factor: float, verdict: str
) -> None:
    said = [
        turns.Ratio.of(*noisy(random.Random(seed), factor)).at_least(1.3) for seed in range(100)
    ]
    assert said.count(verdict) >= 90
    if factor != 1.3:  # never the contrary of what is true
        assert set(said) <= {verdict, "not decided here"}


def test_at_most_mirrors_at_least(turns: ModuleType) -> None:
    ratio = turns.Ratio(median=0.5, low=0.4, high=0.6, turns=20)
    assert [ratio.at_most(bound) for bound in (0.7, 0.6, 0.5, 0.3)] == [
        "yes",
        "yes",
        "not decided here",
        "no",
    ]
    assert [ratio.at_least(bound) for bound in (0.7, 0.5, 0.4, 0.3)] == [
        "no",
        "not decided here",
        "yes",
        "yes",
    ]
    assert str(ratio) == "0.50 (0.40 to 0.60)"


def test_the_interval_holds_the_median_in_95_of_100_runs(turns: ModuleType) -> None:
    for count in (6, 9, 25):
        held = 0
        for seed in range(300):
            ratio = turns.Ratio.of(*noisy(random.Random(seed), 1.3, count))
            held += ratio.low <= 1.3 <= ratio.high
        assert held >= 0.93 * 300


def test_too_few_turns_decide_nothing(turns: ModuleType) -> None:
    five = turns.Ratio.of([9.0] * 5, [1.0] * 5)
    assert (five.median, five.at_least(1), five.at_most(100)) == (9.0, *["not decided here"] * 2)
    assert turns.Ratio.of([9.0] * 6, [1.0] * 6).at_least(1) == "yes"


def test_calls_take_turns_in_both_orders(turns: ModuleType) -> None:
    said: list[str] = []
    calls: dict[str, Callable[[], None]] = {
        "a": lambda: said.append("a"),
        "b": lambda: said.append("b"),
    }
    times = turns.in_turns(calls, 0)
    assert "".join(said) == "ab" + "abba" * 3
    assert {name: len(took) for name, took in times.items()} == {"a": 6, "b": 6}


def test_the_best_of_equals_is_no_better_than_they_are(turns: ModuleType) -> None:
    draw = random.Random(0)
    times = {name: [draw.lognormvariate(0, 0.3) for _ in range(60)] for name in "abcde"}
    ratio = turns.closest({"ours": times["e"], **times})
    assert ratio.at_least(1 / 1.05) != "no"
    slow = [3 * time for time in times["e"]]
    assert turns.closest({"ours": slow, **times}).at_least(1 / 1.05) == "no"


def test_one_false_case_makes_a_claim_false(turns: ModuleType) -> None:
    yes, no, undecided = turns.Verdict.YES, turns.Verdict.NO, turns.Verdict.OPEN
    assert turns.all_of([]) == turns.all_of([yes, yes]) == "yes"
    assert turns.all_of([yes, undecided]) == "not decided here"
    assert turns.all_of([undecided, no, yes]) == "no"


@pytest.mark.parametrize(
    ("verdict", "code"), [("YES", 0), ("OPEN", 0), ("NO", 1), (True, 0), (False, 1)]
)
def test_figures_stand_beside_their_machine(
    turns: ModuleType,
    verdict: Any,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = getattr(turns.Verdict, verdict) if isinstance(verdict, str) else verdict
    rows = [{"case": "small", "ms": 1.234, "ratio": turns.Ratio(2.0, 1.9, 2.2, 9), "other": None}]
    assert turns.finish(rows, {"twice as fast": said}, tmp_path / "found.json") == code
    lines = capsys.readouterr().out.splitlines()
    for name in ("CPU", "load", "torch", "threads"):
        assert name in lines[0]
    assert lines[2].split() == ["small", "1.23", *["2.00", "(1.90", "to", "2.20)"], "-"]
    words = {"OPEN": "not decided here", "YES": "yes", "NO": "NO", True: "yes", False: "NO"}
    assert lines[3] == f"twice as fast: {words[verdict]}"
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert found["rows"][0]["ratio"] == {"median": 2.0, "low": 1.9, "high": 2.2, "turns": 9}
    assert found["claims"] == {"twice as fast": words[verdict].lower()}
    assert {"CPU", "load", "torch"} <= found["machine"].keys()
