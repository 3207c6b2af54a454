"""Products with weight matrices, by oneDNN where torch would take something slower.

In float32 on CPU torch's `linear` calls the BLAS, which on AMD processors takes twice the time of
oneDNN, forward and backward (speed/moe_block.py). oneDNN's operator is the one that compiled
models call; it has no gradient of its own and knows nothing of autocast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_SMALL = 2**20
"""Multiplications below which the longer way to oneDNN costs more than it saves."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., in] times the transpose of weight [out, in], plus bias [out]."""
    if not _suits_onednn(x, weight):
        return functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        y = _Product.apply(x, weight)
        return y if bias is None else y + bias
    return _product(x, weight, bias)


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() * weight.shape[0] >= _SMALL
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        dx = _product(grads[0], weight.t()) if ctx.needs_input_grad[0] else None
        dw = None
        if ctx.needs_input_grad[1]:
            dw = _product(grads[0].flatten(0, -2).t(), x.flatten(0, -2).t())
        return dx, dw
