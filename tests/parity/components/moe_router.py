"""Routers, the expert-bias update and the modality-routed mixture block."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ming_core.checkpoints.keymap import backbone_slots
from ming_core.model.config import BackboneConfig
from ming_core.model.moe import ModalityMoE
from ming_core.model.routing import Gate, route
from ming_core.release import backbone_of
from ming_core.testing import Check, GoldenCase
from ming_core.training.balance import bias_update

from ._common import check_released, fill, modality

# The cases hold the fields of the mixture only; the rest of a backbone does not matter here.
FILLER = {
    "vocab_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "first_k_dense_replace": 0,
    "moe_intermediate_size": 8,
    "num_shared_experts": 1,
}


def run(case: GoldenCase) -> Iterator[Check]:
    check_released(case.config, "llm_config")
    rope = {"type": "video_rope"} if case.config["model_type"] == "bailing_moe_v2" else None
    llm = {**FILLER, "rope_scaling": rope, **case.config}
    config = backbone_of({"llm_config": llm})
    if "tokens_per_expert" in case.inputs:
        bias = next(v for k, v in case.weights.items() if k.endswith("expert_bias"))
        for i, counts in enumerate(case.inputs["tokens_per_expert"]):
            bias = bias_update(bias, counts, rate=0.001)
            yield Check(f"expert_bias_after.{i}", bias, case.outputs["expert_bias_after"][i])
        return
    with torch.no_grad():
        yield from (_block if "output" in case.outputs else _gate)(case, config)


def _gate(case: GoldenCase, config: BackboneConfig) -> Iterator[Check]:
    gate = Gate(config.hidden_size, config.num_experts, config.router.kind == "grouped_sigmoid")
    gate.load_state_dict({k.rpartition("gate.")[2]: v for k, v in case.weights.items()})
    routing = route(case.inputs["hidden_states"].flatten(0, -2), [gate], config.router, None)
    index, order = routing.index.sort(dim=-1)
    weights = routing.weights.gather(-1, order)
    yield Check("logits", routing.logits, case.outputs["logits"])
    yield Check("topk_sorted", index, case.outputs["topk_sorted"])
    yield Check("topk_weight_sorted", weights, case.outputs["topk_weight_sorted"])
    dense = torch.zeros_like(routing.logits).scatter(-1, index, weights)
    yield Check("dense_weight", dense, case.outputs["dense_weight"])


def _block(case: GoldenCase, config: BackboneConfig) -> Iterator[Check]:
    block = ModalityMoE(config)
    layer = "model.layers.0.mlp."
    slots = {
        name.removeprefix(layer): slot
        for name, slot in backbone_slots(config, prefix="").items()
        if name.startswith(layer)
    }
    local = "layers.0.mlp."
    fill(
        block,
        {k: type(s)(s.name.removeprefix(local), s.index, s.dtype) for k, s in slots.items()},
        case.weights,
    )
    x = case.inputs["hidden_states"]
    y, routing = block(x, modality(case.inputs, x))
    yield Check("output", y, case.outputs["output"])
    assert block.shared_experts is not None
    yield Check("shared_output", block.shared_experts(x), case.outputs["shared_output"])
    logits, index = routing.logits.view(*x.shape[:2], -1), routing.index.sort(dim=-1).values
    yield Check("router_logits", logits, case.outputs["router_logits"])
    yield Check("topk_sorted", index.view(*x.shape[:2], -1), case.outputs["topk_sorted"])
