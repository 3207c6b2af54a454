"""Routed experts, stored stacked, and their dispatch: one differentiable path for everything.

Tokens are sorted by expert, so that each expert works on one contiguous slice with one fused
gate-and-up product; results return to their tokens by a gather. Training and inference, prefill
and decode run the same code, and experts without tokens cost nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for the two halves of the last axis."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate) * up


class _Scatter(torch.autograd.Function):
    """Rows of x [N, D] in expert order, each k times: [N*k, D].

    `order` lists the N*k (token, choice) pairs by expert, `back` is its inverse. The generic
    backward of indexing accumulates row by row; a permutation only needs its inverse.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(back)
        ctx.k = k
        return x.index_select(0, order // k)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (back,) = ctx.saved_tensors
        return grads[0].index_select(0, back).unflatten(0, (-1, ctx.k)).sum(1), None, None, None


class _Gather(torch.autograd.Function):
    """Rows [N*k, D] in expert order back to (token, choice) order."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return y.index_select(0, back)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        return grads[0].index_select(0, order), None, None


class Experts(nn.Module):
    """E SwiGLU experts of width I.

    gate_up_proj [E, 2I, D] with the gate rows first, down_proj [E, D, I].
    """

    def __init__(self, num_experts: int, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(
            torch.empty(num_experts, 2 * intermediate_size, hidden_size)
        )
        self.down_proj = nn.Parameter(torch.empty(num_experts, hidden_size, intermediate_size))
        nn.init.normal_(self.gate_up_proj, std=hidden_size**-0.5)
        nn.init.normal_(self.down_proj, std=intermediate_size**-0.5)

    def forward(self, x: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """Sum of the chosen experts' outputs, weighted in float32 and cast back to x's dtype.

        x [N, D], expert index [N, K] int64, weights [N, K] float32 -> [N, D].
        """
        if x.shape[0] == 1:
            return self._one_token(x, index, weights)
        n, k = index.shape
        order = index.flatten().argsort(stable=True)
        counts = torch.bincount(index.flatten(), minlength=self.gate_up_proj.shape[0]).tolist()
        back = torch.empty_like(order)
        back[order] = torch.arange(n * k, device=order.device)
        slices = _Scatter.apply(x, order, back, k).split(counts)
        # unbind once: indexing one expert at a time would make autograd build a zero gradient of
        # the whole stack for every expert.
        experts = zip(slices, self.gate_up_proj.unbind(), self.down_proj.unbind(), strict=True)
        y = torch.cat([linear(swiglu(linear(s, up)), down) for s, up, down in experts if len(s)])
        y = _Gather.apply(y, order, back).view(n, k, -1).float()
        return torch.bmm(weights.unsqueeze(1), y).squeeze(1).to(x.dtype)

    def _one_token(self, x: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """Decode: K small experts read straight from the stack, no sorting."""
        y = torch.cat(
            [
                linear(swiglu(linear(x, self.gate_up_proj[e])), self.down_proj[e])
                for e in index[0].tolist()
            ]
        )
        return (weights @ y.float()).to(x.dtype)
