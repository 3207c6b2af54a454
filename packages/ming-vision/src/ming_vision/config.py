"""The `vision_config` section of a released config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from ming_core.errors import BadConfig


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the `qwen2_5_vit` tower; field names are the released ones.

    patch_size, window_size: pixels. out_hidden_size: width of a merged token.
    fullatt_block_indexes: blocks that attend over a whole frame instead of a window.
    """

    depth: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    out_hidden_size: int
    fullatt_block_indexes: tuple[int, ...]
    in_channels: int = 3
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    window_size: int = 112
    hidden_act: str = "silu"

    def __post_init__(self) -> None:
        if self.hidden_act != "silu":
            raise BadConfig(f"vision_config.hidden_act must be 'silu', not {self.hidden_act!r}")
        if self.hidden_size % (4 * self.num_heads):
            raise BadConfig(
                f"vision_config.hidden_size {self.hidden_size} must be a multiple of "
                f"4 * num_heads = {4 * self.num_heads} (two rotary axes of paired channels)"
            )
        if self.window < 1:
            raise BadConfig(
                f"vision_config.window_size {self.window_size} must hold at least one merged token "
                f"of {self.patch_size * self.spatial_merge_size} pixels"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def window(self) -> int:
        """Side of a window in merged tokens."""
        return self.window_size // self.spatial_merge_size // self.patch_size

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> VisionConfig:
        """Read a `vision_config`; unknown keys are ignored. Raises BadConfig for a missing one."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in section:
                values[field.name] = section[field.name]
            elif field.default is MISSING:
                raise BadConfig(f"vision_config has no {field.name!r}; it cannot be guessed")
        values["fullatt_block_indexes"] = tuple(values["fullatt_block_indexes"])
        return cls(**values)
