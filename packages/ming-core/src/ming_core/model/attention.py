"""Grouped-query attention with fused projections, as in every Ming backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ming_core.model.cache import Cache
from ming_core.model.config import BackboneConfig
from ming_core.model.linear import Linear
from ming_core.model.masks import causal_mask
from ming_core.model.norm import RMSNorm
from ming_core.model.rotary import rotate

PLAIN_UP_TO = {torch.float32: 128, torch.bfloat16: 1024}
"""Keys up to which plain operations train no slower on CPU (benchmarks/attention_cpu.py)."""


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


class Attention(nn.Module):
    """Fused query_key_value in blocks (all queries, all keys, all values), output `dense`."""

    def __init__(self, config: BackboneConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        rows = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.query_key_value = Linear(config.hidden_size, rows, bias=config.qkv_bias)
        self.dense = Linear(self.heads * self.head_dim, config.hidden_size, bias=config.dense_bias)
        norms = config.qk_norm
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if norms else None
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if norms else None

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        cache: Cache | None,
    ) -> Tensor:
        """x [B, T, D]; mask bool [B, 1, T, S] or None for causal; appends to `cache`."""
        b, t, _ = x.shape
        qkv = self.query_key_value(x).view(b, t, -1, self.head_dim).transpose(1, 2)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        y = attend(q, k, v, mask, causal=mask is None and t > 1)
        return self.dense(y.transpose(1, 2).reshape(b, t, -1))
