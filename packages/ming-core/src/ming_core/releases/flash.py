"""Ming-flash-omni: a mixture of experts with grouped routers, and positions of video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ming_core.chat.formats import FLASH as CHAT
from ming_core.chat.formats import ChatFormat
from ming_core.fields import EXPERTS
from ming_core.model.config import BackboneConfig, RouterConfig
from ming_core.release import Place, Release
from ming_core.releases.backbone import (
    BACKBONE,
    GENERATOR,
    IMAGE,
    kind_of,
    read_backbone,
    rope_of,
    section_of,
)

_FIXED = {"use_qk_norm": True, "use_expert_bias": True}


def is_family(config: Mapping[str, Any]) -> bool:
    """Whether a config.json has the language model of Flash, of whatever size."""
    return kind_of(config) == ("bailing_moe_v2", "video_rope")


def read(config: Mapping[str, Any]) -> BackboneConfig:
    """The backbone of a model of this family. Raises BadConfig."""
    llm = section_of(config)
    for key, value in _FIXED.items():
        llm.fixed(key, value)
    # `norm_topk_prob` is not read by the reference: Flash always normalises. The factor 2.5 exists
    # only as its class default; the released key is a synonym of it.
    key = "routed_scaling_factor"
    if key not in llm:
        key = "moe_router_topk_scaling_factor"
    router = RouterConfig(
        kind="grouped_sigmoid",
        top_k=llm.whole("num_experts_per_tok", most=EXPERTS),
        n_group=llm.whole("n_group", most=EXPERTS),
        topk_group=llm.whole("topk_group", most=EXPERTS),
        scaling=llm.number(key, 2.5, least=1e-6, most=1e6),
    )
    share = llm.number("partial_rotary_factor", 1.0, least=0, most=100)
    return read_backbone(
        llm,
        rope=rope_of(llm, "video_rope", share),
        router=router,
        qk_norm=True,
        multi_gate=llm.text("router_type", "") == "MultiRouter",
    )


def chat(config: BackboneConfig) -> ChatFormat:
    """Each frame of a video is a block with its time, unless the model was trained without."""
    if config.use_interleaved_frame_timestamp:
        return CHAT
    return replace(CHAT, video=replace(CHAT.video, frame=None, after="\n"))


FLASH = Release(
    name="flash",
    # A small model of this family says what it knows, and is a release of its own.
    recognises=lambda config: is_family(config) and "knows" not in config,
    backbone=read,
    chat=chat,
    components=(
        BACKBONE,
        IMAGE,
        Place(
            "audio",
            section="audio_config",
            prefixes=("audio.", "linear_proj_audio."),
        ),
        Place("queries", "mlp", files=("config.json",)),
        *GENERATOR,
        Place(
            "glyphs",
            "byt5",
            files=("byt5.json", "byt5_model/byt5_model.pt", "byt5_mapper/byt5_mapper.pt"),
        ),
        Place(
            "talker",
            "talker",
            files=("config.json", "campplus.onnx", "llm/config.json", "llm/tokenizer.json"),
        ),
        Place("codec", "talker/vae", files=("config.json",)),
    ),
    # The folder of Flash 2.0 has no tokenizer but that of the talker. The preview has the same one.
    elsewhere=dict.fromkeys(
        ("tokenizer.json", "tokenizer_config.json"), "inclusionAI/Ming-flash-omni-Preview"
    ),
)
