"""The `vision_config` section of config.json, one class for each tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, Self

from ming_core.errors import BadConfig
from ming_core.fields import LAYERS, MERGE, WIDTH, Section

PATCH = 256
"""Most pixels of a patch's side, frames of a patch, and channels of a pixel."""


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """What every tower at native resolution has; field names are the released ones.

    patch_size: pixels. temporal_patch_size: frames of one patch.
    """

    depth: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    in_channels: int = 3
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2

    def __post_init__(self) -> None:
        if self.hidden_size % (4 * self.num_heads):
            raise BadConfig(
                f"vision_config.hidden_size {self.hidden_size} must be a multiple of "
                f"4 * num_heads = {4 * self.num_heads} (two rotary axes of paired channels)"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def patch_width(self) -> int:
        """Numbers in one patch, a row of `pixel_values`."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def merged_width(self) -> int:
        """Channels of the neighbouring patches that become one token."""
        return self.hidden_size * self.spatial_merge_size**2

    @classmethod
    def from_dict(cls, section: Mapping[str, Any] | Section) -> Self:
        """Read a `vision_config`; unknown keys are ignored.

        Raises BadConfig for a missing field and for a value that cannot be used.
        """
        if not isinstance(section, Section):
            section = Section(section, "vision_config")
        return cls(**cls._read(section))

    @classmethod
    def _read(cls, section: Section) -> dict[str, Any]:
        """The values of the fields; a class with more of them adds its own."""
        return {
            "depth": section.whole("depth", most=LAYERS),
            "hidden_size": section.whole("hidden_size", most=WIDTH),
            "num_heads": section.whole("num_heads", most=WIDTH),
            "intermediate_size": section.whole("intermediate_size", most=WIDTH),
            "in_channels": section.whole("in_channels", cls.in_channels, most=PATCH),
            "patch_size": section.whole("patch_size", cls.patch_size, most=PATCH),
            "temporal_patch_size": section.whole(
                "temporal_patch_size", cls.temporal_patch_size, most=PATCH
            ),
            "spatial_merge_size": section.whole(
                "spatial_merge_size", cls.spatial_merge_size, most=MERGE
            ),
        }


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TowerConfig):
    """Sizes of the `qwen2_5_vit` tower.

    window_size: pixels. out_hidden_size: width of a merged token.
    fullatt_block_indexes: blocks that attend over a whole frame instead of a window.
    """

    out_hidden_size: int
    fullatt_block_indexes: tuple[int, ...]
    window_size: int = 112

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise BadConfig(
                f"vision_config.window_size {self.window_size} must hold at least one merged token "
                f"of {self.patch_size * self.spatial_merge_size} pixels"
            )

    @classmethod
    def _read(cls, section: Section) -> dict[str, Any]:
        section.fixed("hidden_act", "silu")
        values = super()._read(section)
        blocks = section.wholes("fullatt_block_indexes", most=values["depth"] - 1)
        return {
            **values,
            "out_hidden_size": section.whole("out_hidden_size", most=WIDTH),
            "fullatt_block_indexes": blocks,
            "window_size": section.whole("window_size", cls.window_size, most=WIDTH),
        }

    @property
    def window(self) -> int:
        """Side of a window in merged tokens."""
        return self.window_size // self.spatial_merge_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class Qwen3VisionConfig(TowerConfig):
    """Sizes of the `qwen3_moe_vit` tower.

    out_hidden_size: width of a merged token. num_position_embeddings: learned positions, a square.
    deepstack_visual_indexes: blocks behind which the dormant mergers sit.
    """

    out_hidden_size: int
    num_position_embeddings: int
    deepstack_visual_indexes: tuple[int, ...]
    patch_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.position_side**2 != self.num_position_embeddings:
            raise BadConfig(
                f"vision_config.num_position_embeddings {self.num_position_embeddings} must be a "
                "square number: the positions are a square grid"
            )

    @classmethod
    def _read(cls, section: Section) -> dict[str, Any]:
        section.fixed("hidden_act", "gelu_pytorch_tanh")
        values = super()._read(section)
        blocks = section.wholes("deepstack_visual_indexes", most=values["depth"] - 1)
        return {
            **values,
            "out_hidden_size": section.whole("out_hidden_size", most=WIDTH),
            "num_position_embeddings": section.whole("num_position_embeddings", most=WIDTH),
            "deepstack_visual_indexes": blocks,
        }

    @property
    def position_side(self) -> int:
        """Rows, and columns, of the grid of learned positions."""
        return isqrt(self.num_position_embeddings)
