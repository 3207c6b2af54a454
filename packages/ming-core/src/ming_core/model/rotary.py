"""Rotary positions: 1-D (Lite 1.0), MRoPE (Lite 1.5) and VideoRoPE (Flash).

All of them rotate pairs of channels: channel i with channel i + R/2, with the frequency
theta^(-2i/R). They differ in the position axis (time, height or width) that a frequency uses. So a
kind is a table `axis[i]`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ming_core.model.config import RopeConfig


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
    """Tables of angles, made when they are needed.

    It is no `nn.Module`, so a cast of the model to another dtype leaves its float32 alone.
    """

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
        """position_ids [3, B, T] int64 -> cos, sin [B, 1, T, R] float32, as `rotate` wants them."""
        frequency, axes = self._table(position_ids.device)
        position = position_ids.float()[axes].permute(1, 2, 0)  # [B, T, R/2]
        return rotation((position * frequency).unsqueeze(1))


def rotation(angle: Tensor) -> tuple[Tensor, Tensor]:
    """angle [..., R/2] -> cos and sin [..., R]; sin carries the sign of each half."""
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first R channels of x [..., d] in float32 and return x's dtype.

    Products of whole rows take two thirds of the time of products of halves, forward and backward.
    """
    width = cos.shape[-1]
    wide = x[..., :width].float()
    first, second = wide.chunk(2, dim=-1)
    turned = (wide * cos + torch.cat((second, first), dim=-1) * sin).to(x.dtype)
    return turned if width == x.shape[-1] else torch.cat((turned, x[..., width:]), dim=-1)
