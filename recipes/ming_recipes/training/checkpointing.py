"""Layers that keep only their input for the backward pass, and compute the rest a second time."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layers(model: nn.Module) -> int:
    """Let the layers of every stack in `model` compute twice; returns how many they are.

    A stack is a list of two or more modules of one class that consist of others, as language models
    and towers have. It takes about a third more time and much less memory.
    """
    count = 0
    for module in list(model.modules()):
        layers = list(module.children())
        same = len({type(layer) for layer in layers}) == 1
        stacked = isinstance(module, nn.ModuleList | nn.Sequential) and len(layers) > 1 and same
        if stacked and all(list(layer.children()) for layer in layers):
            for layer in layers:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
            count += len(layers)
    return count
