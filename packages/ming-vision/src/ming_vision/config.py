"""The `vision_config` section of config.json, one class for each tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from math import isqrt
from typing import Any, Self

from ming_core.errors import BadConfig


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
    def from_dict(cls, section: Mapping[str, Any]) -> Self:
        """Read a `vision_config`; unknown keys are ignored. Raises BadConfig for a missing one."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in section:
                value = section[field.name]
                values[field.name] = tuple(value) if isinstance(value, list) else value
            elif field.default is MISSING:
                raise BadConfig(f"vision_config has no {field.name!r}; it cannot be guessed")
        return cls(**values)

    def _check_act(self, act: str, known: str) -> None:
        if act != known:
            raise BadConfig(f"vision_config.hidden_act must be {known!r}, not {act!r}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TowerConfig):
    """Sizes of the `qwen2_5_vit` tower.

    window_size: pixels. out_hidden_size: width of a merged token.
    fullatt_block_indexes: blocks that attend over a whole frame instead of a window.
    """

    out_hidden_size: int
    fullatt_block_indexes: tuple[int, ...]
    window_size: int = 112
    hidden_act: str = "silu"

    def __post_init__(self) -> None:
        self._check_act(self.hidden_act, "silu")
        super().__post_init__()
        if self.window < 1:
            raise BadConfig(
                f"vision_config.window_size {self.window_size} must hold at least one merged token "
                f"of {self.patch_size * self.spatial_merge_size} pixels"
            )

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
    hidden_act: str = "gelu_pytorch_tanh"

    def __post_init__(self) -> None:
        self._check_act(self.hidden_act, "gelu_pytorch_tanh")
        super().__post_init__()
        if self.position_side**2 != self.num_position_embeddings:
            raise BadConfig(
                f"vision_config.num_position_embeddings {self.num_position_embeddings} must be a "
                "square number: the positions are a square grid"
            )

    @property
    def position_side(self) -> int:
        """Rows, and columns, of the grid of learned positions."""
        return isqrt(self.num_position_embeddings)
