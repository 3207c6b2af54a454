"""The Flash image tower: learned positions, rotary angles, residual stream, deepstack, tokens."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ming_core.testing import Check, GoldenCase
from ming_vision.layout import grids_of, layout
from ming_vision.qwen2_5_vit import rotary_angles
from ming_vision.qwen3_moe_vit import VisionTower


@torch.no_grad()
def run(case: GoldenCase) -> Iterator[Check]:
    with torch.device("meta"):
        tower = VisionTower.from_section(case.config)
    tower.load_state_dict(case.weights, assign=True)

    pixels, grid = case.inputs["pixel_values"], case.inputs["grid_thw"]
    actual: dict[str, Tensor] = {}
    for index, block in enumerate(tower.blocks):
        block.register_forward_hook(
            lambda _module, _inputs, output, name=f"block_{index}": actual.update({name: output})
        )
    actual["hidden_states"] = tower(pixels, grid)
    actual["patch_embed"] = tower.patch_embed(pixels)
    actual["pos_embeds"] = tower.position_embeds(grid)
    # Dormant: the tower does not compute them, a training of one's own may.
    for k, index in enumerate(tower.config.deepstack_visual_indexes):
        actual[f"deepstack_{k}"] = tower.deepstack_merger_list[k](actual[f"block_{index}"])

    merge = tower.config.spatial_merge_size
    position = layout(grids_of(grid), merge, None, pixels.device).position
    actual["rotary_freqs"] = rotary_angles(position, tower.config.head_dim)
    for name, value in case.outputs.items():
        yield Check(name, actual[name], value)
