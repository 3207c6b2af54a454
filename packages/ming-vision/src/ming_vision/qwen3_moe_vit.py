"""The image tower of Ming-flash-omni 2.0 (`qwen3_moe_vit`; dense, whatever the name says).

It works on packed patches as `qwen2_5_vit` does, with three differences. A learned square of
positions is stretched over each frame and added. Every block attends over whole frames. Norms and
MLPs are plain: LayerNorm and tanh GELU.

The release does not use deepstack: the checkpoint has three mergers of inner blocks, but nothing
reads their output. We keep them, because loading and exporting are strict, and do not compute them.
To get their features, apply `deepstack_merger_list[k]` to the output of block
`deepstack_visual_indexes[k]`.

Tensor names and values equal those of transformers' `Qwen3VLMoeVisionModel`
(tests/unit/vision/test_qwen3.py compares them). docs/architecture.md says why it is written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional as F

from ming_core.fields import Section
from ming_core.model.layers import Linear
from ming_core.model.rotary import rotation
from ming_core.model.segments import Segments
from ming_vision.config import Qwen3VisionConfig
from ming_vision.layout import grids_of, layout, resampling
from ming_vision.qwen2_5_vit import Attention, PatchEmbed, rotary_angles

NORM_EPS = 1e-6


class VisionTower(nn.Module):
    """Patches in, merged tokens out, both in the order of the items."""

    def __init__(self, config: Qwen3VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.out_width = config.out_hidden_size
        self.patch_embed = PatchEmbed(config, bias=True)
        self.pos_embed = nn.Embedding(config.num_position_embeddings, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.merger = Merger(config, config.hidden_size)
        self.deepstack_merger_list = nn.ModuleList(
            Merger(config, config.merged_width) for _ in config.deepstack_visual_indexes
        )

    @classmethod
    def from_section(cls, section: Mapping[str, Any] | Section) -> Self:
        return cls(Qwen3VisionConfig.from_dict(section))

    def forward(self, pixel_values: Tensor, grid: Tensor) -> Tensor:
        """pixel_values [N, C*t*p*p] and grid [items, 3] -> [N / merge^2, out_hidden_size]."""
        places = layout(grids_of(grid), self.config.spatial_merge_size, None, pixel_values.device)
        x = self.patch_embed(pixel_values)
        x = x + self.position_embeds(grid).to(x.dtype)
        cos, sin = rotation(rotary_angles(places.position, self.config.head_dim)[:, None])
        for block in self.blocks:
            x = block(x, cos, sin, places.frames)
        return self.merger(x)

    def position_embeds(self, grid: Tensor) -> Tensor:
        """The square of learned positions stretched over every frame: grid [items, 3] -> [N, D]."""
        table = self.pos_embed.weight
        side, merge = self.config.position_side, self.config.spatial_merge_size
        index, share = resampling(grids_of(grid), side, merge, table.device)
        embeds = self.pos_embed(index[0]) * share[0].to(table.dtype)
        for corner in range(1, 4):  # one after another: all at once need four times the memory
            embeds = embeds + self.pos_embed(index[corner]) * share[corner].to(table.dtype)
        return embeds


class Block(nn.Module):
    def __init__(self, config: Qwen3VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, NORM_EPS)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, NORM_EPS)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, segments: Segments) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin, segments)
        return x + self.mlp(self.norm2(x))


class MLP(nn.Module):
    def __init__(self, config: Qwen3VisionConfig) -> None:
        super().__init__()
        self.linear_fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.linear_fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_fc2(F.gelu(self.linear_fc1(x), approximate="tanh"))


class Merger(nn.Module):
    """merge x merge neighbours side by side, normalised, then two linear layers with exact GELU.

    norm_width: channels that are normalised together, those of one patch (the last merger) or of
    the whole token (deepstack).
    """

    def __init__(self, config: Qwen3VisionConfig, norm_width: int) -> None:
        super().__init__()
        self.width = config.merged_width
        self.norm = nn.LayerNorm(norm_width, NORM_EPS)
        self.linear_fc1 = Linear(self.width, self.width)
        self.linear_fc2 = Linear(self.width, config.out_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[N, hidden_size] -> [N / merge^2, out_hidden_size]."""
        x = self.norm(x.view(-1, self.norm.normalized_shape[0])).view(-1, self.width)
        return self.linear_fc2(F.gelu(self.linear_fc1(x)))
