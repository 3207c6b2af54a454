"""Tiny encoders of packed patches, one of each kind, and pictures for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from ming_core.model.encoder import Features
from ming_vision.encoder import Qwen3VisionEncoder, QwenVisionEncoder
from ming_vision.navit import NavitEncoder

Grids = list[tuple[int, int, int]]
GRIDS = [(1, 4, 6), (1, 10, 8), (2, 4, 6), (1, 2, 2), (3, 6, 6)]
SECTION = {
    "depth": 3,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "patch_size": 4,
}


@dataclass(frozen=True)
class Tower:
    """A kind of encoder and the `vision_config` of a tiny one."""

    kind: Any
    vision: dict[str, Any]

    def make(self, **change: Any) -> Any:
        """A random encoder to a width of 24. change: values of vision_config, None to leave out."""
        vision = {k: v for k, v in {**self.vision, **change}.items() if v is not None}
        config = {"vision_config": vision, "llm_config": {"hidden_size": 24}, "mlp_depth": 2}
        return self.kind.from_config(config, {})

    def features(self, grids: Grids = GRIDS, pixels: Tensor | None = None) -> Features:
        """Pictures and clips of these sizes in one batch, of noise unless `pixels` are given."""
        if pixels is None:
            pixels = torch.randn(sum(t * h * w for t, h, w in grids), 3 * 2 * 4 * 4)
        tokens = [t * h * w // 4 for t, h, w in grids]
        return Features("image", {"pixel_values": pixels}, torch.tensor(grids), tokens)

    def split(self, batch: Features) -> list[Features]:
        """Each item of a batch of `GRIDS` as a batch of its own."""
        pixels = batch.tensors["pixel_values"].split([t * h * w for t, h, w in GRIDS])
        return [self.features([grid], rows) for grid, rows in zip(GRIDS, pixels)]


LITE = SECTION | {
    "model_type": "qwen2_5_vit",
    "out_hidden_size": 40,
    "fullatt_block_indexes": [1],
    "window_size": 24,  # 3 x 3 merged tokens
}
FLASH = SECTION | {
    "model_type": "qwen3_moe_vit",
    "out_hidden_size": 40,
    "num_position_embeddings": 25,
    "deepstack_visual_indexes": [0, 2],
}
TOWERS = {
    "lite": Tower(QwenVisionEncoder, LITE),
    "flash": Tower(Qwen3VisionEncoder, FLASH),
    "navit": Tower(NavitEncoder, SECTION | {"model_type": "navit"}),
}


@pytest.fixture(params=TOWERS)
def tower(request: pytest.FixtureRequest) -> Tower:
    """Every kind in turn."""
    return TOWERS[request.param]


@pytest.fixture
def lite_tower() -> Tower:
    return TOWERS["lite"]


@pytest.fixture
def flash_tower() -> Tower:
    return TOWERS["flash"]


@pytest.fixture
def navit_tower() -> Tower:
    return TOWERS["navit"]
