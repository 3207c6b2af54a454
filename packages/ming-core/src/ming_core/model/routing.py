"""Routers: they choose the experts of a token and their weights. Everything here is float32.

Each modality has a router. All routers choose among the same experts, and a token is scored by the
router of its own modality only (Ming-Omni report, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ming_core.model.config import RouterConfig


def softmax_topk(logits: Tensor, k: int, norm: bool = True) -> tuple[Tensor, Tensor]:
    """Lite 1.0 and 1.5: the k most probable experts, renormalised to sum 1 if `norm`.

    logits [N, E] -> weights [N, k], expert index [N, k] int64.
    """
    weights, index = logits.softmax(dim=-1).topk(k, dim=-1)
    if norm and k > 1:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights, index


def grouped_sigmoid_topk(
    logits: Tensor, bias: Tensor, k: int, n_group: int, topk_group: int, scaling: float
) -> tuple[Tensor, Tensor]:
    """Flash (as DeepSeek-V3): choose by sigmoid(logits) + bias inside the best expert groups.

    A group's score is the sum of its two best biased scores; weights are the unbiased scores of
    the chosen experts, normalised and multiplied by `scaling`.
    logits [N, E], bias [E] or [N, E] -> weights [N, k], expert index [N, k] int64.
    """
    scores = logits.sigmoid()
    choice = (scores + bias).detach()
    if topk_group < n_group:
        groups = choice.unflatten(-1, (n_group, -1))
        best = groups.topk(min(2, groups.shape[-1]), dim=-1).values.sum(-1)
        kept = torch.zeros_like(best, dtype=torch.bool)
        kept.scatter_(-1, best.topk(topk_group, dim=-1).indices, True)
        choice = groups.masked_fill(~kept.unsqueeze(-1), float("-inf")).flatten(-2)
    index = choice.topk(k, dim=-1).indices
    weights = scores.gather(-1, index)
    weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20) * scaling
    return weights, index


class Gate(nn.Module):
    """The router of one modality: weight [E, D] and, for sigmoid routers, a selection bias [E].

    A rule of training moves the bias in steps of 0.001; it has no gradient. The bias stays float32,
    even if the model is cast to half precision.
    """

    expert_bias: Tensor | None

    def __init__(self, hidden_size: int, num_experts: int, biased: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size))
        nn.init.normal_(self.weight, std=hidden_size**-0.5)
        bias = torch.zeros(num_experts, dtype=torch.float32) if biased else None
        self.register_buffer("expert_bias", bias)

    def forward(self) -> Tensor:
        """Its weight [E, D]. What shards or adapts a module does so around its `forward`."""
        return self.weight

    def _apply(self, fn, recurse=True):
        bias = self.expert_bias
        super()._apply(fn, recurse)
        moved = self.expert_bias
        if bias is not None and moved is not None and moved.dtype != torch.float32:
            # Follow the move to a device, undo the cast.
            self.expert_bias = bias.to(moved.device)
        return self


@dataclass(frozen=True)
class Routing:
    """The choices of one mixture layer for N tokens. The balancing losses and rules need them."""

    logits: Tensor  # [N, E] float32, of the router that scored the token
    index: Tensor  # [N, K] int64
    weights: Tensor  # [N, K] float32


def route(
    x: Tensor, gates: list[Gate], router: RouterConfig, modality_ids: Tensor | None
) -> Routing:
    """Score x [N, D] by the gate of each token's modality; None means text throughout.

    The logits of all gates are one small product, and each token keeps those of its own gate. So
    shapes are static, the CPU never waits for the GPU, and a gate gets a gradient from its own
    tokens only.
    """
    if modality_ids is None or len(gates) == 1:
        gates, modality_ids = gates[:1], None
    weight = torch.cat([gate() for gate in gates]) if len(gates) > 1 else gates[0]()
    with torch.autocast(x.device.type, enabled=False):
        logits = x.float() @ weight.float().T
    if modality_ids is not None:
        own = modality_ids.view(-1, 1, 1).expand(-1, 1, logits.shape[-1] // len(gates))
        logits = logits.unflatten(-1, (len(gates), -1)).gather(1, own).squeeze(1)
    if router.kind == "softmax":
        weights, index = softmax_topk(logits, router.top_k, router.norm)
        return Routing(logits, index, weights)
    biases = [gate.expert_bias for gate in gates if gate.expert_bias is not None]
    bias = biases[0] if modality_ids is None else torch.stack(biases)[modality_ids]
    weights, index = grouped_sigmoid_topk(
        logits, bias, router.top_k, router.n_group, router.topk_group, router.scaling
    )
    return Routing(logits, index, weights)
