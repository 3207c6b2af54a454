"""Everything this package adds to the toolkit, on one page."""

from __future__ import annotations

from ming_core import hookimpl
from ming_core.registry import Registrar


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
def ming_register_presets(register: Registrar) -> None:
    register("nano", "ming_vision:presets/nano", part="vision", summary="sees 64 x 64 scenes")
