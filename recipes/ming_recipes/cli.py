"""`ming train`, `ming eval`, `ming recipes`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    QuietOption,
    load_model,
    print_json,
    print_table,
)

RecipeArgument = Annotated[str, typer.Argument(help="Name of a recipe, see `ming recipes`.")]


def train(
    recipe: RecipeArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, e.g. joint_steps=100.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings over the recipe's own.")
    ] = None,
) -> None:
    """Run a training recipe, or go on with an interrupted one.

    Example: ming train nano-perception out=runs/nano seed=1
    """
    from ming_recipes.recipe import recipe_entry, recipe_yaml, settings

    entry = recipe_entry(recipe)
    files = [recipe_yaml(entry), *([config] if config else [])]
    loaded = entry.load()
    chosen = settings(loaded, files, overrides or [])
    words = ["ming", "train", recipe, *(overrides or [])]
    if config is not None:
        words += ["--config", str(config)]
    loaded.train(chosen, shlex.join(words))


def evaluate(
    recipe: RecipeArgument,
    model: ModelOption = "nano",
    images: Annotated[int, typer.Option(min=1, help="Held-out images per slice.")] = 200,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a model on a recipe's held-out data.

    Example: ming eval nano-perception --images 50
    """
    from ming_recipes.recipe import recipe_entry

    loaded = recipe_entry(recipe).load()
    scores = loaded.evaluate(load_model(model, device, dtype, quiet), images)
    if as_json:
        print_json(scores)
        return
    columns = list(scores)
    names = list(dict.fromkeys(name for column in columns for name in scores[column]))
    rows = [["", *columns]]
    for name in names:
        cells = [scores[column].get(name) for column in columns]
        rows.append([name, *("" if cell is None else f"{100 * cell:.1f}" for cell in cells)])
    print_table(rows)


def recipes(as_json: JsonOption = False) -> None:
    """List the training recipes of the installed packages.

    Example: ming recipes
    """
    from ming_core.plugins import get_plugins

    found = [
        {"name": entry.name, "package": entry.plugin, "summary": entry.summary}
        for entry in get_plugins().recipes
    ]
    if as_json:
        print_json(found)
        return
    print_table([list(row.values()) for row in found] or [["no recipes are installed"]])
