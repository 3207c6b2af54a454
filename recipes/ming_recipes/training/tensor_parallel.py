"""Tensor parallelism of the language model: the processes of a group share every layer.

Each holds some heads of the attention and a part of the width of every feed-forward layer, in all
experts. The plan is Megatron's: a matrix whose rows are cut, then one whose columns are cut, and
one sum over the group. All processes of a group see the same tokens and route them in the same way;
norms and routers are whole in all of them.

The parameters are DTensors, so that an optimiser, a checkpoint and FSDP2 know what they are. Inside
of a module's forward they are plain local tensors: the layers of the core need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from ming_core.checkpoints.keymap import Slot
from ming_core.errors import BadConfig
from ming_core.model.config import BackboneConfig
from ming_core.model.moe import MLP, ModalityMoE
from ming_core.model.transformer import Backbone, DecoderLayer
from ming_recipes.training.shards import Cut, Place, held, pieces


def check(config: BackboneConfig, size: int) -> None:
    """Raises BadConfig if `size` processes cannot share a layer of this language model."""
    widths = {
        "query heads": config.num_attention_heads,
        "key heads": config.num_key_value_heads,
        "channels of a feed-forward layer": config.intermediate_size,
        "channels of an expert": config.moe_intermediate_size,
        "channels of a hidden state": config.hidden_size,
        "entries of the vocabulary": config.vocab_size,
    }
    for what, count in widths.items():
        if count % size:
            raise BadConfig(
                f"tensor_parallel is {size}, which does not divide the {count} {what} of this "
                "model; take a number that divides it, or strategy.kind=fsdp2"
            )


def cuts_of(config: BackboneConfig, size: int) -> dict[str, Cut]:
    """The cut of every parameter that `size` processes share, by its name in the backbone."""
    if size == 1:
        return {}
    check(config, size)
    found = {
        "word_embeddings.weight": Cut(1, (config.hidden_size,)),
        "lm_head.weight": Cut(0, (config.vocab_size,)),
    }
    query, key = (
        heads * config.head_dim
        for heads in (config.num_attention_heads, config.num_key_value_heads)
    )
    expert = config.moe_intermediate_size
    for layer in range(config.num_hidden_layers):
        name = f"layers.{layer}."
        found[f"{name}attention.query_key_value.weight"] = Cut(0, (query, key, key))
        if config.qkv_bias:
            found[f"{name}attention.query_key_value.bias"] = Cut(0, (query, key, key))
        found[f"{name}attention.dense.weight"] = Cut(1, (query,))
        if not config.is_moe_layer(layer):
            found |= _swiglu(f"{name}mlp.", ".weight", config.intermediate_size)
            continue
        found |= _swiglu(f"{name}mlp.experts.", "", expert, 1)
        if config.num_shared_experts:
            width = expert * config.num_shared_experts
            found |= _swiglu(f"{name}mlp.shared_experts.", ".weight", width)
    return found


def _swiglu(name: str, suffix: str, width: int, stacked: int = 0) -> dict[str, Cut]:
    return {
        f"{name}gate_up_proj{suffix}": Cut(stacked, (width, width)),
        f"{name}down_proj{suffix}": Cut(stacked + 1, (width,)),
    }


def split(backbone: Backbone, mesh: DeviceMesh) -> None:
    """Leave in each process of the one-dimensional `mesh` its share of the language model.

    Works on `meta` and on real weights. Raises BadConfig if the sizes do not divide.
    """
    size, group = mesh.size(), mesh.get_group()
    cuts = cuts_of(backbone.config, size)
    place = Place(tensor=mesh.get_local_rank(), tensor_size=size)
    for name, cut in cuts.items():
        path, _, leaf = name.rpartition(".")
        module = backbone.get_submodule(path)
        whole = module.get_parameter(leaf)
        part = DTensor.from_local(_part(whole, cut, place), mesh, [Shard(cut.dim)], run_check=False)
        module.register_parameter(leaf, nn.Parameter(part, requires_grad=whole.requires_grad))
    for layer in backbone.layers:
        assert isinstance(layer, DecoderLayer)
        layer.attention.heads //= size
        layer.attention.kv_heads //= size
        for norm in (layer.attention.q_norm, layer.attention.k_norm):
            if norm is not None:
                _sum_gradients(norm, group)
    for module, before, after in _steps(backbone):
        _wrap(module, before, after, group)


@torch.no_grad()
def _part(whole: Tensor, cut: Cut, place: Place) -> Tensor:
    ranges = held(whole.shape, cut, place)
    shape = [sum(map(len, parts)) for parts in ranges]
    part = torch.empty(shape, dtype=whole.dtype, device=whole.device)
    if not whole.is_meta:
        for piece in pieces(Slot(""), whole.shape, ranges):
            part[piece.here] = whole[piece.there]
    return part


_Step = Callable[[Tensor, dist.ProcessGroup], Tensor]


def _steps(backbone: Backbone) -> Iterator[tuple[nn.Module, _Step | None, _Step | None]]:
    """Every module with a cut matrix, and what happens to its inputs and to its output."""
    yield backbone.word_embeddings, None, _joined
    yield backbone.lm_head, _copied, _joined
    for layer in backbone.layers:
        assert isinstance(layer, DecoderLayer)
        yield layer.attention.query_key_value, _copied, None
        yield layer.attention.dense, None, _summed
        mlp = layer.mlp if isinstance(layer.mlp, MLP) else layer.mlp.shared_experts
        if mlp is not None:
            yield mlp.gate_up_proj, _copied, None
            yield mlp.down_proj, None, _summed
        if isinstance(layer.mlp, ModalityMoE):
            yield layer.mlp.experts, _copied, _summed


def _wrap(
    module: nn.Module, before: _Step | None, after: _Step | None, group: dist.ProcessGroup
) -> None:
    """In the forward of `module` its parameters are local tensors, which hide those of their name.

    A whole bias is added once, to what all processes have summed.
    """
    biased = after is _summed and module._parameters.get("bias") is not None

    def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        for name, parameter in module._parameters.items():
            if isinstance(parameter, DTensor):
                module.__dict__[name] = parameter.to_local()
        if biased:
            module.__dict__["bias"] = None
        if before is None:
            return args
        return tuple(
            before(x, group) if isinstance(x, Tensor) and x.is_floating_point() else x for x in args
        )

    def leave(module: nn.Module, args: tuple[Any, ...], output: Tensor | None) -> Tensor | None:
        _uncover(module)
        if after is None or output is None:
            return output
        whole = after(output, group)
        return whole + module._parameters["bias"] if biased else whole  # type: ignore[operator]

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)


def _sum_gradients(norm: nn.Module, group: dist.ProcessGroup) -> None:
    """A norm of heads is whole in every process, and each has the gradients of its own heads."""

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        module.__dict__["weight"] = _copied(module._parameters["weight"], group)  # type: ignore[arg-type]

    norm.register_forward_pre_hook(enter)
    norm.register_forward_hook(lambda module, *_: _uncover(module), always_call=True)


def _uncover(module: nn.Module) -> None:
    for name in module._parameters:
        module.__dict__.pop(name, None)


def _copied(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    return _Copy.apply(x, group)  # type: ignore[return-value]


def _summed(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    return _Sum.apply(x, group)  # type: ignore[return-value]


def _joined(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    return _Join.apply(x, group)  # type: ignore[return-value]


class _Copy(torch.autograd.Function):
    """The same in all processes; gradients are summed over them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _total(grads[0], ctx.group), None


class _Sum(torch.autograd.Function):
    """The sum over the processes; each gets its gradient as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        return _total(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Join(torch.autograd.Function):
    """The parts of all processes side by side along the last axis; each gets its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(x) for _ in range(group.size())]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].chunk(ctx.group.size(), dim=-1)[ctx.group.rank()], None


def _total(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total
