"""Ming-Lite-Uni: what its encoder sees, and the layout of the query tokens behind the prompt.

The release keeps the tower in a folder of its own, without a prefix, and the projector beside the
queries; here they are one encoder, `qwen2_5_vit`. The layout is index arithmetic on the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ming_core.model.encoder import Features
from ming_core.testing import Check, GoldenCase
from ming_core.training.labels import IGNORED
from ming_vision.encoder import QwenVisionEncoder

from ._common import check_released


def _encoder(case: GoldenCase) -> QwenVisionEncoder:
    config = {name: case.config[name] for name in ("vision_config", "mlp_depth")}
    config["llm_config"] = {"hidden_size": case.config["hidden_size"]}
    check_released(config["vision_config"], "vision_config")
    encoder = QwenVisionEncoder.from_config(config, {})
    weights = {k.replace("qwen2_5_vit.", "vision.", 1): v for k, v in case.weights.items()}
    own = {k: v for k, v in weights.items() if k.startswith(("vision.", "linear_proj."))}
    encoder.load_state_dict(own, strict=True)
    return encoder


def _reply(scales: Sequence[int], patch: int, start: int, end: int) -> list[int]:
    """Ids behind a trailing start token: scale^2 patches and an end for each scale."""
    ids: list[int] = []
    for scale in scales:
        ids += [start] + [patch] * scale**2 + [end]
    return ids[1:]


@torch.no_grad()
def run(case: GoldenCase) -> Iterator[Check]:
    config, expected = case.config, case.outputs
    encoder = _encoder(case)
    seen = torch.zeros(0, config["hidden_size"])
    grids: list[Tensor] = []
    if "pixel_values" in case.inputs:
        grid = case.inputs["image_grid_thw"]
        pixels = {"pixel_values": case.inputs["pixel_values"]}
        merged = encoder.vision(pixels["pixel_values"], grid)
        seen = encoder(Features("image", pixels, grid, [len(merged)]))
        grids.append(grid)
        yield Check("vision_embeds", merged, expected["vision_embeds"])
        yield Check("image_embeds", seen, expected["image_embeds"])

    patch, start = config["image_patch_token"], config["image_start_token"]
    prompt = case.inputs["input_ids"][0].tolist()
    reply = _reply(config["scales"], patch, start, config["image_end_token"])
    ids = torch.tensor([prompt + reply])
    yield Check("input_ids", ids, expected["input_ids"])
    labels = torch.tensor([[IGNORED] * (len(prompt) - 1) + [start, *reply]])
    yield Check("labels", labels, expected["labels"])
    strips = torch.tensor([[1, 2, 2 * scale**2] for scale in config["scales"]])
    yield Check("image_grid_thw", torch.cat([*grids, strips]), expected["image_grid_thw"])
    queries = [case.weights[f"query_tokens_dict.{s}x{s}"] for s in config["scales"]]
    yield Check("query_embeds_image", torch.cat([seen, *queries]), expected["query_embeds_image"])
    # The places of patches behind the prompt are those of queries.
    places = (ids[0] == patch).nonzero().flatten()
    yield Check("gen_mask", places >= len(prompt), expected["gen_mask"])
