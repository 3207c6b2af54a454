"""The SANM tower on a padded batch: positions, memory, layers; padding rows are compared, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from ming_audio.config import SanmConfig
from ming_audio.sanm import Layer, SanmTower, present
from ming_core.testing import Check, GoldenCase

from ._common import in_bfloat16


@torch.no_grad()
def run(case: GoldenCase) -> Iterator[Check]:
    with torch.device("meta"):
        tower = SanmTower(SanmConfig.from_dict(case.config["audio_encoder_config_sanm"]))
    tower.load_state_dict(case.weights, assign=True)
    tower.position_dtype = None  # as released
    feats, lengths = case.inputs["feats"], case.inputs["lengths"]
    if in_bfloat16(case):
        tower, feats = tower.bfloat16(), feats.bfloat16()

    actual: dict[str, Tensor] = {"lengths": lengths, "pe": tower.place(feats)}
    first = cast(Layer, tower.encoders0[0])
    watched: dict[str, nn.Module] = {"first_layer": first, "attn0": first.self_attn}
    watched |= {f"layer{i}": layer for i, layer in enumerate(tower.encoders)}
    for name, module in watched.items():
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: actual.update({name: output})
        )
    actual["last_hidden"] = tower.padded(feats, lengths)
    value = first.self_attn.linear_q_k_v(first.norm1(actual["pe"])).chunk(3, dim=-1)[2]
    actual["fsmn0"] = first.self_attn.memory(value, present(lengths, feats.shape[1]))
    for name, expected in case.outputs.items():
        value = actual[name]
        yield Check(name, value.float() if value.is_floating_point() else value, expected)
