"""What is wrong with rows: counted by kind, each with its place and the reason."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from ming_core.cli.tables import print_table
from ming_core.cli.terminal import print_json, show
from ming_core.errors import BadConfig
from ming_recipes.training.examples import Parts
from ming_recipes.training.files import open_rows
from ming_recipes.training.records import BadRow
from ming_recipes.training.sizes import Measured, Progress, measure, terminal_progress

SHOWN = 5
"""Places of each kind of fault that are shown."""


@dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        measured: The rows; those that are left out are among its faults.
        broken: What is wrong with files.
    """

    measured: Measured
    broken: Sequence[BadRow]

    @property
    def left_out(self) -> list[BadRow]:
        """Faults of rows and files, in the order of the rows."""
        return [*self.broken, *(error for _, error in sorted(self.measured.faults.items()))]

    def report(self) -> dict[str, Any]:
        """All of it as values for JSON."""
        sizes = [size for size in self.measured.sizes if size is not None]
        tokens = [size.tokens for size in sizes]
        faults = [*self.left_out, *self.measured.doubled]
        return {
            "rows": len(self.measured.rows),
            "kept": len(sizes),
            "tokens": sum(tokens),
            "targets": sum(size.targets for size in sizes),
            "longest": max(tokens, default=0),
            "median": statistics.median_low(tokens) if tokens else 0,
            "counts": dict(Counter(error.fault for error in faults).most_common()),
            "faults": [
                {"fault": error.fault, "where": error.where, "reason": error.reason}
                for error in faults
            ],
            "notes": [
                {"note": sentence, "rows": count} for sentence, count in self.measured.notes.items()
            ],
        }


def check_rows(
    path: str,
    parts: Parts,
    media: Path | None = None,
    capacity: int | None = None,
    progress: Progress | None = None,
) -> Check:
    """Read every row of a data set and its media. Raises BadConfig if there are no rows at all."""
    broken: list[BadRow] = []
    try:
        rows = open_rows(path, media=media, report=broken.append)
    except BadConfig as error:
        if broken:
            raise BadConfig(f"{path} has no row that can be read: {broken[0]}") from error
        raise
    measured = measure(rows, parts, progress=progress)
    return Check(measured if capacity is None else measured.limited(capacity), broken)


def show_check(
    path: str,
    model: str,
    media: Path | None,
    capacity: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """The command. Raises Exit, and what `load` and `check_rows` raise."""
    from ming_core import load

    parts = Parts.of(load(model))
    check = check_rows(path, parts, media, capacity, None if quiet else terminal_progress())
    report = check.report()
    if as_json:
        print_json(report)
    else:
        _print(report, parts.name)
    if not report["kept"]:
        raise typer.Exit(2)
    if check.left_out:
        raise typer.Exit(1)


def _print(report: dict[str, Any], model: str) -> None:
    show(
        f"{report['kept']} of {report['rows']} rows can be trained on with {model}: "
        f"{report['tokens']} tokens, {report['targets']} of them targets; the longest row has "
        f"{report['longest']} tokens, the median row {report['median']}"
    )
    for fault, count in report["counts"].items():
        kept = " (kept)" if fault == "duplicate id" else ""
        found = [one for one in report["faults"] if one["fault"] == fault]
        show(f"\n{count} x {fault}{kept}")
        print_table([["  " + one["where"], one["reason"]] for one in found[:SHOWN]])
        if len(found) > SHOWN:
            show(f"  and {len(found) - SHOWN} more; --json lists all")
    if report["notes"]:
        show("\nnotes")
        print_table([[f"  {one['rows']} rows", one["note"]] for one in report["notes"]])
