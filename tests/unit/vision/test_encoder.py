"""The image encoder: against transformers, packed against one by one, released names and bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)

from ming_core.errors import BadConfig
from ming_core.model.encoder import Features
from ming_vision.encoder import QwenVisionEncoder

RELEASED = Path(__file__).parents[2] / "golden/released/ming-lite-omni-1.0"
VISION = {
    "model_type": "qwen2_5_vit",
    "depth": 3,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "out_hidden_size": 40,
    "fullatt_block_indexes": [1],
    "patch_size": 4,
    "window_size": 24,  # 3 x 3 merged tokens
}
CONFIG = {"vision_config": VISION, "llm_config": {"hidden_size": 24}, "mlp_depth": 2}
GRIDS = [(1, 4, 6), (1, 10, 8), (2, 4, 6), (1, 2, 2), (1, 6, 6)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def make(**vision: Any) -> QwenVisionEncoder:
    return QwenVisionEncoder.from_config({**CONFIG, "vision_config": {**VISION, **vision}}, {})


def features(grids: list[tuple[int, int, int]], pixels: Tensor | None = None) -> Features:
    rows = sum(t * h * w for t, h, w in grids)
    if pixels is None:
        pixels = torch.randn(rows, 3 * 2 * 4 * 4)
    tokens = [t * h * w // 4 for t, h, w in grids]
    return Features("image", {"pixel_values": pixels}, torch.tensor(grids), tokens)


def split(batch: Features, grids: list[tuple[int, int, int]]) -> list[Features]:
    pixels = batch.tensors["pixel_values"].split([t * h * w for t, h, w in grids])
    return [features([grid], rows) for grid, rows in zip(grids, pixels)]


def gradients(encoder: QwenVisionEncoder) -> dict[str, Tensor]:
    found = {k: p.grad.clone() for k, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    return found


@pytest.mark.parametrize("window_size", [8, 16, 24, 112])
def test_tower_equals_transformers(window_size: int) -> None:
    encoder = make(window_size=window_size)
    config = Qwen2_5_VLVisionConfig(**{**VISION, "window_size": window_size})
    config._attn_implementation = "eager"
    theirs = Qwen2_5_VisionTransformerPretrainedModel(config)
    theirs.load_state_dict(encoder.vision.state_dict(), strict=True)
    batch = features(GRIDS)
    pixels, grid = batch.tensors["pixel_values"], batch.grid
    assert grid is not None
    expected = theirs(pixels, grid_thw=grid).pooler_output
    torch.testing.assert_close(encoder.vision(pixels, grid), expected, rtol=1e-5, atol=1e-5)


def test_packed_equals_one_by_one_in_values_and_gradients() -> None:
    encoder = make()
    batch = features(GRIDS)
    weight = torch.randn(sum(batch.tokens), 24)

    packed = encoder(batch)
    (packed * weight).sum().backward()
    packed_gradients = gradients(encoder)

    single = torch.cat([encoder(one) for one in split(batch, GRIDS)])
    (single * weight).sum().backward()
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-6)
    single_gradients = gradients(encoder)
    assert packed_gradients.keys() == {name for name, _ in encoder.named_parameters()}
    for name, gradient in packed_gradients.items():
        torch.testing.assert_close(gradient, single_gradients[name], rtol=1e-4, atol=1e-5)


def test_an_image_is_blind_to_the_others_in_its_batch() -> None:
    encoder = make()
    batch = features(GRIDS)
    changed = batch.tensors["pixel_values"].clone()
    changed[: 4 * 6] += 1  # the first image
    with torch.no_grad():
        before, after = encoder(batch), encoder(features(GRIDS, changed))
    assert not torch.allclose(before[:6], after[:6], atol=1e-3)
    torch.testing.assert_close(before[6:], after[6:])


def test_every_token_has_unit_length() -> None:
    with torch.no_grad():
        embeds = make()(features(GRIDS))
    torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(len(embeds)))


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


def test_tables_cached_under_inference_mode_serve_training() -> None:
    encoder = make(window_size=16)
    grids = [(1, 14, 6), (1, 6, 14)]  # seen by no other test
    with torch.inference_mode():
        expected = encoder(features(grids, torch.ones(168, 96)))
    actual = encoder(features(grids, torch.ones(168, 96)))
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


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depth": None}, "vision_config has no 'depth'; it cannot be guessed"),
        ({"hidden_act": "relu"}, "vision_config.hidden_act must be 'silu', not 'relu'"),
        ({"num_heads": 3}, "vision_config.hidden_size 32 must be a multiple of 4 [*] num_heads"),
        (
            {"window_size": 4},
            "vision_config.window_size 4 must hold at least one merged token of 8",
        ),
    ],
)
def test_bad_configuration(change: dict[str, Any], sentence: str) -> None:
    vision = {k: v for k, v in {**VISION, **change}.items() if v is not None}
    with pytest.raises(BadConfig, match=sentence):
        QwenVisionEncoder.from_config({**CONFIG, "vision_config": vision}, {})


def test_a_config_without_sight() -> None:
    with pytest.raises(BadConfig, match=r"config\.json has no 'vision_config'"):
        QwenVisionEncoder.from_config({"llm_config": {"hidden_size": 8}, "mlp_depth": 2}, {})
