"""Masks: which tokens see which other tokens.

`segment_ids` say which tokens of a row belong together. Nothing is guessed from positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def segment_mask(segment_ids: Tensor, past: Tensor | None = None) -> Tensor:
    """A token sees itself and the earlier tokens of its segment. Padding (-1) sees nothing, and no
    token sees padding.

    segment_ids [B, T]; past [B, P]: segments of cached tokens, which are keys only. Returns bool
    [B, 1, T, P + T] (query, key). The backbone makes this mask itself if you give it segment_ids.
    """
    keys = segment_ids if past is None else torch.cat((past, segment_ids), dim=1)
    same = segment_ids.unsqueeze(2) == keys.unsqueeze(1)
    return (same & _earlier_tokens(keys, segment_ids.shape[1])).unsqueeze(1)


def prefix_segment_mask(segment_ids: Tensor) -> Tensor:
    """Like `segment_mask`, but every segment also sees segment 0, the prefix of the row.

    So several questions about one picture share the tokens of the picture. Question s >= 1 gets the
    same values as behind the prefix alone, if its position ids are those of the prompt with this
    question alone. Pass the result to the backbone as `mask`. segment_ids [B, T] -> bool
    [B, 1, T, T].
    """
    return shared_segment_mask(segment_ids, (segment_ids > 0).long() - 1)


def shared_segment_mask(segment_ids: Tensor, shared_ids: Tensor) -> Tensor:
    """Like `segment_mask`, but a token also sees the segment that `shared_ids` names, if any.

    So a row holds several prefixes, each with the segments that go on from it. segment_ids and
    shared_ids [B, T], -1 for none -> bool [B, 1, T, T].
    """
    query, key = segment_ids.unsqueeze(2), segment_ids.unsqueeze(1)
    seen = (query == key) | (shared_ids.unsqueeze(2) == key)
    return (seen & _earlier_tokens(segment_ids, segment_ids.shape[1])).unsqueeze(1)


def causal_mask(tokens: int, keys: int, device: torch.device) -> Tensor:
    """Each of the last `tokens` of all `keys` tokens sees itself and those before.

    Returns bool [tokens, keys].
    """
    return torch.ones(tokens, keys, dtype=torch.bool, device=device).tril(keys - tokens)


def _earlier_tokens(keys: Tensor, tokens: int) -> Tensor:
    """Causal pattern [B, T, S] of the last `tokens` of `keys` [B, S], without padded keys."""
    return causal_mask(tokens, keys.shape[1], keys.device) & (keys >= 0).unsqueeze(1)
