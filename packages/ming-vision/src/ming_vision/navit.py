"""An image encoder to train from scratch: NaViT as the Ming-Lite-Uni paper describes it.

Pictures of any size and shape as sequences of patches, rotary positions of row and column, then
2x2 neighbouring tokens side by side into an MLP (the projector) and to unit length. The transformer
is timm's `NaFlexVit`. No release has weights for it: Uni shipped `qwen2_5_vit` in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from ming_core.fields import Section
from ming_vision.config import TowerConfig
from ming_vision.encoder import VisionEncoder
from ming_vision.layout import grids_of, layout
from ming_vision.timm_models import build, require_timm


class NavitTower(nn.Module):
    """Patches in, merged tokens out, both in the order of the items."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        require_timm("the encoder 'navit'")
        from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg

        sizes = NaFlexVitCfg(
            patch_size=config.patch_size,
            embed_dim=config.hidden_size,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.intermediate_size / config.hidden_size,
            swiglu_mlp=True,
            pos_embed="none",
            rope_type="axial",
            global_pool="",
        )
        # The frames of a patch are channels, as its numbers lie in one row anyway.
        channels = config.in_channels * config.temporal_patch_size
        self.config = config
        self.out_width = config.merged_width
        self.vit: Any = build(lambda: NaFlexVit(sizes, in_chans=channels, num_classes=0))

    @classmethod
    def from_section(cls, section: Mapping[str, Any] | Section) -> Self:
        return cls(TowerConfig.from_dict(section))

    def forward(self, pixel_values: Tensor, grid: Tensor) -> Tensor:
        """pixel_values [N, C*t*p*p] and grid [items, 3] -> [N / merge^2, merge^2 * D].

        Every frame is a row of a padded batch, with its patches row by row as timm expects them.
        """
        device, grids = pixel_values.device, grids_of(grid)
        position = layout(grids, self.config.spatial_merge_size, None, device).position
        shape = [(h, w) for t, h, w in grids for _ in range(t)]
        length = max(h * w for h, w in shape)
        columns = torch.tensor([w for _, w in shape], device=device)
        sizes = torch.tensor([h * w for h, w in shape], device=device)
        frame = torch.arange(len(shape), device=device).repeat_interleave(sizes)
        place = frame * length + position[:, 0] * columns[frame] + position[:, 1]

        def padded(x: Tensor) -> Tensor:  # [N, ...] -> [frames, length, ...]
            empty = x.new_zeros(len(shape) * length, *x.shape[1:])
            return empty.index_copy(0, place, x).unflatten(0, (-1, length))

        mask = None
        if len(place) < len(shape) * length:
            # Padding is no key. That of timm's own making is a square for every frame.
            empty = 1 - padded(pixel_values.new_ones(len(place)))
            mask = (empty * torch.finfo(empty.dtype).min)[:, None, None]
        features = self.vit.forward_features(
            padded(pixel_values), patch_coord=padded(position), attn_mask=mask
        )
        tokens = features["patches"].flatten(0, 1).index_select(0, place)
        return tokens.view(-1, self.out_width)


class NavitEncoder(VisionEncoder):
    """`navit`: the tower above with its projector; timm is needed to build it."""

    tower = NavitTower
