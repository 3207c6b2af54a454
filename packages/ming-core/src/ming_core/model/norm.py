"""RMSNorm with float32 statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """y = weight * x / sqrt(mean(x^2) + eps) over the last axis.

    The statistics are float32 and the normalised value is rounded to x's dtype before it meets the
    weight, as in Lite 1.0 and Flash (1.5 rounds after the product; the two differ by one rounding
    in half precision and not at all in float32).
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype) * self.weight
