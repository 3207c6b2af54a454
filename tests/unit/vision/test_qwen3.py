"""The Flash image encoder: against transformers, packed against one by one, released names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers.models.qwen3_vl_moe.configuration_qwen3_vl_moe import Qwen3VLMoeVisionConfig
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeVisionModel

from ming_core.errors import BadConfig
from ming_core.model.encoder import Features
from ming_vision.encoder import Qwen3VisionEncoder
from ming_vision.layout import resampling
from ming_vision.qwen3_moe_vit import VisionTower

RELEASED = Path(__file__).parents[2] / "golden/released/ming-flash-omni"
VISION = {
    "model_type": "qwen3_moe_vit",
    "depth": 3,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "out_hidden_size": 40,
    "num_position_embeddings": 25,
    "deepstack_visual_indexes": [0, 2],
    "patch_size": 4,
}
CONFIG = {"vision_config": VISION, "llm_config": {"hidden_size": 24}, "mlp_depth": 2}
GRIDS = [(1, 4, 6), (1, 10, 8), (2, 4, 6), (1, 2, 2), (3, 6, 6)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def make(**vision: Any) -> Qwen3VisionEncoder:
    return Qwen3VisionEncoder.from_config({**CONFIG, "vision_config": {**VISION, **vision}}, {})


def features(grids: list[tuple[int, int, int]]) -> Features:
    pixels = torch.randn(sum(t * h * w for t, h, w in grids), 3 * 2 * 4 * 4)
    tokens = [t * h * w // 4 for t, h, w in grids]
    return Features("image", {"pixel_values": pixels}, torch.tensor(grids), tokens)


def split(batch: Features) -> list[Features]:
    pixels = batch.tensors["pixel_values"].split([t * h * w for t, h, w in GRIDS])
    return [
        Features("image", {"pixel_values": rows}, torch.tensor([grid]), [len(rows) // 4])
        for grid, rows in zip(GRIDS, pixels)
    ]


def test_tower_and_deepstack_equal_transformers() -> None:
    encoder = make()
    config = Qwen3VLMoeVisionConfig(**VISION)
    config._attn_implementation = "eager"
    theirs = Qwen3VLMoeVisionModel(config)
    theirs.load_state_dict(encoder.vision.state_dict(), strict=True)
    batch = features(GRIDS)
    pixels, grid = batch.tensors["pixel_values"], batch.grid
    assert grid is not None
    streams: list[Any] = []
    tower = cast(VisionTower, encoder.vision)
    for block in tower.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: streams.append(output))
    with torch.no_grad():
        expected = theirs(pixels, grid_thw=grid)
        actual = encoder.vision(pixels, grid)
        deepstack = [
            merger(streams[block]) for merger, block in zip(tower.deepstack_merger_list, (0, 2))
        ]
    torch.testing.assert_close(actual, expected.pooler_output, rtol=1e-5, atol=1e-5)
    assert len(deepstack) == len(expected.deepstack_features) == 2
    for ours, its in zip(deepstack, expected.deepstack_features):
        torch.testing.assert_close(ours, its, rtol=1e-5, atol=1e-5)


def test_dormant_mergers_are_not_computed_and_get_no_gradient() -> None:
    encoder = make()
    for merger in cast(VisionTower, encoder.vision).deepstack_merger_list:
        merger.register_forward_hook(lambda *_: pytest.fail("deepstack was computed"))
    encoder(features(GRIDS)).sum().backward()
    silent = {name for name, p in encoder.named_parameters() if p.grad is None}
    assert silent == {n for n, _ in encoder.named_parameters() if "deepstack_merger_list" in n}
    assert len(silent) == 2 * 6


def test_packed_equals_one_by_one_in_values_and_gradients() -> None:
    encoder = make()
    batch = features(GRIDS)
    weight = torch.randn(sum(batch.tokens), 24)

    packed = encoder(batch)
    (packed * weight).sum().backward()
    packed_gradients = {k: p.grad for k, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()

    single = torch.cat([encoder(one) for one in split(batch)])
    (single * weight).sum().backward()
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed.norm(dim=-1), torch.ones(len(packed)))
    for name, gradient in packed_gradients.items():
        expected = encoder.get_parameter(name).grad
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


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


def test_built_on_meta_and_assigned_equals_built_directly() -> None:
    encoder = make()
    with torch.device("meta"):
        shell = make()
    assert all(p.is_meta for p in shell.parameters())
    shell.load_state_dict(encoder.state_dict(), assign=True)
    assert not any(t.is_meta for t in (*shell.parameters(), *shell.buffers()))
    batch = features(GRIDS)
    with torch.no_grad():
        assert torch.equal(shell(batch), encoder(batch))


def test_bfloat16_stays_close_and_keeps_its_dtype() -> None:
    encoder = make()
    batch = features(GRIDS)
    with torch.no_grad():
        expected = encoder(batch)
        actual = encoder.bfloat16()(batch.to("cpu", torch.bfloat16))
    assert actual.dtype == torch.bfloat16
    cosine = torch.nn.functional.cosine_similarity(actual.float(), expected)
    assert cosine.min() > 0.999


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


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_position_embeddings": None}, "vision_config has no 'num_position_embeddings'"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'gelu_pytorch_tanh', not 'gelu'"),
        ({"num_heads": 3}, "vision_config.hidden_size 32 must be a multiple of 4 [*] num_heads"),
        ({"num_position_embeddings": 24}, "num_position_embeddings 24 must be a square number"),
    ],
)
def test_bad_configuration(change: dict[str, Any], sentence: str) -> None:
    vision = {k: v for k, v in {**VISION, **change}.items() if v is not None}
    with pytest.raises(BadConfig, match=sentence):
        Qwen3VisionEncoder.from_config({**CONFIG, "vision_config": vision}, {})
