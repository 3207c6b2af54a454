"""`ming eval`: run a benchmark, score its predictions, list what there is."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    QuietOption,
    entry_rows,
    load_model,
    plain_app,
)
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import note, print_json, said_notes, say, styled
from ming_core.errors import BadConfig, UnknownName
from ming_core.text import valid

if TYPE_CHECKING:
    from ming_core.evaluation import Benchmark, Row, RunSettings, Score, Track

FOLDER = "eval"
"""Where files of predictions go unless the user says otherwise."""


class EvalGroup(TyperGroup):
    """Tells who types the name of a benchmark at once what to type."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            from ming_core.plugins import get_plugins

            if name in get_plugins().benchmarks:
                raise BadConfig(f"write `ming eval run {name}` to score a model on {name}")
            raise UnknownName("command of ming eval", name, self.commands)
        return super().resolve_command(ctx, args)


app = plain_app(cls=EvalGroup, no_args_is_help=True)
app.info.help = """Score models on benchmarks.

Example: ming eval run asr --data LibriSpeech/test-clean --limit 100
"""

JudgeOption = Annotated[
    list[str] | None, typer.Option("--judge", help="Who judges the predictions; may be repeated.")
]


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="Name of a benchmark, see `ming eval list`.")],
    options: Annotated[
        list[str] | None, typer.Argument(help="Its options as key=value, e.g. context=fine.")
    ] = None,
    model: ModelOption = "nano",
    data: Annotated[
        Path | None, typer.Option(help="The data, for a benchmark without data of its own.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Highest number of samples, e.g. pictures or recordings."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File of the predictions.  [default: in eval/]"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Replace the predictions that are there.")
    ] = False,
    judge: JudgeOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask a model all samples of a benchmark, and print the scores.

    Each prediction is written into a file at once. If the run is stopped, the same command goes on.
    Example: ming eval run asr --data LibriSpeech/test-clean --limit 100
    """
    from ming_core.evaluation.lines import read_lines
    from ming_core.evaluation.predictions import KIND
    from ming_core.evaluation.registered import (
        benchmark_entry,
        check_data,
        check_judge,
        open_benchmark,
        options_of,
    )

    entry = benchmark_entry(name)
    chosen = options_of(entry, options or ())
    benchmark = open_benchmark(entry, chosen)
    check_data(entry, data)
    for one in judge or ():
        check_judge(entry, benchmark, one)
    file = _file(out, name, model, data, chosen, limit)
    if file.exists():
        read_lines(file, KIND)
    omni = load_model(model, device, dtype, quiet)
    from ming_core.evaluation.running import predict, run_settings

    start = time.perf_counter()
    settings = run_settings(omni, name, chosen, data, limit)
    track = bars(quiet)
    with said_notes() as notes:
        try:
            rows = predict(omni, benchmark, settings, file, again=again, track=track)
        except (KeyboardInterrupt, SystemExit):
            if file.exists():
                say(f"the predictions so far are in {file}; the same command goes on")
            raise
        note(f"wrote {file} in {time.perf_counter() - start:.1f} s", quiet)
        run_of = _Run(benchmark, settings, file, data, rows)
        _tell(run_of, judge or (), as_json, quiet, notes)


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="Predictions that `ming eval run` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="Where the data lie now, for a judge that needs them.")
    ] = None,
    judge: JudgeOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score predictions again, without the model.

    Example: ming eval score eval/asr-nano.jsonl
    """
    from ming_core.evaluation.predictions import read_predictions
    from ming_core.evaluation.registered import benchmark_entry, check_judge, open_benchmark

    with said_notes() as notes:
        stored = read_predictions(file)
        settings = stored.settings
        entry = benchmark_entry(settings.benchmark)
        benchmark = open_benchmark(entry, settings.options)
        for one in judge or ():
            check_judge(entry, benchmark, one)
        if not stored.complete:
            count = len(stored.rows)
            notes.append(f"the run of {file} has not ended; its {count} predictions are scored")
        if data is None and settings.data is not None:
            data = Path(settings.data)
        run_of = _Run(benchmark, settings, file, data, stored.rows)
        _tell(run_of, judge or (), as_json, quiet, notes)


@app.command(name="list")
def list_benchmarks(as_json: JsonOption = False) -> None:
    """List the benchmarks of the installed packages.

    Example: ming eval list
    """
    from ming_core.plugins import get_plugins

    found = entry_rows(get_plugins().benchmarks)
    if as_json:
        print_json({"benchmarks": found})
        return
    print_table([list(row.values()) for row in found] or [["no benchmarks are installed"]])


def _file(
    out: Path | None,
    name: str,
    model: str,
    data: Path | None,
    options: Mapping[str, str],
    limit: int | None,
) -> Path:
    """Where the predictions go. The same command finds them again, and another does not."""
    words = [name, Path(model).name]
    words += [] if data is None else [data.resolve().name]
    words += [f"{key}={value}" for key, value in sorted(options.items())]
    words += [] if limit is None else [f"limit={limit}"]
    default = "".join(c if c.isalnum() or c in "-=._" else "_" for c in "-".join(words)) + ".jsonl"
    if out is None:
        return Path(FOLDER, default)
    return out / default if out.is_dir() else out


@dataclass(frozen=True)
class _Run:
    """What is scored. data: where the data lie, if that is known."""

    benchmark: Benchmark
    settings: RunSettings
    file: Path
    data: Path | None
    rows: Sequence[Row]


def _tell(
    run: _Run, judges: Sequence[str], as_json: bool, quiet: bool, notes: Sequence[str]
) -> None:
    """Judge and score predictions, and print the scores."""
    from ming_core.evaluation.scoring import judge_rows, score_rows

    rows = run.rows
    for judge in judges:
        rows = judge_rows(run.benchmark, judge, rows, run.file, run.data, bars(quiet))
    scores = score_rows(run.benchmark, rows)
    if not as_json:
        _print_scores(scores)
        return
    told = {"notes": list(notes)} if notes else {}
    print_json(
        {
            "task": "eval",
            "benchmark": run.settings.benchmark,
            "model": run.settings.model,
            "predictions": valid(str(run.file)),
            "samples": len(rows),
            "errors": [
                {"column": row.column, "id": row.id, "error": row.error}
                for row in rows
                if row.error is not None
            ],
            "scores": [score.to_dict() for score in scores],
            **told,
        }
    )


def bars(quiet: bool) -> Track:
    """Bars on stderr for a person who watches."""
    if quiet or not styled(sys.stderr):
        from ming_core.evaluation.running import untracked

        return untracked
    from rich.console import Console
    from rich.progress import track

    return partial(track, console=Console(stderr=True), transient=True)


def _print_scores(scores: Sequence[Score]) -> None:
    """A table with the columns and rows of the scores; what a column lacks stays blank."""
    from ming_core.evaluation.benchmark import SHARE, shown_number

    cells: dict[str, dict[str, str]] = {}
    for score in scores:
        cells.setdefault(score.column, {})[score.name] = _cell(score)
    for score in scores:
        for model, value in score.published.items():
            published = cells.setdefault(f"{model} (published)", {})
            published[score.name] = shown_number(value, score.unit)
    rows = list(dict.fromkeys(score.name for score in scores))
    unit = "%" if all(score.unit == SHARE for score in scores) else ""
    table = [[unit, *cells]]
    table += [[row, *(column.get(row, "") for column in cells.values())] for row in rows]
    print_table(table)


def _cell(score: Score) -> str:
    """The value with half of its interval: `64.0 ±5.1`."""
    from ming_core.evaluation.benchmark import shown_number

    value = shown_number(score.value, score.unit)
    if score.interval is None:
        return value
    low, high = score.interval
    return f"{value} ±{shown_number((high - low) / 2, score.unit)}"
