"""Layers that all modules share: products with a matrix, and RMSNorm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ming_core.model.kernels.norms import rms_norm
from ming_core.model.kernels.products import linear


class Linear(nn.Linear):
    """y = x W^T + b, with weight [out, in] and bias [out] as torch's module has them."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class RMSNorm(nn.Module):
    """y = weight * x / sqrt(mean(x^2) + eps) over the last axis.

    Statistics and product are float32 and the result is rounded once, as in Lite 1.5. (1.0 and
    Flash round before the weight too: one rounding of half precision, nothing in float32.)
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)
