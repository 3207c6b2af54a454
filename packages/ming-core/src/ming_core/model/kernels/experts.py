"""The sum over the chosen experts of each token: one differentiable path for everything.

Tokens are sorted by expert, so that each expert works on one contiguous slice with one fused
gate-and-up product; each token then sums its K rows of the result. Training and inference, prefill
and decode run the same code, and experts without tokens cost nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, grouped_mm, silu

from ming_core.model.kernels.products import linear


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for the two halves of the last axis."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate).mul_(up)


def mix_experts(x: Tensor, index: Tensor, weights: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """sum_k w_k Expert_k(x): the chosen experts' outputs, weighted in float32; x's dtype.

    x [N, D], expert index [N, K] int64, weights [N, K] float32 -> [N, D]. The experts are SwiGLUs:
    up [E, 2I, D] with the gate rows first, down [E, D, I].
    """
    if x.shape[0] == 1 and x.device.type == "cpu":
        return _one_token(x, index, weights, up, down)
    expert, source, back = _by_expert(index, len(up))
    y = _each(_Gather.apply(x, source, back), expert, up, down)
    # A bag is a token with its K rows: gathered, weighted and added without a copy of them.
    y = embedding_bag(back, y.float(), per_sample_weights=weights, mode="sum")
    return y.to(x.dtype)


class _Gather(torch.autograd.Function):
    """Rows x[source] of x [N, D]; those at back [N, K] are the copies of each token that count.

    The generic backward of indexing accumulates row by row; here a token looks up its K rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, source)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return grads[0].index_select(0, back.flatten()).unflatten(0, back.shape).sum(1), None, None


def _each(x: Tensor, expert: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Row i of x [S, D] through expert[i], which ascends."""
    experts = torch.arange(len(up), device=x.device)
    ends = torch.searchsorted(expert, experts, right=True, out_int32=True)
    if _grouped(x, up, down):
        h = swiglu(grouped_mm(x, up.transpose(-2, -1), offs=ends))
        return grouped_mm(h, down.transpose(-2, -1), offs=ends)
    if _trains_stacks(x, up, down):
        return _Stacks.apply(x, up, down, ends[:-1].tolist())
    # unbind once: indexing one expert at a time would make autograd build a zero gradient of the
    # whole stack for every expert.
    slices = x.tensor_split(ends[:-1].tolist())
    parts = zip(slices, up.unbind(), down.unbind(), strict=True)
    y = [linear(swiglu(linear(s, up)), down) for s, up, down in parts if len(s)]
    return torch.cat(y) if y else x


class _Stacks(torch.autograd.Function):
    """Each expert on its rows, with gradients that are written into the stacks at once.

    autograd makes the gradient of a stack of parts, which takes about as long as all products.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor, starts: list[int]) -> Tensor:
        inner = [linear(own, up[e]) for e, own in enumerate(x.tensor_split(starts))]
        ctx.save_for_backward(x, up, down, *inner)
        ctx.starts = starts
        return torch.cat([linear(swiglu(h), down[e]) for e, h in enumerate(inner)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, up, down, *inner = ctx.saved_tensors
        wants_x, wants_up, wants_down, _ = ctx.needs_input_grad
        dup = torch.empty_like(up) if wants_up else None
        ddown = torch.empty_like(down) if wants_down else None
        dx = []
        rows = zip(*(t.tensor_split(ctx.starts) for t in (x, grads[0])), inner, strict=True)
        for e, (own, dy, h) in enumerate(rows):
            gate, value = h.chunk(2, dim=-1)
            slope = gate.sigmoid()
            active = gate * slope
            if ddown is not None:
                torch.mm(dy.t(), active * value, out=ddown[e])
            if not wants_x and dup is None:
                continue
            dh = linear(dy, down[e].t())
            # d silu(g) / dg = s + g s (1 - s), with s = sigmoid(g)
            dgate = (dh * value).mul_(slope.addcmul(active, 1 - slope))
            dinner = torch.cat((dgate, dh.mul_(active)), dim=-1)
            if dup is not None:
                torch.mm(dinner.t(), own, out=dup[e])
            if wants_x:
                dx.append(linear(dinner, up[e].t()))
        return torch.cat(dx) if wants_x else None, dup, ddown, None


def _trains_stacks(*tensors: Tensor) -> bool:
    """Whether plain float32 tensors on a CPU are trained."""
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    whole = all(type(t) in (Tensor, nn.Parameter) for t in tensors)
    trained = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return plain and whole and trained and not torch.is_autocast_enabled("cpu")


def _one_token(x: Tensor, index: Tensor, weights: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Decode: K small experts read straight from the stack, no sorting."""
    y = torch.cat([linear(swiglu(linear(x, up[e])), down[e]) for e in index[0].tolist()])
    return (weights @ y.float()).to(x.dtype)


def _by_expert(index: Tensor, num_experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Order the choices index [N, K] by expert.

    Returns the expert and the token of each row in that order, both [S], and the row of each choice
    [N, K]. S is N * K and, on CPU, some rows more that nobody reads: oneDNN compiles a kernel for
    every new number of rows, which takes longer than to use it, and in training the numbers are
    new in every step. Rounded up to a 64th of their mean they are not.
    """
    n, k = index.shape
    chosen = index.flatten()
    step = 2 ** max(0, (n * k // num_experts).bit_length() - 6)
    if step > 1 and index.device.type == "cpu":
        missing = -torch.bincount(chosen, minlength=num_experts) % step
        fill = torch.arange(num_experts, device=index.device).repeat_interleave(missing)
        chosen = torch.cat((chosen, fill))
    expert, order = chosen.sort(stable=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return expert, (order // k).clamp(max=n - 1), back[: n * k].view(n, k)


def _grouped(x: Tensor, *weights: Tensor) -> bool:
    """Whether grouped_mm can and should run: one call for all experts, no round trip to the host.

    It takes rows of whole 16 bytes, is fast in bfloat16 only, and on GPUs wants compute capability
    8.0.
    """
    if x.device.type == "cuda" and torch.cuda.get_device_capability(x.device) < (8, 0):
        return False
    rows = (x, *weights)
    return x.device.type in ("cpu", "cuda") and all(
        t.dtype == torch.bfloat16 and t.shape[-1] % 8 == 0 for t in rows
    )
