"""Feed-forward layers: the dense SwiGLU, and the mixture of experts with a router per modality."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ming_core.model.config import BackboneConfig
from ming_core.model.kernels.experts import mix_experts, swiglu
from ming_core.model.layers import Linear
from ming_core.model.routing import Gate, Routing, route


class MLP(nn.Module):
    """SwiGLU with one fused gate-and-up matrix [2I, D]."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_up_proj = Linear(hidden_size, 2 * intermediate_size, bias=False)
        self.down_proj = Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(self.gate_up_proj(x)))


class Experts(nn.Module):
    """E SwiGLU experts of width I, stored stacked.

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
        """sum_k w_k Expert_k(x): x [N, D], expert index and weights [N, K] -> [N, D]."""
        return mix_experts(x, index, weights, self.gate_up_proj, self.down_proj)


class ModalityMoE(nn.Module):
    """sum_k w_k Expert_k(x) + Shared(x), the experts chosen by the router of x's modality."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.router = config.router
        self.gate_names = config.gates
        for name in self.gate_names:
            biased = config.router.kind == "grouped_sigmoid"
            setattr(self, name, Gate(config.hidden_size, config.num_experts, biased))
        self.experts = Experts(config.num_experts, config.hidden_size, config.moe_intermediate_size)
        self.shared_experts = (
            MLP(config.hidden_size, config.moe_intermediate_size * config.num_shared_experts)
            if config.num_shared_experts
            else None
        )

    @property
    def gates(self) -> list[Gate]:
        return [getattr(self, name) for name in self.gate_names]

    def forward(self, x: Tensor, modality_ids: Tensor | None) -> tuple[Tensor, Routing]:
        """x [B, T, D], modality_ids [B, T] int64 or None (text) -> output [B, T, D], routing."""
        flat = x.flatten(0, 1)
        ids = None if modality_ids is None else modality_ids.flatten()
        routing = route(flat, self.gates, self.router, ids)
        y = self.experts(flat, routing.index, routing.weights).view_as(x)
        if self.shared_experts is not None:
            y = y + self.shared_experts(x)
        return y, routing
