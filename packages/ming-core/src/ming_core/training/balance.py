"""Losses and a rule that keep the experts of a layer evenly used, as pure functions.

The losses have no coefficient. Their gradient goes through the probabilities and not through the
counts. `keep` marks the tokens that count; padding does not. Each function is about one layer, so
the caller averages over the layers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def expert_counts(index: Tensor, num_experts: int, keep: Tensor) -> Tensor:
    """How many kept tokens chose each expert.

    index [..., N, K], keep bool [..., N] -> int64 [..., E].
    """
    chosen = _one_hot(index, num_experts, torch.int64)
    return (chosen * keep.unsqueeze(-1)).sum(-2)


def switch_balance_loss(logits: Tensor, index: Tensor, keep: Tensor) -> Tensor:
    """E sum_e f_e P_e over the kept tokens of a softmax router (Switch Transformer, equations 4-6).

    f_e is the fraction of routed slots that went to e, P_e its mean probability; even use gives 1,
    no tokens give 0. logits [..., N, E], index [..., N, K], keep bool [..., N] -> [...].
    """
    return _balance(logits.softmax(dim=-1), index, keep)


def router_balance_losses(
    logits: Tensor, index: Tensor, modality_ids: Tensor, keep: Tensor, routers: int = 3
) -> tuple[Tensor, Tensor]:
    """`switch_balance_loss` of every modality's router over its own tokens.

    logits [N, E], index [N, K], modality_ids [N], keep bool [N] -> losses [routers] (0 for a
    router without tokens), number of tokens [routers] int64.
    """
    own = torch.arange(routers, device=modality_ids.device).unsqueeze(1) == modality_ids
    own = own & keep
    losses = _balance(logits.softmax(dim=-1).unsqueeze(0), index.unsqueeze(0), own)
    return losses, own.sum(-1)


def sequence_balance_loss(logits: Tensor, index: Tensor, keep: Tensor) -> Tensor:
    """Mean over sequences of E sum_e f_e P_e of a sigmoid router (DeepSeek-V3, equations 17-20).

    P_e is the mean of sigmoid scores normalised to sum 1 per token. Sequences without kept tokens
    do not count. logits [B, T, E], index [B, T, K], keep bool [B, T] -> scalar.
    """
    scores = logits.sigmoid()
    losses = _balance(scores / scores.sum(dim=-1, keepdim=True), index, keep)
    return losses.sum() / keep.any(-1).sum().clamp(min=1)


def sample_balance_loss(logits: Tensor, index: Tensor, keep: Tensor) -> Tensor:
    """The form of the Ming training utility: per sequence, K times the Switch form.

    Its counts are not divided by K, so even use gives K: coefficients published for it are K times
    stronger than for `switch_balance_loss`. Shapes as in `sequence_balance_loss`.
    """
    losses = switch_balance_loss(logits, index, keep)
    return index.shape[-1] * losses.sum() / keep.any(-1).sum().clamp(min=1)


def router_z_loss(logits: Tensor, keep: Tensor) -> Tensor:
    """Mean over kept tokens of logsumexp(logits)^2 (ST-MoE): keeps router logits small.

    logits [..., E], keep bool [...] -> scalar.
    """
    squares = logits.logsumexp(dim=-1).square()
    return (squares * keep).sum() / keep.sum().clamp(min=1)


def bias_update(bias: Tensor, counts: Tensor, rate: float, zero_mean: bool = False) -> Tensor:
    """Selection bias after one step. It grows by `rate` for experts below the mean load, and falls
    by `rate` for the others.

    counts: tokens of the whole global batch for each expert, one row for each router. A row of
    zeros changes nothing. zero_mean: subtract the mean of the step, on which no selection depends,
    so that the biases do not drift (Ling 2.0). bias [..., E] float, counts [..., E] -> new bias
    [..., E].
    """
    # Comparing sums instead of means stays exact for integer counts.
    step = (counts.sum(-1, keepdim=True) - counts.shape[-1] * counts).sign().to(bias.dtype)
    if zero_mean:
        step = step - step.mean(-1, keepdim=True)
    return bias + rate * step


def _balance(probs: Tensor, index: Tensor, keep: Tensor) -> Tensor:
    """E sum_e f_e P_e: probs [..., N, E], index [..., N, K], keep bool [..., N] -> [...]."""
    weight = keep.to(probs.dtype)
    tokens = weight.sum(-1, keepdim=True).clamp(min=1)
    chosen = _one_hot(index, probs.shape[-1], probs.dtype)
    fraction = torch.einsum("...n,...ne->...e", weight, chosen) / (tokens * index.shape[-1])
    probability = torch.einsum("...n,...ne->...e", weight, probs) / tokens
    return probs.shape[-1] * (fraction * probability).sum(-1)


def _one_hot(index: Tensor, num_experts: int, dtype: torch.dtype) -> Tensor:
    shape = (*index.shape[:-1], num_experts)
    return torch.zeros(shape, dtype=dtype, device=index.device).scatter(-1, index, 1)
