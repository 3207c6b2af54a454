"""Where each released tensor lies in our modules: tables for loading and for exporting.

We store experts stacked and gate-and-up matrices fused; releases hold one tensor per expert and
per matrix. A `Slot` is the place of one released tensor: a parameter and an index into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ming_core.model.config import BackboneConfig

# Stand-alone Ling-2.0 language models spell the norms of queries and keys differently.
_QK_NORMS = (("q_norm", "query_layernorm"), ("k_norm", "key_layernorm"))


@dataclass(frozen=True)
class Slot:
    """A place in one of our parameters or buffers.

    name: its name in the state_dict. index: the part of it; () is all of it. dtype: its dtype,
    whatever dtype the model is loaded in. aliases: names of the tensor in related releases.
    """

    name: str
    index: tuple[int | slice, ...] = ()
    dtype: torch.dtype | None = None
    aliases: tuple[str, ...] = ()

    def of(self, tensor: Tensor) -> Tensor:
        """The slot's part of the parameter `tensor`, as a view."""
        return tensor[self.index] if self.index else tensor


def identity_slots(module: nn.Module, prefix: str = "") -> dict[str, Slot]:
    """Table of a module whose tensor names are the released ones, behind `prefix`."""
    return {prefix + name: Slot(name) for name in module.state_dict()}


def backbone_slots(config: BackboneConfig, prefix: str = "model.") -> dict[str, Slot]:
    """The whole table of a causal language model: released name -> place in `Backbone`.

    prefix is "model." in omni checkpoints, where the language model is the submodule `model`, and
    "" in stand-alone ones. Every released name and every element of `Backbone` occurs once.
    """
    slots = {
        "model.word_embeddings.weight": Slot("word_embeddings.weight"),
        "model.norm.weight": Slot("norm.weight"),
        "lm_head.weight": Slot("lm_head.weight"),
    }
    for layer in range(config.num_hidden_layers):
        ours = f"layers.{layer}"
        slots.update(_attention(config, f"model.{ours}", ours, prefix))
        feed_forward = _mixture if config.is_moe_layer(layer) else _dense
        slots.update(feed_forward(config, f"model.{ours}.mlp", f"{ours}.mlp"))
    return {prefix + released: slot for released, slot in slots.items()}


_Rows = Iterator[tuple[str, Slot]]


def _attention(config: BackboneConfig, released: str, ours: str, prefix: str) -> _Rows:
    for name in (
        "input_layernorm.weight",
        "attention.query_key_value.weight",
        "attention.dense.weight",
        "post_attention_layernorm.weight",
    ):
        yield f"{released}.{name}", Slot(f"{ours}.{name}")
    for name, present in (("query_key_value", config.qkv_bias), ("dense", config.dense_bias)):
        if present:
            yield f"{released}.attention.{name}.bias", Slot(f"{ours}.attention.{name}.bias")
    if config.qk_norm:
        for name, ling in _QK_NORMS:
            alias = f"{prefix}{released}.attention.{ling}.weight"
            slot = Slot(f"{ours}.attention.{name}.weight", aliases=(alias,))
            yield f"{released}.attention.{name}.weight", slot


def _dense(config: BackboneConfig, released: str, ours: str) -> _Rows:
    return _swiglu(released, ours, config.intermediate_size, ".weight")


def _mixture(config: BackboneConfig, released: str, ours: str) -> _Rows:
    for gate in config.gates:
        yield f"{released}.{gate}.weight", Slot(f"{ours}.{gate}.weight")
        if config.router.kind == "grouped_sigmoid":
            bias = f"{gate}.expert_bias"
            # Balancing moves the bias in steps of 0.001, which half precision would swallow.
            yield f"{released}.{bias}", Slot(f"{ours}.{bias}", dtype=torch.float32)
    width = config.moe_intermediate_size
    for expert in range(config.num_experts):
        yield from _swiglu(
            f"{released}.experts.{expert}", f"{ours}.experts", width, index=(expert,)
        )
    if config.num_shared_experts:
        shared = width * config.num_shared_experts
        yield from _swiglu(
            f"{released}.shared_experts", f"{ours}.shared_experts", shared, ".weight"
        )


def _swiglu(
    released: str, ours: str, width: int, suffix: str = "", index: tuple[int, ...] = ()
) -> _Rows:
    """gate_proj and up_proj are the upper and lower rows of our gate_up_proj."""
    fused = f"{ours}.gate_up_proj{suffix}"
    yield f"{released}.gate_proj.weight", Slot(fused, (*index, slice(0, width)))
    yield f"{released}.up_proj.weight", Slot(fused, (*index, slice(width, 2 * width)))
    yield f"{released}.down_proj.weight", Slot(f"{ours}.down_proj{suffix}", index)
