"""`ming data preview`, `ming data check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ming_core.cli import CommandGroup
from ming_core.cli.common import JsonOption, ModelOption, QuietOption, plain_app

RowsArgument = Annotated[
    str, typer.Argument(help="A file of rows, a folder with one, or a pattern like 'rows-*.tar'.")
]
MediaOption = Annotated[
    Path | None, typer.Option(help="Folder in which media are named; by default the rows' own.")
]
CapacityOption = Annotated[
    int | None,
    typer.Option(min=1, help="Most tokens of a row in the training; by default the context."),
]

data = plain_app(cls=CommandGroup, no_args_is_help=True)
data.info.help = """Look at rows of training data, and count what is wrong with them.

Example: ming data check rows.jsonl
"""


@data.command()
def preview(
    rows: RowsArgument,
    model: ModelOption = "nano",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many rows.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="An HTML page to write.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which rows are drawn.")] = 0,
    media: MediaOption = None,
    capacity: CapacityOption = None,
) -> None:
    """Show drawn rows as the model sees them: prompt, media, targets and numbers of tokens.

    Example: ming data preview rows.jsonl -n 3 -o page.html
    """
    from ming_recipes.rows.preview import show_preview

    show_preview(rows, model, number, out, seed, media, capacity)


@data.command()
def check(
    rows: RowsArgument,
    model: ModelOption = "nano",
    media: MediaOption = None,
    capacity: CapacityOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read every row and its media, and count what is wrong, with the reason and the line.

    The exit code is 1 if rows have to be left out, and 2 if none is left.

    Example: ming data check rows.jsonl
    """
    from ming_recipes.rows.checking import show_check

    show_check(rows, model, media, capacity, as_json, quiet)
