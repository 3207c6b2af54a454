"""How the next token is chosen: greedy or sampled, by the rules of each request."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ming_core.engine.sampling import Sampling, repeating_tokens


def choose(
    logits: Tensor,
    history: Sequence[Sequence[int]],
    sampling: Sequence[Sampling],
    generators: Sequence[torch.Generator | None],
) -> Tensor:
    """Next token [B] of each row of logits [B, V] float32, by the rules of its own request.

    history: the ids of each row so far, for the n-gram rule. A row whose logits are not finite gets
    any token.
    """
    if any(rules.no_repeat_ngram for rules in sampling):
        logits = logits.clone()
        for row, (ids, rules) in enumerate(zip(history, sampling, strict=True)):
            if rules.no_repeat_ngram:
                logits[row, repeating_tokens(ids, rules.no_repeat_ngram)] = float("-inf")
    chosen = logits.argmax(dim=-1)
    for row, (rules, generator) in enumerate(zip(sampling, generators, strict=True)):
        if rules.temperature:
            # Drawn row by row: with a seed the draw is the same at any place of any batch.
            chances = distribution(logits[row], rules)
            chances = chances.where(chances.isfinite(), 1.0)
            chosen[row] = torch.multinomial(chances, 1, generator=generator).squeeze(0)
    return chosen


def distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities [..., V] with which tokens are drawn at a temperature above 0."""
    # The greatest becomes 0 first: a tiny temperature cannot overflow. What is smaller than `tiny`
    # would be 0 in float32.
    tiny = torch.finfo(torch.float32).tiny
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / max(sampling.temperature, tiny)
    if sampling.top_k:
        kept = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1)
        logits = torch.full_like(logits, float("-inf")).scatter(-1, kept.indices, kept.values)
    if sampling.top_p < 1:
        ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        # The first one always stays.
        beyond = ranked.cumsum(dim=-1) - ranked >= max(sampling.top_p, tiny)
        drop = torch.zeros_like(beyond).scatter_(-1, order, beyond)
        logits = logits.masked_fill(drop, float("-inf"))
    return logits.softmax(dim=-1)
