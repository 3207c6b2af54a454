"""How the parts of a model are sharded: a plan for each component.

A layer of the language model, a block of a tower, the rest of an encoder with its projector, the
embeddings and the output matrix are groups of FSDP2: each is gathered when it runs and no longer.
Weights are computed with in `compute` (bfloat16); what is kept, reduced and updated is float32.
Norms and routers of the language model are float32 islands, and a router's selection bias is a
buffer, which every process has whole.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from ming_core.model.layers import RMSNorm
from ming_core.model.moe import ModalityMoE
from ming_core.model.omni import Omni
from ming_core.model.transformer import Backbone, DecoderLayer
from ming_recipes.training import tensor_parallel

METHODS = ("training_step", "validation_step")
"""Methods of a module inside of which its weights may be used."""


def shard(root: nn.Module, omni: Omni, mesh: DeviceMesh, compute: torch.dtype) -> None:
    """Shard `omni`, which lies in `root`, and the rest of `root` over a mesh.

    mesh: with the dimensions "data_parallel" and "tensor_parallel", as Lightning's
    ModelParallelStrategy has it. Works on `meta` and on real weights; trainable parameters become
    float32, frozen ones `compute`. What is trainable and what an adapter adds must be settled.
    Afterwards weights can be used inside of the `METHODS` of `root` only.
    """
    # A layer returns its router logits as a view, and nobody changes them in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    # Nor is it news that a state is gathered in two dimensions.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    keep_exact(omni, compute)
    if mesh["tensor_parallel"].size() > 1:
        tensor_parallel.split(omni.backbone, mesh["tensor_parallel"])
    data = mesh["data_parallel"]
    # Inputs are never cast: rotary angles and router weights are float32 in bfloat16 layers, too.
    island = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    policy = MixedPrecisionPolicy(
        param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for modules in _islands(omni.backbone):
        # They are small and stay gathered until the backward is through.
        fully_shard(modules, mesh=data, mp_policy=island, reshard_after_forward=False)
    for module in _groups(omni):
        fully_shard(module, mesh=data, mp_policy=policy)
    fully_shard(root, mesh=data, mp_policy=island)
    for name in METHODS:
        if hasattr(root, name):
            register_fsdp_forward_method(root, name)


def keep_exact(omni: Omni, compute: torch.dtype) -> None:
    """Trainable parameters in float32, frozen ones in `compute` but for those of islands."""
    exact = {
        parameter
        for modules in _islands(omni.backbone)
        for module in modules
        for parameter in module.parameters()
    }
    for module in omni.modules():
        for name, old in module._parameters.items():
            if old is None or not old.is_floating_point():
                continue
            wanted = torch.float32 if old.requires_grad or old in exact else compute
            if old.dtype != wanted:
                new = nn.Parameter(old.detach().to(wanted), requires_grad=old.requires_grad)
                module.register_parameter(name, new)


def _islands(backbone: Backbone) -> Iterator[list[nn.Module]]:
    """Norms and routers of each layer; each list of modules is one group."""
    for layer in backbone.layers:
        assert isinstance(layer, DecoderLayer)
        yield [module for module in layer.modules() if isinstance(module, RMSNorm)]
        if isinstance(layer.mlp, ModalityMoE):
            yield list(layer.mlp.gates)  # with an adapter around them, if they have one


def _groups(omni: Omni) -> Iterator[nn.Module]:
    """What is gathered at once, inner ones first."""
    yield from blocks(omni)
    yield from (omni.backbone.word_embeddings, omni.backbone.lm_head)
    yield from omni.encoders.values()


def blocks(omni: Omni) -> Iterator[nn.Module]:
    """The layers of the language model and the blocks of the towers.

    A tower has its blocks in a ModuleList whose modules are all of one class.
    """
    yield from omni.backbone.layers
    for encoder in omni.encoders.values():
        for stack in encoder.modules():
            if type(stack) is nn.ModuleList and len({type(block) for block in stack}) == 1:
                yield from stack
