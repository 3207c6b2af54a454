"""What the speed scripts share: their options, measuring in turns, verdicts, a table, JSON.

A machine that does other work is slower now and then, for a moment or for minutes. So the calls
that are compared take turns, each turn gives one ratio, and what is said of a claim is said by an
interval that holds the median ratio in 95 of 100 cases, whatever the noise looks like.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

Row = Mapping[str, Any]

LEAST = 6
"""Turns at least: of fewer, no interval holds the median in 95 of 100 cases."""


class Verdict(StrEnum):
    """What one run can say about a claim."""

    YES = "yes"
    NO = "no"
    OPEN = "not decided here"


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, and the interval that holds it in 95 of 100 cases."""

    median: float
    low: float
    high: float
    turns: int

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> Ratio:
        """above / below, turn by turn; both have one measurement for each turn."""
        ratios = sorted(a / b for a, b in zip(above, below, strict=True))
        rank = _rank(len(ratios))
        low, high = (ratios[rank], ratios[-1 - rank]) if rank >= 0 else (0.0, math.inf)
        return cls(median(ratios), low, high, len(ratios))

    @classmethod
    def to(cls, bound: float, values: Sequence[float]) -> Ratio:
        """Values as parts of a number that does not change."""
        return cls.of(values, [bound] * len(values))

    def at_least(self, bound: float) -> Verdict:
        """Whether the true ratio reaches a bound."""
        if self.low >= bound:
            return Verdict.YES
        return Verdict.NO if self.high < bound else Verdict.OPEN

    def at_most(self, bound: float) -> Verdict:
        """Whether the true ratio stays below a bound or on it."""
        if self.high <= bound:
            return Verdict.YES
        return Verdict.NO if self.low > bound else Verdict.OPEN

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def _rank(turns: int) -> int:
    """How many of the sorted values can be left out on either side: the sign test; -1 for none.

    The median lies outside of what remains with a chance of at most 5 in 100, for any distribution.
    """
    outside, rank = 0.0, -1
    while rank + 1 < turns:
        outside += 2 * math.comb(turns, rank + 1) / 2**turns
        if outside > 0.05:
            return rank
        rank += 1
    return rank


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a claim with several cases: one that is false makes it false."""
    found = set(verdicts)
    for verdict in (Verdict.NO, Verdict.OPEN):
        if verdict in found:
            return verdict
    return Verdict.YES


def take_turns(
    measures: Mapping[str, Callable[[], float]], seconds: float
) -> dict[str, list[float]]:
    """What each measure gave in each turn, as A B, B A, A B and so on.

    They take turns for `seconds` in all, and 6 times at least.
    """
    found: dict[str, list[float]] = {name: [] for name in measures}
    end, turn = time.perf_counter() + seconds, 0
    while turn < LEAST or time.perf_counter() < end:
        order = list(measures.items())
        for name, measure in reversed(order) if turn % 2 else order:
            found[name].append(measure())
        turn += 1
    return found


def in_turns(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """How many seconds each call took in each turn; each runs once before the first turn."""
    for call in calls.values():
        call()
    return take_turns({name: partial(timed, call) for name, call in calls.items()}, seconds)


def timed(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def closest(times: Mapping[str, Sequence[float]], ours: str = "ours") -> Ratio:
    """The ratio of the other call that comes closest to ours, or is faster.

    The shortest time of each turn would not do: of several noisy times it is always a lucky one.
    """
    others = [Ratio.of(took, times[ours]) for name, took in times.items() if name != ours]
    return min(others, key=lambda ratio: ratio.median)


def middle(times: Sequence[float]) -> float:
    """The median of some seconds, in milliseconds."""
    return 1e3 * median(times)


def options(description: str | None, seconds: float | None = None) -> argparse.ArgumentParser:
    """A parser with what every script takes; `description` is the script's docstring.

    seconds: the default of --seconds, for scripts that measure as long as they are told.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    if seconds is not None:
        parser.add_argument(
            "--seconds",
            type=float,
            default=seconds,
            help=f"how long each case is measured ({seconds:g}); more decides closer ratios",
        )
    return parser


def finish(rows: Sequence[Row], claims: Mapping[str, Verdict | bool], path: Path | None) -> int:
    """Print where it ran, rows and claims, and write them to `path`.

    A claim about something that is not measured but counted may be given as true or false.

    The exit code is 1 if a claim is false; a claim that this machine cannot decide is no failure.
    """
    verdicts = {words: _verdict(found) for words, found in claims.items()}
    here = machine()
    print(", ".join(f"{name} {value}" for name, value in here.items()))
    print(table(rows))
    for claim, verdict in verdicts.items():
        print(f"{claim}: {verdict.upper() if verdict == 'no' else verdict}")
    if path:
        plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
        report = {"machine": here, "claims": verdicts, "rows": plain}
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if Verdict.NO in verdicts.values() else 0


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned columns under the keys of the first one."""
    lines = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        )
        for line in lines
    )


def machine() -> dict[str, Any]:
    """Where the numbers come from.

    load: runnable processes of the last minute, ours included, at the start and now.
    """
    import torch

    here = {
        "CPU": _processor(),
        "cores": os.cpu_count(),
        "load": f"{_STARTED} to {_load()}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }
    if torch.cuda.is_available():
        here["GPU"] = torch.cuda.get_device_name()
    return here


def _load() -> float:
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else math.nan


_STARTED = _load()


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _verdict(found: Verdict | bool) -> Verdict:
    if isinstance(found, Verdict):
        return found
    return Verdict.YES if found else Verdict.NO


def _plain(value: object) -> object:
    return vars(value) if isinstance(value, Ratio) else value


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
