"""Everything the recipes add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ming_core.plugins.hooks import hookimpl

if TYPE_CHECKING:
    import typer

    from ming_core.plugins.registry import Registrar


@hookimpl
def ming_register_recipes(register: Registrar) -> None:
    register(
        "understanding",
        "ming_recipes.understanding.recipe:RECIPE",
        settings="ming_recipes:understanding/nano.yaml",
        summary="fine-tune answers about pictures, videos, sounds and texts",
    )
    register(
        "asr",
        "ming_recipes.asr.recipe:RECIPE",
        settings="ming_recipes:asr/nano.yaml",
        summary="fine-tune speech to text, with context and lists of words",
    )
    register(
        "nano-perception",
        "ming_recipes.nano.recipe:RECIPE",
        settings="ming_recipes:nano/nano.yaml",
        summary="nano: pictures, videos and speech of shapes world, trained from random weights",
    )


@hookimpl
def ming_register_benchmarks(register: Registrar) -> None:
    register(
        "nano-perception",
        "ming_recipes.nano.scores.benchmark:NanoPerception",
        probe_limit=16,
        probe_options=["only=test,compositional,video"],
        summary="scores on held-out pictures, videos and speech of shapes world",
    )
    register(
        "rows",
        "ming_recipes.compare.rows:Rows",
        data="rows as for training, which were not trained on",
        probe_data="ming_recipes:compare/probe/text.jsonl",
        summary="how many rows are answered as they say",
    )


@hookimpl
def ming_register_commands(app: typer.Typer) -> None:
    from ming_recipes import cli
    from ming_recipes.compare.cli import compare
    from ming_recipes.rows.commands import data

    # What looks like an option is read as a setting, whose mistake is told with the right form.
    app.command(context_settings={"ignore_unknown_options": True})(cli.train)
    app.command()(cli.export)
    app.add_typer(cli.recipes, name="recipes")
    app.add_typer(data, name="data")
    app.command()(compare)
