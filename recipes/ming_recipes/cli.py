"""`ming train`, `ming recipes`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ming_core.cli.common import JsonOption, entry_rows
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import print_json


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, see `ming recipes`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, e.g. joint_steps=100.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings over the recipe's own.")
    ] = None,
) -> None:
    """Run a training recipe, or resume an interrupted run.

    Ctrl-C and SIGTERM stop it after the step with its state saved, a second one at once.

    Example: ming train nano-perception out=runs/nano seed=1
    """
    from ming_recipes.training.runs.stopping import answering_signals

    with answering_signals():  # from here on: a recipe takes a while to load
        from ming_recipes.training.recipe import load_recipe, recipe_entry, recipe_yaml, settings

        entry = recipe_entry(recipe)
        loaded = load_recipe(entry)
        files = [recipe_yaml(entry), *([config] if config else [])]
        chosen = settings(loaded, files, overrides or [])
        words = ["ming", "train", recipe, *(overrides or [])]
        if config is not None:
            words += ["--config", str(config)]
        loaded.train(chosen, shlex.join(words))


def recipes(as_json: JsonOption = False) -> None:
    """List the training recipes of the installed packages.

    Example: ming recipes
    """
    from ming_core.plugins import get_plugins

    found = entry_rows(get_plugins().recipes)
    if as_json:
        print_json(found)
        return
    print_table([list(row.values()) for row in found] or [["no recipes are installed"]])
