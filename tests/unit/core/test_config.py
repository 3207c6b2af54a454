"""Reading a released llm_config: what it becomes, and the sentence for each way to get it wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ming_core.errors import BadCheckpoint, BadConfig
from ming_core.model.config import BackboneConfig, RopeConfig, RouterConfig
from ming_core.release import backbone_of

ReadReleased = Callable[[str], BackboneConfig]
TinyLlm = Callable[[str], dict[str, Any]]


def test_the_released_configurations(released_config: ReadReleased) -> None:
    lite_1_0 = released_config("ming-lite-omni-1.0")
    lite_1_5 = released_config("ming-lite-omni-1.5")
    flash = released_config("ming-flash-omni")
    softmax = RouterConfig("softmax", top_k=6, norm=True)

    assert lite_1_0.rope == RopeConfig("1d", 600000.0, 128)
    assert lite_1_5.rope == RopeConfig("mrope", 600000.0, 128)
    assert flash.rope == RopeConfig("video_rope", 2400000.0, 64)
    assert lite_1_5.rope.sections == (16, 24, 24)
    assert flash.rope.sections == (8, 12, 12)
    assert lite_1_0.router == lite_1_5.router == softmax
    assert flash.router == RouterConfig("grouped_sigmoid", 8, True, 8, 4, 2.5)
    assert [c.qk_norm for c in (lite_1_0, lite_1_5, flash)] == [False, False, True]
    for config in (lite_1_0, lite_1_5, flash):
        assert config.gates == ("gate", "image_gate", "audio_gate")
    assert [flash.is_moe_layer(layer) for layer in range(3)] == [False, True, True]


def test_one_router_where_the_release_has_one(tiny_llm: TinyLlm) -> None:
    lite = backbone_of({"llm_config": tiny_llm("lite-1.5") | {"multi_gate": False}})
    flash = backbone_of({"llm_config": tiny_llm("flash") | {"router_type": "topN"}})
    assert lite.gates == flash.gates == ("gate",)


def test_the_width_of_a_head_defaults_to_an_equal_share(tiny_llm: TinyLlm) -> None:
    llm = tiny_llm("lite-1.0")
    del llm["head_dim"]
    assert backbone_of({"llm_config": llm}).head_dim == 8


def test_the_scaling_factor_by_either_name_or_the_default(tiny_llm: TinyLlm) -> None:
    llm = tiny_llm("flash")
    named = llm | {"moe_router_topk_scaling_factor": 1.5}
    assert backbone_of({"llm_config": llm}).router.scaling == 2.5
    assert backbone_of({"llm_config": named}).router.scaling == 1.5
    named["routed_scaling_factor"] = 3
    assert backbone_of({"llm_config": named}).router.scaling == 3.0


@pytest.mark.parametrize(
    "field", ["num_shared_experts", "first_k_dense_replace", "pad_token_id", "hidden_act"]
)
def test_null_means_absent(llm: dict[str, Any], field: str) -> None:
    absent = {key: value for key, value in llm.items() if key != field}
    assert backbone_of({"llm_config": llm | {field: None}}) == backbone_of({"llm_config": absent})


@pytest.mark.parametrize("kind", [None, "llama", ["bailing_moe"]])
def test_an_unknown_architecture(llm: dict[str, Any], kind: object) -> None:
    with pytest.raises(BadCheckpoint, match=r"unknown checkpoint: .* known are flash: .*_v2"):
        backbone_of({"llm_config": llm | {"model_type": kind}})


@pytest.mark.parametrize(
    "field", ["vocab_size", "hidden_size", "num_experts_per_tok", "rope_theta", "rms_norm_eps"]
)
def test_a_missing_field_is_named(llm: dict[str, Any], field: str) -> None:
    del llm[field]
    with pytest.raises(BadConfig, match=f"llm_config lacks the field '{field}'"):
        backbone_of({"llm_config": llm})


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("vocab_size", "48", r"vocab_size is '48'; it must be a whole number of at least 1"),
        ("vocab_size", 0, r"vocab_size is 0; it must be a whole number of at least 1"),
        ("num_experts", 8.0, r"num_experts is 8.0; it must be a whole number"),
        ("num_experts", True, r"num_experts is True; it must be a whole number"),
        ("num_experts_per_tok", 0, r"num_experts_per_tok is 0; it must be a whole number"),
        ("num_key_value_heads", 0, r"num_key_value_heads is 0; it must be"),
        ("num_key_value_heads", 3, r"num_attention_heads 4 is no multiple of num_key_value_heads"),
        ("num_experts_per_tok", 9, r"num_experts_per_tok 9 exceeds num_experts 8"),
        ("rope_theta", "high", r"rope_theta is 'high'; it must be a number from 1 to 1e\+15"),
        ("rms_norm_eps", [1], r"rms_norm_eps is \[1\]; it must be a number from 1e-30 to 1"),
        ("rope_scaling", {"type": "yarn"}, r"unknown checkpoint: .* rope_scaling 'yarn'; known"),
        ("rope_scaling", "yarn", r"unknown checkpoint: .* rope_scaling 'yarn'; known"),
        ("use_sliding_window", True, r"use_sliding_window is True; only False is supported"),
        ("tie_word_embeddings", True, r"tie_word_embeddings is True; only False is supported"),
        ("hidden_act", "gelu", r"hidden_act is 'gelu'; only 'silu' is supported"),
    ],
)
def test_a_wrong_value_is_named(
    llm: dict[str, Any], field: str, value: object, sentence: str
) -> None:
    with pytest.raises((BadConfig, BadCheckpoint), match=sentence):
        backbone_of({"llm_config": llm | {field: value}})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"n_group": 3}, r"num_experts 8 is no multiple of n_group 3"),
        ({"n_group": 0}, r"n_group is 0; it must be a whole number of at least 1"),
        ({"topk_group": 5}, r"topk_group 5 exceeds n_group 4"),
        ({"topk_group": 1}, r"num_experts_per_tok 3 exceeds the 2 experts of topk_group 1 groups"),
    ],
)
def test_impossible_expert_groups(tiny_llm: TinyLlm, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadConfig, match=sentence):
        backbone_of({"llm_config": tiny_llm("flash") | change})


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("lite-1.0", {"head_dim": 15}, r"1d positions .* multiple of 2 .* got 15"),
        ("lite-1.5", {"head_dim": 24}, r"mrope positions .* multiple of 16 .* got 24"),
        ("flash", {"partial_rotary_factor": 0.25}, r"video_rope .* multiple of 16 .* got 8"),
        ("flash", {"partial_rotary_factor": 1.5}, r"at most head_dim 32, got 48"),
        ("flash", {"partial_rotary_factor": 0.01}, r"at most head_dim 32, got 0"),
    ],
)
def test_a_rotary_width_that_cannot_be_split(
    tiny_llm: TinyLlm, name: str, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadConfig, match=sentence):
        backbone_of({"llm_config": tiny_llm(name) | change})
