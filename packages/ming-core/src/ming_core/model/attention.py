"""Grouped-query attention with fused projections, as in every Ming backbone."""

from __future__ import annotations

from torch import Tensor, nn

from ming_core.model.cache import Cache
from ming_core.model.config import BackboneConfig
from ming_core.model.kernels.attention import Spans, attend
from ming_core.model.layers import Linear, RMSNorm
from ming_core.model.rotary import rotate


class Attention(nn.Module):
    """Grouped-query attention. The released projection `query_key_value` [(H + 2K) d, D] holds the
    rows of all query heads, then of all key heads, then of all value heads; `dense` is the output.
    """

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
        mask: Tensor | Spans | None,
        cache: Cache | None,
    ) -> Tensor:
        """Attend over the cached tokens and the new ones: x [B, T, D] -> [B, T, D].

        cos, sin: of the positions, from `Rotary`. mask bool [B, 1, T, S]: which keys each query may
        see, or the segments of packed rows; None is plain causality. The new keys and values are
        appended to `cache`.
        """
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
