"""Muon for hidden matrices, AdamW for everything else, with float32 masters of smaller weights.

Muon (Jordan et al. 2024) orthogonalises the momentum of each matrix by five Newton-Schulz steps.
At nano size it reaches a given loss in a fraction of AdamW's samples. `torch.optim.Muon` takes
2-D parameters only; our experts are stacked [E, out, in], so the iteration here is batched.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic of the original, steepest at zero
_STEPS = 5


def orthogonalize(g: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrix, roughly: singular values of g [..., m, n] go to about 1."""
    a, b, c = _COEFFICIENTS
    x = g.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _orthogonal(g: Tensor) -> Tensor:
    """`orthogonalize`, float32, also of a matrix of which each process has a part."""
    if not isinstance(g, DTensor):
        return orthogonalize(g).float()
    whole = orthogonalize(g.full_tensor()).float()
    return distribute_tensor(whole, g.device_mesh, g.placements, src_data_rank=None)


class MuonAdamW(torch.optim.Optimizer):
    """Muon, scaled by 0.2 sqrt(longer side), in groups with `muon=True`; AdamW elsewhere."""

    def __init__(
        self,
        params: list[dict[str, Any]],
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "momentum": momentum,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state and parameter.dtype != torch.float32:
                    state["master"] = parameter.detach().float().clone()
                master = state.get("master", parameter)
                delta = update(parameter.grad.float(), state, group)
                master.mul_(1 - group["lr"] * group["weight_decay"]).sub_(delta)
                if master is not parameter:
                    parameter.copy_(master)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch, but the float32 state of bf16 parameters stays float32."""
        super().load_state_dict(state_dict)
        parameters = [p for group in self.param_groups for p in group["params"]]
        # A sharded state calls parameters by name, a whole one by number.
        keys = [key for group in state_dict["param_groups"] for key in group["params"]]
        owners = dict(zip(keys, parameters, strict=True))
        for key, saved in state_dict["state"].items():
            parameter = owners[key]
            self.state[parameter] = {
                name: value.to(parameter.device).clone() if isinstance(value, Tensor) else value
                for name, value in saved.items()
            }

    @staticmethod
    def _muon(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        buffer = state.setdefault("momentum", torch.zeros_like(grad))
        buffer.lerp_(grad, 1 - group["momentum"])
        direction = _orthogonal(grad.lerp(buffer, group["momentum"]))
        return direction.mul_(group["lr"] * 0.2 * math.sqrt(max(grad.shape[-2:])))

    @staticmethod
    def _adam(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        first = state.setdefault("first", torch.zeros_like(grad))
        second = state.setdefault("second", torch.zeros_like(grad))
        state["step"] = step = state.get("step", 0) + 1
        beta1, beta2 = group["betas"]
        first.lerp_(grad, 1 - beta1)
        second.lerp_(grad.square(), 1 - beta2)
        scale = math.sqrt(1 - beta2**step) / (1 - beta1**step)
        return first * (group["lr"] * scale) / (second.sqrt() + group["eps"])
