"""Which tokens see which: inside segments of a row, behind a shared prefix, and from a cache.

Nothing is guessed from positions or padding: `segment_ids` say which tokens belong together.
"""

from __future__ import annotations

import torch
from torch import Tensor


def segment_mask(segment_ids: Tensor, past: Tensor | None = None) -> Tensor:
    """A token sees itself and earlier tokens of its segment; nothing sees or is padding (-1).

    segment_ids [B, T], past: those of earlier tokens [B, P] that are keys only -> bool
    [B, 1, T, P + T] (query, key). The backbone makes this mask itself when given segment_ids.
    """
    keys = segment_ids if past is None else torch.cat((past, segment_ids), dim=1)
    same = segment_ids.unsqueeze(2) == keys.unsqueeze(1)
    return (same & _earlier_tokens(keys, segment_ids.shape[1])).unsqueeze(1)


def prefix_segment_mask(segment_ids: Tensor) -> Tensor:
    """Like `segment_mask`, but every segment also sees segment 0, the prefix of the row.

    Several questions about one image share the image's tokens this way: question s >= 1 computes
    what it would behind the prefix alone, given the position ids of that unpacked run. Pass the
    result to the backbone as `mask`. segment_ids [B, T] -> bool [B, 1, T, T].
    """
    query, key = segment_ids.unsqueeze(2), segment_ids.unsqueeze(1)
    seen = (query == key) | ((key == 0) & (query > 0))
    return (seen & _earlier_tokens(segment_ids, segment_ids.shape[1])).unsqueeze(1)


def causal_mask(tokens: int, keys: int, device: torch.device) -> Tensor:
    """The last `tokens` of `keys` tokens see themselves and what is before: bool [tokens, keys]."""
    return torch.ones(tokens, keys, dtype=torch.bool, device=device).tril(keys - tokens)


def _earlier_tokens(keys: Tensor, tokens: int) -> Tensor:
    """Causal pattern [B, T, S] of the last `tokens` of `keys` [B, S], without padded keys."""
    return causal_mask(tokens, keys.shape[1], keys.device) & (keys >= 0).unsqueeze(1)
