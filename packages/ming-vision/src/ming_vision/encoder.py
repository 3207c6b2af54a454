"""Images to backbone embeddings: tower, projector, unit length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn
from torch.nn import functional as F

from ming_core.fields import DEPTH, WIDTH, Section
from ming_core.model.encoder import Features
from ming_vision import qwen2_5_vit, qwen3_moe_vit
from ming_vision.processing import ImageProcessor


class Tower(Protocol):
    """An `nn.Module` from packed patches to merged tokens, in the order of the items."""

    out_width: int

    @classmethod
    def from_section(cls, section: Mapping[str, Any] | Section) -> Any:
        """From a `vision_config`. Raises BadConfig."""

    def __call__(self, pixel_values: Tensor, grid: Tensor) -> Tensor:
        """pixel_values [N, C*t*p*p] and grid [items, 3] -> [N / merge^2, out_width]."""
        ...


class VisionEncoder(nn.Module):
    """A tower at native resolution and its projector, tensors `vision.*` and `linear_proj.*`.

    Subclasses name the tower. None of them keeps a buffer that a checkpoint lacks, so a module
    built on `meta` is complete once its weights are assigned.
    """

    modality = "image"
    needs_preprocessor = True
    tower: ClassVar[type[Tower]]

    def __init__(
        self,
        vision: nn.Module,
        width: int,
        hidden_size: int,
        mlp_depth: int,
        processor: ImageProcessor,
    ) -> None:
        """width: channels of a token that leaves `vision`; hidden_size: those of the backbone."""
        super().__init__()
        self.processor = processor
        self.vision = vision
        self.linear_proj = projector(width, hidden_size, mlp_depth)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Self:
        """From a whole released config.json and preprocessor_config.json (or {})."""
        section, hidden_size, mlp_depth = vision_sizes(config)
        vision = cls.tower.from_section(section)
        processor = ImageProcessor.from_config(section, preprocessor)
        return cls(vision, vision.out_width, hidden_size, mlp_depth, processor)

    def forward(self, features: Features) -> Tensor:
        """`pixel_values` and the grid -> unit vectors [sum(tokens), hidden_size]."""
        if features.grid is None:
            raise ValueError("image features need their grid")
        merged = self.vision(features.tensors["pixel_values"], features.grid)
        return unit_length(self.linear_proj(merged))


class QwenVisionEncoder(VisionEncoder):
    """`qwen2_5_vit`: Lite 1.0, Lite 1.5, Uni and nano."""

    tower = qwen2_5_vit.VisionTower


class Qwen3VisionEncoder(VisionEncoder):
    """`qwen3_moe_vit`: Flash 2.0."""

    tower = qwen3_moe_vit.VisionTower


def vision_sizes(config: Mapping[str, Any]) -> tuple[Section, int, int]:
    """The `vision_config`, the width of the backbone and the depth of the projector.

    Raises BadConfig for a config.json without them.
    """
    whole = Section(config, "config.json")
    width = whole.section("llm_config").whole("hidden_size", most=WIDTH)
    return whole.section("vision_config"), width, whole.whole("mlp_depth", most=DEPTH)


def projector(width: int, hidden_size: int, depth: int) -> nn.Sequential:
    """Linear, then (depth - 1) times exact GELU and Linear; named as in every release."""
    layers: list[nn.Module] = [nn.Linear(width, hidden_size)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(hidden_size, hidden_size)]
    return nn.Sequential(*layers)


def unit_length(x: Tensor) -> Tensor:
    """Every token [..., D] at L2 norm 1, the scale at which the backbones met visual tokens."""
    return F.normalize(x, dim=-1, eps=1e-12)
