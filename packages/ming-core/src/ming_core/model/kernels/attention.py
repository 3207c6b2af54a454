"""Attention, by plain operations where they train faster than the fused one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ming_core.model.masks import causal_mask

PLAIN_UP_TO = {torch.float32: 128, torch.bfloat16: 1024}
"""Keys up to which plain operations train no slower on CPU (speed/attention_cpu.py)."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(d)) v: q [B, H, T, d], k and v [B, K, S, d], mask bool [B, 1, T, S].

    Query heads h*g .. h*g+g-1 share key head h. A row that may see nothing yields finite values.
    """
    trained = torch.is_grad_enabled() and q.requires_grad and q.device.type == "cpu"
    if trained and k.shape[2] <= PLAIN_UP_TO.get(q.dtype, 0):
        if causal:
            mask = causal_mask(q.shape[2], k.shape[2], q.device)
        return plain_attention(q, k, v, mask)
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
    )


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` in three operations: in short rows their backward on CPU beats the fused one."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, torch.finfo(q.dtype).min)
        scores = scores + bias
    return scores.softmax(dim=-1) @ v
