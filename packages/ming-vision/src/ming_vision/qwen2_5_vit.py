"""The image tower of Ming-Lite-Omni 1.0/1.5 and Ming-Lite-Uni (`qwen2_5_vit`), and of nano.

It is a ViT at native resolution. The patches of all pictures are one packed sequence. Attention
runs inside of windows, and in a few blocks over the whole frame. Positions are rotary angles of row
and column. Norms are RMSNorm, MLPs are gated, and a merger makes one token of 2 x 2 patches.

Tensor names and values equal those of transformers' `Qwen2_5_VisionTransformerPretrainedModel`
(tests/unit/vision/test_encoder.py compares them). We wrote the tower ourselves for two reasons. To
import that class takes 4 s of CPU time, twice as long as torch. And without flash-attn, its
attention calls one kernel for each window; here, segments of equal length share one call, so
training on a CPU is practical.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_core.fields import Section
from ming_core.model.kernels.products import linear
from ming_core.model.layers import Linear, RMSNorm
from ming_core.model.rotary import rotate, rotation
from ming_core.model.segments import Segments, attend_segments
from ming_vision.config import TowerConfig, VisionConfig
from ming_vision.layout import Grid, Layout, grids_of, layout

ROPE_THETA = 10000.0
NORM_EPS = 1e-6


class VisionTower(nn.Module):
    """Patches in, merged tokens out, both in the order of the items."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.out_width = config.out_hidden_size
        self.patch_embed = PatchEmbed(config, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.merger = Merger(config)

    @classmethod
    def from_section(cls, section: Mapping[str, Any] | Section) -> Self:
        return cls(VisionConfig.from_dict(section))

    def layout(self, grids: tuple[Grid, ...], device: torch.device) -> Layout:
        return layout(grids, self.config.spatial_merge_size, self.config.window, device)

    def forward(self, pixel_values: Tensor, grid: Tensor) -> Tensor:
        """pixel_values [N, C*t*p*p] and grid [items, 3] -> [N / merge^2, out_hidden_size]."""
        unit = self.config.spatial_merge_size**2
        places = self.layout(grids_of(grid), pixel_values.device)
        # The rows move before the first weight, so that no gradient passes through the permutation.
        x = pixel_values.unflatten(0, (-1, unit))[places.window_index].flatten(0, 1)
        x = self.patch_embed(x)
        angle = rotary_angles(places.position, self.config.head_dim)
        cos, sin = rotation(angle[:, None])  # [N, 1, head_dim]
        for index, block in enumerate(self.blocks):
            whole = index in self.config.fullatt_block_indexes
            x = block(x, cos, sin, places.frames if whole else places.windows)
        return self.merger(x).index_select(0, places.inverse)


class PatchEmbed(nn.Module):
    """Stride-equals-kernel convolution, done as the one matrix product that it is."""

    def __init__(self, config: TowerConfig, bias: bool) -> None:
        super().__init__()
        size = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.in_channels, config.hidden_size, size, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.proj.weight.flatten(1)
        return linear(x.to(weight.dtype), weight, self.proj.bias)


class Block(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, NORM_EPS)
        self.attn = Attention(config)
        self.norm2 = RMSNorm(config.hidden_size, NORM_EPS)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, segments: Segments) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin, segments)
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Bidirectional attention inside each segment of a packed sequence."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, segments: Segments) -> Tensor:
        """x [N, D]; cos and sin [N, 1, head_dim] float32 of `rotation`."""
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return self.proj(attend_segments(q, k, v, segments).flatten(1))


class MLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Merger(nn.Module):
    """Normalise, concatenate merge x merge neighbours, two linear layers with exact GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.merged_width
        self.ln_q = RMSNorm(config.hidden_size, NORM_EPS)
        self.mlp = nn.Sequential(
            Linear(self.width, self.width),
            nn.GELU(),
            Linear(self.width, config.out_hidden_size),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.ln_q(x).view(-1, self.width))


def rotary_angles(position: Tensor, head_dim: int) -> Tensor:
    """Row angles, then column angles: position [N, 2] -> [N, head_dim / 2] float32."""
    half = head_dim // 2
    exponent = torch.arange(0, half, 2, dtype=torch.float32, device=position.device) / half
    return (position[..., None].float() * (1.0 / ROPE_THETA**exponent)).flatten(1)
