"""Routed experts, stored stacked, and their dispatch: one differentiable path for everything.

Tokens are sorted by expert, so that each expert works on one contiguous slice with one fused
gate-and-up product; results return to their tokens by a gather. Training and inference, prefill
and decode run the same code, and experts without tokens cost nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for the two halves of the last axis."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate) * up


class Experts(nn.Module):
    """E SwiGLU experts of width I: gate_up_proj [E, 2I, D] (gate rows first), down_proj [E, D, I]."""

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
        slices = x[order // k].split(counts)
        # unbind once: indexing one expert at a time would make autograd build a zero gradient of
        # the whole stack for every expert.
        experts = zip(slices, self.gate_up_proj.unbind(), self.down_proj.unbind(), strict=True)
        y = torch.cat([linear(swiglu(linear(s, up)), down) for s, up, down in experts if len(s)])
        back = torch.empty_like(order)
        back[order] = torch.arange(n * k, device=order.device)
        y = y[back].view(n, k, -1).float()
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
