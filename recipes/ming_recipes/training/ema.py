"""A moving average of the weights, which is often better than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


class Average:
    """The moving average of trained weights, in float32."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = dict(parameters), decay
        self.values = {name: _copy(p) for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, optimizer: Optimizer) -> None:
        """Take in the weights after a step. Of rounded weights it takes the float32 masters."""
        for name, parameter in self.parameters.items():
            master = optimizer.state.get(parameter, {}).get("master", parameter)
            self.values[name].lerp_(master.detach().float(), 1 - self.decay)

    @contextmanager
    def used(self) -> Iterator[None]:
        """The model has the average as its weights while the block runs."""
        own = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._write(self.values)
        try:
            yield
        finally:
            self._write(own)

    def state(self) -> dict[str, Tensor]:
        """Whole tensors to save; every process must call it if weights are sharded."""
        return {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in self.values.items()
        }

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from what was saved. Raises KeyError for a weight that is missing."""
        for name, value in self.values.items():
            whole = values[name].to(value.device)
            if isinstance(value, DTensor):
                mesh, placements = value.device_mesh, value.placements
                whole = distribute_tensor(whole, mesh, placements, src_data_rank=None)
            value.copy_(whole)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])


def _copy(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().clone().float()
