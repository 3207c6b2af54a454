"""Everything this package adds to the toolkit, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ming_core import hookimpl
from ming_core.plugins.registry import Registrar

if TYPE_CHECKING:
    import typer

    from ming_core.doctor import Finding


@hookimpl
def ming_register_encoders(register: Registrar) -> None:
    register(
        "qwen2_5_vit",
        "ming_vision.encoder:QwenVisionEncoder",
        modality="image",
        section="vision_config",
        summary="images at native resolution (Lite 1.0, Lite 1.5, Uni, nano)",
    )
    register(
        "qwen3_moe_vit",
        "ming_vision.encoder:Qwen3VisionEncoder",
        modality="image",
        section="vision_config",
        summary="images at native resolution (Flash 2.0)",
    )
    register(
        "navit",
        "ming_vision.navit:NavitEncoder",
        modality="image",
        section="vision_config",
        summary="images at native resolution, to train from scratch (needs timm)",
    )
    register(
        "timm",
        "ming_vision.timm_encoder:TimmEncoder",
        modality="image",
        section="vision_config",
        summary="any timm backbone by name, as timm:resnet18 (needs timm)",
    )


@hookimpl
def ming_register_options(register: Registrar) -> None:
    register("VideoSampling", "ming_vision.options:VideoSampling", summary="frames of a video")


@hookimpl
def ming_register_presets(register: Registrar) -> None:
    register("nano", "ming_vision:presets/nano", part="vision", summary="sees 64 x 64 scenes")


@hookimpl
def ming_register_tasks(register: Registrar) -> None:
    for name, takes, gives, summary in (
        ("describe", ("image", "video"), "text", "say what a picture or a video shows"),
        ("read", ("image",), "text", "read text, markdown or tables from a picture"),
        ("ground", ("image",), "boxes", "find what words name in a picture"),
        ("click", ("image",), "action", "say where to click in a screenshot"),
    ):
        register(
            name, f"ming_vision.tasks:{name.title()}", takes=takes, gives=gives, summary=summary
        )
    summary = "answer questions about a stream of frames while it comes"
    register("watch", "ming_vision.watch:watch", takes=("video",), gives="text", summary=summary)


@hookimpl
def ming_register_commands(app: typer.Typer) -> None:
    from ming_vision import cli, watch_cli

    for command in (cli.describe, cli.read, cli.ground, cli.click, watch_cli.watch):
        app.command()(command)


@hookimpl
def ming_doctor() -> list[Finding]:
    from importlib.metadata import version

    from ming_core.doctor import Finding

    found = version("av")
    if int(found.partition(".")[0]) >= 17:
        return [Finding("video", True, f"PyAV {found}")]
    detail = f"PyAV {found} gives videos in HD wrong colours; update it to 17 or later (av>=17)"
    return [Finding("video", False, detail)]
