"""The Lite image tower: index tables, rotary angles, residual stream, merged tokens."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ming_core.model.segments import Segments
from ming_core.testing import Check, GoldenCase
from ming_vision.config import VisionConfig
from ming_vision.qwen2_5_vit import VisionTower, rotary_angles


def _bounds(segments: Segments) -> Tensor:
    return torch.tensor((0, *segments.lengths)).cumsum(0)


@torch.no_grad()
def run(case: GoldenCase) -> Iterator[Check]:
    # cu_window_seqlens_raw holds empty windows, which this implementation never creates.
    expected = {k: v for k, v in case.outputs.items() if k != "cu_window_seqlens_raw"}
    with torch.device("meta"):
        tower = VisionTower(VisionConfig.from_dict(case.config))
    tower.load_state_dict(case.weights, assign=True)

    pixels, grid = case.inputs["pixel_values"], case.inputs["grid_thw"]
    actual: dict[str, Tensor] = {}
    for index, block in enumerate(tower.blocks):
        block.register_forward_hook(
            lambda _module, _inputs, output, name=f"block_{index}": actual.update({name: output})
        )
    actual["hidden_states"] = tower(pixels, grid)
    actual["patch_embed"] = tower.patch_embed(pixels)

    grids = tuple((t, h, w) for t, h, w in grid.tolist())
    places = tower.layout(grids, pixels.device)
    unit = tower.config.spatial_merge_size**2
    actual["window_index"] = places.window_index
    actual["cu_window_seqlens"] = _bounds(places.windows)
    actual["cu_seqlens"] = _bounds(places.frames)
    position = places.position.unflatten(0, (-1, unit))[places.inverse].flatten(0, 1)
    actual["rotary_freqs"] = rotary_angles(position, tower.config.head_dim)
    for name, value in expected.items():
        yield Check(name, actual[name], value)
