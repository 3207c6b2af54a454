"""Attention, by plain operations where they train faster than the fused one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ming_core.model.masks import causal_mask

PLAIN_UP_TO = {torch.float32: 128, torch.bfloat16: 1024}
"""Keys up to which plain operations train no slower on CPU (speed/attention_cpu.py)."""


@dataclass(frozen=True)
class Spans:
    """Where the segments of packed rows are: each is causal by itself and sees nothing else.

    Attributes:
        rows: Of each row, the lengths of its pieces in order, and whether a piece is a segment;
            other pieces are padding.
    """

    rows: tuple[tuple[tuple[int, bool], ...], ...]

    @classmethod
    def of(cls, segment_ids: Tensor) -> Spans:
        """segment_ids [B, T], -1 for padding."""
        rows = (groupby(row) for row in segment_ids.tolist())
        return cls(tuple(tuple((len(list(run)), id >= 0) for id, run in row) for row in rows))


SPANS_FROM = 256
"""Tokens of a row from which its segments train faster one by one than behind a mask, on CPU."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | Spans | None, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(d)) v: q [B, H, T, d], k and v [B, K, S, d], mask bool [B, 1, T, S].

    Query heads h*g .. h*g+g-1 share key head h. A row that may see nothing yields finite values.
    """
    if isinstance(mask, Spans):
        return _attend_spans(q, k, v, mask)
    trained = torch.is_grad_enabled() and q.requires_grad and q.device.type == "cpu"
    if trained and k.shape[2] <= PLAIN_UP_TO.get(q.dtype, 0):
        if causal:
            mask = causal_mask(q.shape[2], k.shape[2], q.device)
        return plain_attention(q, k, v, mask)
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
    )


def _attend_spans(q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> Tensor:
    """Segment by segment, so that the work grows with the segments and not with the rows."""
    rows = []
    for row, pieces in enumerate(spans.rows):
        # Splits have one gradient together; a slice each would have a gradient as long as the row.
        lengths = [length for length, _ in pieces]
        parts = zip(*(x[row : row + 1].split(lengths, dim=2) for x in (q, k, v)), strict=True)
        rows.append(
            torch.cat(
                [
                    attend(q, k, v, None, causal=True) if used else torch.zeros_like(q)
                    for (q, k, v), (_, used) in zip(parts, pieces, strict=True)
                ],
                dim=2,
            )
        )
    return torch.cat(rows)


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
