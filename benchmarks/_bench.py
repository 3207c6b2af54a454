"""What the benchmarks share: their options, timing in turns, a table, JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes; `description` is the script's docstring."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    return parser


def fastest(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Shortest time of each call in seconds.

    They run in turns for `seconds` in all (three turns at least): what else the machine does hits
    all of them alike, and the shortest time is the one it disturbed least.
    """
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    end, turns = time.perf_counter() + seconds, 0
    while turns < 3 or time.perf_counter() < end:
        turns += 1
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def finish(rows: Sequence[Row], claims: Mapping[str, bool], path: Path | None) -> int:
    """Print rows and claims, write them to `path`; the exit code says whether the claims held."""
    print(table(rows))
    for claim, kept in claims.items():
        print(f"{claim}: {'yes' if kept else 'NO'}")
    if path:
        report = {"machine": machine(), "claims": dict(claims), "rows": list(rows)}
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(claims.values()) else 1


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
    """Where the numbers come from. load: runnable processes of the last minute, ours included."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
