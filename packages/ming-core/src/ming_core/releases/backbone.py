"""What the releases share: how the section `llm_config` is read, and where parts lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ming_core.fields import EXPERTS, LAYERS, MERGE, WIDTH, Section
from ming_core.model.config import BackboneConfig, RopeConfig, RopeKind, RouterConfig
from ming_core.release import Place

BACKBONE = Place(
    "backbone",
    section="llm_config",
    prefixes=("model.",),
    files=("tokenizer.json", "tokenizer_config.json"),
)
IMAGE = Place(
    "image",
    section="vision_config",
    prefixes=("vision.", "linear_proj."),
    files=("preprocessor_config.json",),
)
GENERATOR = (
    Place("connector", "connector", files=("config.json",)),
    Place("transformer", "transformer", files=("config.json",)),
    Place("vae", "vae", files=("config.json",)),
    Place("scheduler", "scheduler", files=("scheduler_config.json",)),
)
"""What draws, behind the query tokens."""

# Values that would change the mathematics and that no released model uses.
_FIXED = {
    "use_sliding_window": False,
    "norm_head": False,
    "norm_softmax": False,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}


def kind_of(config: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """`model_type` and type of `rope_scaling` of a config.json's language model, if it has one."""
    llm = config.get("llm_config")
    if not isinstance(llm, Mapping):
        return None
    scaling = llm.get("rope_scaling")
    model_type = llm.get("model_type")
    rope = scaling.get("type") if isinstance(scaling, Mapping) else scaling
    if not isinstance(model_type, str) or not isinstance(rope, str | None):
        return None
    return model_type, rope


def section_of(config: Mapping[str, Any]) -> Section:
    """The section `llm_config`, without a setting that no release uses.

    Raises BadConfig for sliding windows, tied embeddings or another activation.
    """
    llm = Section(config, "config.json").section("llm_config")
    for key, value in _FIXED.items():
        llm.fixed(key, value)
    return llm


def rope_of(llm: Section, kind: RopeKind, share: float = 1.0) -> RopeConfig:
    """Rotary positions. share: how much of the width of a head rotates."""
    return RopeConfig(
        kind=kind,
        theta=llm.number("rope_theta", least=1, most=1e15),
        rotary_dim=int(head_dim(llm) * share),
    )


def head_dim(llm: Section) -> int:
    """The width of a head; an equal share of the hidden width unless it is given."""
    width = llm.whole("hidden_size", most=WIDTH)
    heads = llm.whole("num_attention_heads", most=WIDTH)
    return llm.whole("head_dim", max(1, width // heads), most=2**16)


def read_backbone(
    llm: Section, *, rope: RopeConfig, router: RouterConfig, qk_norm: bool, multi_gate: bool
) -> BackboneConfig:
    """The configuration of a language model from its section and what its release adds.

    A null counts as absent. Raises BadConfig for a missing field, or a value of the wrong type or
    out of range.
    """
    vocabulary = llm.whole("vocab_size", most=2**24)

    def token(key: str) -> int | None:
        return llm.whole(key, least=0, most=vocabulary - 1) if key in llm else None

    pad = token("pad_token_id") or 0
    eos = token("eos_token_id")
    return BackboneConfig(
        vocab_size=vocabulary,
        hidden_size=llm.whole("hidden_size", most=WIDTH),
        intermediate_size=llm.whole("intermediate_size", most=WIDTH),
        num_hidden_layers=llm.whole("num_hidden_layers", most=LAYERS),
        num_attention_heads=llm.whole("num_attention_heads", most=WIDTH),
        num_key_value_heads=llm.whole("num_key_value_heads", most=WIDTH),
        head_dim=head_dim(llm),
        num_experts=llm.whole("num_experts", most=EXPERTS),
        num_shared_experts=llm.whole("num_shared_experts", 0, least=0, most=EXPERTS),
        moe_intermediate_size=llm.whole("moe_intermediate_size", most=WIDTH),
        first_k_dense_replace=llm.whole("first_k_dense_replace", 0, least=0, most=LAYERS),
        # Below, it would vanish in float32 and a row of zeros would become NaN.
        rms_norm_eps=llm.number("rms_norm_eps", least=1e-30, most=1),
        max_position_embeddings=llm.whole("max_position_embeddings", 32768),
        rope=rope,
        router=router,
        qk_norm=qk_norm,
        qkv_bias=llm.flag("use_qkv_bias", False),
        dense_bias=llm.flag("use_bias", False),
        multi_gate=multi_gate,
        pad_token_id=pad,
        eos_token_id=pad if eos is None else eos,
        image_patch_token=token("image_patch_token"),
        video_patch_token=token("video_patch_token"),
        image_start_token=token("image_start_token"),
        video_start_token=token("video_start_token"),
        use_interleaved_frame_timestamp=llm.flag("use_interleaved_frame_timestamp", False),
        spatial_merge_size=llm.whole("spatial_merge_size", 2, most=MERGE),
    )
