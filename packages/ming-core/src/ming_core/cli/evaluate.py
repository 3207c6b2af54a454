"""`ming eval`: the scores of a model in one of the registered benchmarks."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    QuietOption,
    entry_rows,
    load_model,
)
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import note, print_json, styled
from ming_core.errors import BadConfig

if TYPE_CHECKING:
    from ming_core.benchmarks import Track


def evaluate(
    name: Annotated[
        str | None, typer.Argument(help="Name of a benchmark; without it, all are listed.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Argument(help="Its options as key=value, e.g. context=fine.")
    ] = None,
    model: ModelOption = "nano",
    data: Annotated[
        Path | None, typer.Option(help="The data, for a benchmark without data of its own.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Highest number of items, e.g. pictures or recordings."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a model.

    Prints percentages. Example: ming eval asr --data LibriSpeech/test-clean --limit 100
    """
    if name is None:
        if data is not None or limit is not None:
            raise BadConfig(
                "--data and --limit are about a benchmark; name one, as in ming eval asr"
            )
        _list(as_json)
        return
    from ming_core.benchmarks import benchmark_entry, check_data, options_of

    entry = benchmark_entry(name)
    chosen = options_of(entry, options or ())
    check_data(entry, data)
    omni = load_model(model, device, dtype, quiet)
    start = time.perf_counter()
    result = entry.load()(omni, data, limit, _track(quiet), **chosen)
    note(f"scored in {time.perf_counter() - start:.1f} s", quiet)
    if as_json:
        print_json({"task": "eval", "benchmark": name, "model": model, **result})
    else:
        _print_scores(result["scores"])


def _list(as_json: bool) -> None:
    from ming_core.plugins import get_plugins

    found = entry_rows(get_plugins().benchmarks)
    if as_json:
        print_json({"benchmarks": found})
        return
    print_table([list(row.values()) for row in found] or [["no benchmarks are installed"]])


def _track(quiet: bool) -> Track:
    """Bars on stderr for a person who watches."""
    if quiet or not styled(sys.stderr):
        from ming_core.benchmarks import untracked

        return untracked
    from rich.console import Console
    from rich.progress import track

    return partial(track, console=Console(stderr=True), transient=True)


def _print_scores(scores: Mapping[str, Mapping[str, float]]) -> None:
    """{column: {row: fraction}} as percentages; what a column lacks stays blank."""
    rows = list(dict.fromkeys(row for column in scores.values() for row in column))
    table = [["%", *scores]]
    for row in rows:
        cells = [column.get(row) for column in scores.values()]
        table.append([row, *("" if cell is None else f"{100 * cell:.1f}" for cell in cells)])
    print_table(table)
