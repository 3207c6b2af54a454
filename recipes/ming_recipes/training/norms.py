"""The norm of gradients, and clipping by it, wherever the gradients lie."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The L2 norm of all gradients together, a float32 scalar that is equal in all processes.

    Gradients may be whole or shards, and shards may lie on different meshes. torch's function wants
    all of them on one mesh.
    """
    sums: dict[tuple[dist.ProcessGroup, ...], Tensor] = {}
    for parameter in parameters:
        if (gradient := parameter.grad) is None:
            continue
        groups = _sharing(gradient) if isinstance(gradient, DTensor) else ()
        square = torch.linalg.vector_norm(_local(gradient), dtype=torch.float32).square()
        sums[groups] = sums[groups] + square if groups in sums else square
    for groups, total in sums.items():
        for group in groups:
            dist.all_reduce(total, group=group)
    return torch.stack(list(sums.values())).sum().sqrt() if sums else torch.zeros(())


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale gradients down to a norm of at most `most`; returns the norm that they had."""
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    share = (most / (norm + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            gradient = _local(parameter.grad)
            gradient.mul_(share.to(gradient.device, gradient.dtype))
    return norm


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _sharing(tensor: DTensor) -> tuple[dist.ProcessGroup, ...]:
    """The groups of processes that hold different parts of a tensor."""
    mesh = tensor.device_mesh
    shards = [dim for dim, placement in enumerate(tensor.placements) if placement.is_shard()]
    return tuple(mesh.get_group(dim) for dim in shards if mesh.size(dim) > 1)
