"""Rotary positions: 1-D (Lite 1.0), MRoPE (Lite 1.5) and VideoRoPE (Flash).

All rotate half-split ("NeoX") pairs: channel i with channel i + R/2, frequency theta^(-2i/R). They
differ only in which of the three position axes (time, height, width) drives a frequency, so the
kind is a table `axis[i]`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ming_core.config import RopeConfig


def frequency_axes(rope: RopeConfig) -> list[int]:
    """Position axis (0 time, 1 height, 2 width) of each of the R/2 frequencies, fastest first.

    MRoPE gives time the fastest frequencies, then height, then width. VideoRoPE alternates height
    and width over the fast ones and leaves the slowest to time (Flash report, section 2).
    """
    time, height, width = rope.sections
    if rope.kind == "video_rope":
        return [1, 2] * height + [0] * time
    return [0] * time + [1] * height + [2] * width


class Rotary:
    """Angle tables on demand; a plain object, so that no cast of a module touches its float32."""

    def __init__(self, rope: RopeConfig) -> None:
        self.rope = rope
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def _table(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._tables:
            half = self.rope.rotary_dim // 2
            exponent = torch.arange(half, dtype=torch.float32, device=device) / half
            frequency = 1.0 / self.rope.theta**exponent
            axes = torch.tensor(frequency_axes(self.rope), device=device)
            self._tables[device] = frequency, axes
        return self._tables[device]

    def __call__(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """position_ids [3, B, T] int64 -> cos, sin [B, 1, T, R/2] float32."""
        frequency, axes = self._table(position_ids.device)
        position = position_ids.float()[axes].permute(1, 2, 0)  # [B, T, R/2]
        angle = (position * frequency).unsqueeze(1)
        return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first R channels of x [B, H, T, d] in float32 and return x's dtype."""
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    first, second = first.float(), second.float()
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return torch.cat((rotated.to(x.dtype), rest), dim=-1)
