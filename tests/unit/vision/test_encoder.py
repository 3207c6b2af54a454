"""The image encoder of Lite: against transformers, in training, released names and bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)

from ming_vision.encoder import QwenVisionEncoder

RELEASED = Path(__file__).parents[2] / "golden/released/ming-lite-omni-1.0"


@pytest.mark.parametrize("window_size", [8, 16, 24, 112])
def test_tower_equals_transformers(lite_tower: Any, window_size: int) -> None:
    encoder = lite_tower.make(window_size=window_size)
    config = Qwen2_5_VLVisionConfig(**lite_tower.vision | {"window_size": window_size})
    config._attn_implementation = "eager"
    theirs = Qwen2_5_VisionTransformerPretrainedModel(config)
    theirs.load_state_dict(encoder.vision.state_dict(), strict=True)
    batch = lite_tower.features()
    pixels, grid = batch.tensors["pixel_values"], batch.grid
    assert grid is not None
    expected = theirs(pixels, grid_thw=grid).pooler_output
    torch.testing.assert_close(encoder.vision(pixels, grid), expected, rtol=1e-5, atol=1e-5)


def test_tables_cached_under_inference_mode_serve_training(lite_tower: Any) -> None:
    encoder = lite_tower.make(window_size=16)
    grids = [(1, 14, 6), (1, 6, 14)]  # seen by no other test
    with torch.inference_mode():
        expected = encoder(lite_tower.features(grids, torch.ones(168, 96)))
    actual = encoder(lite_tower.features(grids, torch.ones(168, 96)))
    actual.sum().backward()
    torch.testing.assert_close(actual, expected.clone())


def test_released_names_and_bytes() -> None:
    """Lite 1.0: 390 tensors of the tower and 4 of the projector, as its weight index lists them."""
    config = json.loads((RELEASED / "config.json").read_text("utf-8"))
    preprocessor = json.loads((RELEASED / "preprocessor_config.json").read_text("utf-8"))
    index = json.loads((RELEASED / "model.safetensors.index.json").read_text("utf-8"))
    with torch.device("meta"):
        encoder = QwenVisionEncoder.from_config(config, preprocessor)
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    prefixes = ("vision.", "linear_proj.")
    assert shapes.keys() == {name for name in index["weight_map"] if name.startswith(prefixes)}
    tower = {name: shape for name, shape in shapes.items() if name.startswith("vision.")}
    assert len(tower) == 390
    assert sum(torch.Size(shape).numel() for shape in tower.values()) == 704_573_696
    assert shapes["linear_proj.0.weight"] == (2048, 8192)
    assert shapes["linear_proj.2.weight"] == (2048, 2048)
    assert encoder.processor.factor == 28
    assert encoder.processor.min_pixels == 78400
