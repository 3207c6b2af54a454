"""`ming compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ming_core.cli.common import DeviceOption, DtypeOption, JsonOption, QuietOption
from ming_core.cli.evaluate import bars
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import note, print_json, said_notes, show
from ming_core.errors import BadConfig, UnknownName

if TYPE_CHECKING:
    from ming_core.evaluation.comparing import Comparison, Probe


def compare(
    before: Annotated[str, typer.Argument(help="The first model, for example the base.")],
    after: Annotated[
        str, typer.Argument(help="The second: a model, an adapter, or the folder of a run.")
    ],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A benchmark; may be repeated.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Rows of your own that were not trained on.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Highest number of samples of each benchmark.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the results.  [default: in compare/]"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Replace the predictions that are there.")
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask two models the same, and show what became better or worse.

    Asks every installed benchmark that has a small set of samples. Writes a table, a page
    (index.html) and all predictions.

    Example: ming compare nano runs/understanding --rows held-out.jsonl
    """
    chosen = _chosen(only, rows, limit)
    from ming_core.evaluation.comparing import ask
    from ming_core.evaluation.comparing import compare as compare_predictions
    from ming_core.output import write_file
    from ming_core.text import json_text
    from ming_recipes.compare.opening import open_model, short_name
    from ming_recipes.compare.page import page, summary

    names = short_name(before), short_name(after)
    folder = out or Path("compare", "-".join(names))
    asked = []
    with said_notes() as notes:
        for part, name in (("before", before), ("after", after)):
            model = open_model(name, before, device, dtype, quiet)
            asked.append(ask(model, chosen, folder / part, bars(quiet), again=again))
            del model
        comparison = compare_predictions(chosen, *asked)
        write_file(folder / "compare.json", json_text(comparison.to_dict()) + "\n")
        write_file(folder / "index.html", page(comparison, *names))
        if as_json:
            told = {"notes": list(notes)} if notes else {}
            answer = {"task": "compare", "before": before, "after": after, "folder": str(folder)}
            print_json(answer | comparison.to_dict() | told)
        else:
            print_changes(comparison)
            show(f"\n{summary(comparison)}")
        note(f"wrote {folder / 'index.html'}", quiet)


def _chosen(only: list[str] | None, rows: Path | None, limit: int | None) -> list[Probe]:
    """Raises UnknownName or BadConfig."""
    from dataclasses import replace

    from ming_core.evaluation.comparing import Probe, probes

    known = {probe.name: probe for probe in probes()}
    for name in only or ():
        if name not in known:
            raise UnknownName("benchmark with a small set of samples", name, known)
    found = [known[name] for name in only] if only else list(known.values())
    if rows is not None:
        if not rows.exists():
            raise BadConfig(f"--rows {str(rows)!r} does not exist; check the path")
        found = [Probe("rows", rows, title="your rows"), *found]
    return [replace(probe, limit=limit) if limit else probe for probe in found]


def print_changes(comparison: Comparison) -> None:
    """The table of a comparison."""
    from ming_core.evaluation.benchmark import shown_number

    table = [("benchmark", "part", "score", "n", "before", "after", "difference", "")]
    for change in comparison.changes:
        score, unit = change.before, change.before.unit
        sure = ""
        if change.interval is not None:
            low, high = (shown_number(end, unit, sign=True) for end in change.interval)
            sure = f" ({low} to {high})"
        table.append(
            (
                change.benchmark,
                score.column,
                score.name,
                str(score.n),
                shown_number(score.value, unit),
                shown_number(change.after.value, unit),
                shown_number(change.difference, unit, sign=True) + sure,
                "" if change.verdict == "not decided" else change.verdict,
            )
        )
    print_table(table)
    for name, why in comparison.skipped.items():
        show(f"left out: {name}: {why}")
