"""RMSNorm, with gradients of its own where torch composes it of small operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight [D] * x / sqrt(mean(x^2) + eps) over the last axis of x [..., D]; x's dtype.

    Statistics and product are float32 and the result is rounded once.
    """
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return _RMSNorm.apply(x, weight, eps)
    return functional.rms_norm(x, x.shape[-1:], weight, eps)


class _RMSNorm(torch.autograd.Function):
    """The norm with its gradients written out.

    On CPU torch composes the norm of small operations. Forward and backward of 6656 rows of 192
    take a third (float32) or half (bfloat16) of its time here; inference gains nothing.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        scale = torch.rsqrt(length.square_().div_(x.shape[-1]).add_(eps))
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        wide = weight.to(scale.dtype)
        normed = x * scale
        slope = grads[0] * normed
        along = (slope @ wide).unsqueeze(-1).div_(x.shape[-1])
        dx = (grads[0] * wide).sub_(normed.mul_(along)).mul_(scale)
        return dx.to(x.dtype), slope.flatten(0, -2).sum(0).to(weight.dtype), None
