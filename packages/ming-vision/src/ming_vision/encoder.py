"""Images to backbone embeddings: tower, projector, unit length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional as F

from ming_core.errors import BadConfig
from ming_core.model.encoder import Features
from ming_vision.config import VisionConfig
from ming_vision.processing import ImageProcessor
from ming_vision.qwen2_5_vit import VisionTower


class QwenVisionEncoder(nn.Module):
    """The `qwen2_5_vit` tower with its projector, tensors `vision.*` and `linear_proj.*`.

    It keeps no buffers: a module built on `meta` is complete once its weights are assigned.
    """

    modality = "image"

    def __init__(
        self, config: VisionConfig, hidden_size: int, mlp_depth: int, processor: ImageProcessor
    ) -> None:
        super().__init__()
        self.processor = processor
        self.vision = VisionTower(config)
        self.linear_proj = projector(config.out_hidden_size, hidden_size, mlp_depth)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Self:
        """From a whole released config.json and preprocessor_config.json (or {})."""
        try:
            vision = config["vision_config"]
            hidden_size = config["llm_config"]["hidden_size"]
            mlp_depth = config["mlp_depth"]
        except KeyError as error:
            raise BadConfig(f"config.json has no {error}; an image encoder needs it") from error
        return cls(
            VisionConfig.from_dict(vision),
            hidden_size,
            mlp_depth,
            ImageProcessor.from_config(vision, preprocessor),
        )

    def forward(self, features: Features) -> Tensor:
        """`pixel_values` [N, C*t*p*p] and the grid -> unit vectors [sum(tokens), hidden_size]."""
        if features.grid is None:
            raise ValueError("image features need their grid")
        merged = self.vision(features.tensors["pixel_values"], features.grid)
        return unit_length(self.linear_proj(merged))


def projector(width: int, hidden_size: int, depth: int) -> nn.Sequential:
    """Linear, then (depth - 1) times exact GELU and Linear; named as in every release."""
    layers: list[nn.Module] = [nn.Linear(width, hidden_size)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(hidden_size, hidden_size)]
    return nn.Sequential(*layers)


def unit_length(x: Tensor) -> Tensor:
    """Every token [..., D] at L2 norm 1, the scale at which the backbones met visual tokens."""
    return F.normalize(x, dim=-1, eps=1e-12)
