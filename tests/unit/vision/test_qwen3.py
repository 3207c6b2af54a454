"""The image encoder of Flash: against transformers, deepstack, positions, released names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.qwen3_vl_moe.configuration_qwen3_vl_moe import Qwen3VLMoeVisionConfig
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeVisionModel

from ming_vision.encoder import Qwen3VisionEncoder
from ming_vision.layout import resampling

RELEASED = Path(__file__).parents[2] / "golden/released/ming-flash-omni"


def test_tower_and_deepstack_equal_transformers(flash_tower: Any) -> None:
    encoder = flash_tower.make()
    config = Qwen3VLMoeVisionConfig(**flash_tower.vision)
    config._attn_implementation = "eager"
    theirs = Qwen3VLMoeVisionModel(config)
    theirs.load_state_dict(encoder.vision.state_dict(), strict=True)
    batch = flash_tower.features()
    pixels, grid = batch.tensors["pixel_values"], batch.grid
    assert grid is not None
    streams: list[Any] = []
    for block in encoder.vision.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: streams.append(output))
    with torch.no_grad():
        expected = theirs(pixels, grid_thw=grid)
        actual = encoder.vision(pixels, grid)
        deepstack = [
            merger(streams[block])
            for merger, block in zip(encoder.vision.deepstack_merger_list, (0, 2))
        ]
    torch.testing.assert_close(actual, expected.pooler_output, rtol=1e-5, atol=1e-5)
    assert len(deepstack) == len(expected.deepstack_features) == 2
    for ours, its in zip(deepstack, expected.deepstack_features):
        torch.testing.assert_close(ours, its, rtol=1e-5, atol=1e-5)


def test_dormant_mergers_are_not_computed_and_get_no_gradient(flash_tower: Any) -> None:
    encoder = flash_tower.make()
    for merger in encoder.vision.deepstack_merger_list:
        merger.register_forward_hook(lambda *_: pytest.fail("deepstack was computed"))
    encoder(flash_tower.features()).sum().backward()
    silent = {name for name, p in encoder.named_parameters() if p.grad is None}
    assert silent == {n for n, _ in encoder.named_parameters() if "deepstack_merger_list" in n}
    assert len(silent) == 2 * 6


def test_positions_reach_the_corners_of_the_table_and_repeat_over_time() -> None:
    index, share = resampling(((2, 4, 6),), 5, 2, torch.device("cpu"))
    assert index.shape == (4, 48)
    torch.testing.assert_close(share.sum(0), torch.ones(48, 1))
    table = torch.arange(25.0)
    value = (table[index] * share[..., 0]).sum(0)
    assert torch.equal(value[:24], value[24:])
    # Merge-block order: the first patch is the top left corner, the last one bottom right.
    assert value[0] == 0
    assert value[23] == 24
    # The second patch is one column on: 4 / 5 of a table column.
    torch.testing.assert_close(value[1], torch.tensor(0.8))
    # The third one is a row down: 4 / 3 of a table row of 5.
    torch.testing.assert_close(value[2], torch.tensor(5 * 4 / 3))


def test_released_names_and_sizes() -> None:
    """Flash: 351 tensors of 576.4 M parameters, the dormant mergers among them."""
    config = json.loads((RELEASED / "config.json").read_text("utf-8"))
    preprocessor = json.loads((RELEASED / "preprocessor_config.json").read_text("utf-8"))
    with torch.device("meta"):
        encoder = Qwen3VisionEncoder.from_config(config, preprocessor)
        theirs = Qwen3VLMoeVisionModel(Qwen3VLMoeVisionConfig(**config["vision_config"]))
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    tower = {n.removeprefix("vision."): s for n, s in shapes.items() if n.startswith("vision.")}
    assert len(tower) == 351
    assert tower == {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert round(sum(torch.Size(shape).numel() for shape in tower.values()) / 1e5) == 5764
    assert shapes["linear_proj.0.weight"] == shapes["linear_proj.2.weight"] == (4096, 4096)
    assert encoder.processor.factor == 32
    assert encoder.processor.max_pixels == 16_777_216
