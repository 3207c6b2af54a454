"""Everything the core adds, through the same hooks that any plugin uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ming_core.modalities import KINDS
from ming_core.plugins.hooks import hookimpl

if TYPE_CHECKING:
    import typer

    from ming_core.doctor import Finding
    from ming_core.plugins.registry import Registrar


@hookimpl
def ming_register_tasks(register: Registrar) -> None:
    takes = ("text", *KINDS)
    summary = "answer a question about text and media"
    register("ask", "ming_core.tasks.ask:Ask", takes=takes, gives="text", summary=summary)
    summary = "answer the last turn of a conversation"
    register("chat", "ming_core.api:OmniModel.chat", takes=takes, gives="text", summary=summary)


@hookimpl
def ming_register_presets(register: Registrar) -> None:
    summary = "small trained model of the shapes world, ships with the packages"
    register("nano", "ming_core:presets/nano", part="backbone", summary=summary)
    for name, hub_id, summary in (
        ("ming-lite-omni-1.0", "inclusionAI/Ming-Lite-Omni", "Lite 1.0, 19 B, 3 B active"),
        ("ming-lite-omni-1.5", "inclusionAI/Ming-Lite-Omni-1.5", "Lite 1.5, 20 B, 3 B active"),
        ("ming-flash-omni", "inclusionAI/Ming-flash-omni-2.0", "Flash 2.0, 100 B, 6 B active"),
    ):
        register(name, f"hub:{hub_id}", part="checkpoint", summary=summary)


@hookimpl
def ming_register_releases(register: Registrar) -> None:
    for name, target, summary in (
        ("lite-1.0", "lite:LITE_1_0", "'bailing_moe' without rope_scaling"),
        ("lite-1.5", "lite:LITE_1_5", "'bailing_moe' with rope_scaling '3D'"),
        ("flash", "flash:FLASH", "'bailing_moe_v2' with rope_scaling 'video_rope'"),
        ("nano", "nano:NANO", "as flash, of a small model that says what it knows"),
    ):
        register(name, f"ming_core.releases.{target}", summary=summary)


@hookimpl
def ming_register_commands(app: typer.Typer) -> None:
    from ming_core.cli import ask, chat, demo, doctor, evaluate, models, plugins
    from ming_core.cli.reading import reading_options

    app.command()(reading_options(ask.ask))
    for module in (chat, demo, doctor, models, plugins):
        app.command()(getattr(module, module.__name__.rpartition(".")[2]))
    app.add_typer(evaluate.app, name="eval")


@hookimpl
def ming_doctor() -> list[Finding]:
    from ming_core.doctor import core_findings

    return core_findings()
