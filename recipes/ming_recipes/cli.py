"""`ming train`, `ming recipes ls | show | cp | validate`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ming_core.cli import CommandGroup
from ming_core.cli.common import JsonOption, entry_rows, plain_app
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import print_json, show
from ming_core.errors import BadConfig

if TYPE_CHECKING:
    from ming_recipes.training.recipe import Source

RecipeArgument = Annotated[
    str, typer.Argument(help="Name of a recipe (see `ming recipes`), or the folder of your own.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings as key=value, e.g. steps=100 lora.rank=8.")
]


def train(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            help="A YAML file of the recipe instead of its usual one, or your own over it; may be "
            "repeated."
        ),
    ] = None,
) -> None:
    """Run a training recipe, or resume an interrupted run.

    Ctrl-C and SIGTERM stop it after the step with its state saved, a second one at once.

    Example: ming train understanding data=rows.jsonl out=runs/mine
    """
    from ming_recipes.training.runs.stopping import answering_signals

    with answering_signals():  # from here on: a recipe takes a while to load
        from ming_recipes.training.recipe import find_recipe, settings

        source = find_recipe(recipe)
        loaded = source.load()
        chosen = settings(loaded, source.layers(config or []), overrides or [])
        words = ["ming", "train", recipe, *(overrides or [])]
        for file in config or []:
            words += ["--config", str(file)]
        loaded.train(chosen, shlex.join(words))


def export(
    adapter: Annotated[
        Path, typer.Option(help="Folder of an adapter, or of the run that trained it.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; it must be new.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model it was trained for.  [default: as it says]"),
    ] = None,
) -> None:
    """Merge an adapter of LoRA into its model, and write that as a model of its own.

    Example: ming export --adapter runs/mine/adapter -m nano -o runs/mine/model
    """
    from ming_recipes.training.merging import export as merged
    from ming_recipes.training.merging import read_adapter

    merged(model or read_adapter(adapter).base, adapter, out)
    show(f"{out}: ask it with `ming ask -m {shlex.quote(str(out))}`")


recipes = plain_app(cls=CommandGroup)
recipes.info.help = """List, show, copy and check training recipes; alone, it lists them.

Example: ming recipes
"""


@recipes.callback(invoke_without_command=True)
def _alone(context: typer.Context, as_json: JsonOption = False) -> None:
    if context.invoked_subcommand is None:
        ls(as_json)


@recipes.command()
def ls(as_json: JsonOption = False) -> None:
    """List the training recipes of the installed packages.

    Example: ming recipes ls
    """
    from ming_core.plugins import get_plugins

    found = entry_rows(get_plugins().recipes)
    if as_json:
        print_json(found)
        return
    print_table([list(row.values()) for row in found] or [["no recipes are installed"]])


@recipes.command(name="show")
def show_recipe(recipe: RecipeArgument, as_json: JsonOption = False) -> None:
    """Show the YAML files of a recipe: what each trains, with which command, on which hardware.

    Example: ming recipes show asr
    """
    from ming_recipes.training.recipe import find_recipe

    source = find_recipe(recipe)
    heads = {file.name: head(file) for file in source.files}
    if as_json:
        print_json(
            {
                "name": source.name,
                "summary": source.summary,
                "code": str(source.code),
                "settings": heads,
            }
        )
        return
    show("\n".join([f"{source.name}: {source.summary}", f"code: {source.code}"]))
    for name, text in heads.items():
        show("\n".join(["", name, *(f"  {line}".rstrip() for line in text.splitlines())]))


@recipes.command()
def cp(
    recipe: RecipeArgument,
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must be new or empty.")],
) -> None:
    """Copy a recipe to a folder, where it is yours to edit: `ming train FOLDER` runs it.

    Example: ming recipes cp understanding my-recipe
    """
    from ming_recipes.training.recipe import copy_recipe, find_recipe

    copied = copy_recipe(find_recipe(recipe), folder)
    show("\n".join(str(file) for file in copied))


@recipes.command()
def validate(
    file: Annotated[Path, typer.Argument(help="YAML file of settings.")],
    overrides: Overrides = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Its recipe, if the file does not lie in the folder of one."),
    ] = None,
) -> None:
    """Check a file of settings without training anything; all mistakes are told at once.

    Example: ming recipes validate my-recipe/nano.yaml
    """
    from ming_recipes.training.recipe import find_recipe, settings

    source = find_recipe(recipe) if recipe else _beside(file)
    settings(source.load(), source.layers([file]), overrides or [])
    show(f"{file} is valid for the recipe {source.name}")


def _beside(file: Path) -> Source:
    """The recipe in whose folder a file lies. Raises BadConfig if there is none."""
    from ming_core.plugins import get_plugins
    from ming_recipes.training.recipe import find_recipe

    here = file.resolve().parent
    if not file.is_file():
        raise BadConfig(f"there is no file {file}; give a YAML file of settings")
    for entry in get_plugins().recipes:
        source = find_recipe(entry.name)
        if source.settings.resolve().parent == here:
            return source
    if (here / "recipe.py").is_file():
        return find_recipe(str(here))
    raise BadConfig(f"{file} lies in no folder of a recipe; name its recipe with --recipe NAME")


def head(file: Path) -> str:
    """The comment at the beginning of a YAML file, without its number signs."""
    lines = []
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines)
