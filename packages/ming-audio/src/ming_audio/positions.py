"""Sinusoidal positions of both towers: sines in the first half of the channels, then cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(
    first: int,
    count: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Positions first, first + 1, ... -> [count, width], computed in `dtype` step by step.

    Half precision rounds positions above 256; only released SANM inference does that.
    """
    half = width // 2
    step = torch.tensor(math.log(10_000.0), dtype=dtype, device=device) / max(half - 1, 1)
    frequency = torch.exp(torch.arange(half, device=device).to(dtype) * -step)
    angle = torch.arange(first, first + count, device=device).to(dtype)[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), dim=1)
