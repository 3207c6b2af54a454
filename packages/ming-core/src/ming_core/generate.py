"""Token generation: greedy or sampled, streamed, for batches of unequal prompts.

The prompt batch is padded (on either side) with segment id -1; every row keeps its own position
offset, and a row that has finished leaves the batch, so that the rest decodes faster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from ming_core.errors import BadConfig
from ming_core.model.cache import Cache
from ming_core.model.transformer import Backbone


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; top_k 0 and top_p 1 mean no truncation.

    no_repeat_ngram: no n-gram of this size may occur twice in prompt and answer; 0 is off.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    no_repeat_ngram: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        limits = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "no_repeat_ngram": (self.no_repeat_ngram >= 0, "0 (off) or more"),
        }
        for name, (ok, expected) in limits.items():
            if not ok:
                raise BadConfig(f"{name} is {getattr(self, name)}; it must be {expected}")


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments of the tasks."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    no_repeat_ngram: int
    seed: int | None


@dataclass(frozen=True)
class Step:
    """One decoded position: tokens [B] int64 (pad in finished rows), logits [active rows, V]."""

    tokens: Tensor
    logits: Tensor


@torch.inference_mode()
def generate(
    backbone: Backbone,
    embeds: Tensor,
    position_ids: Tensor,
    rope_deltas: Tensor,
    *,
    prompt_ids: Sequence[Sequence[int]],
    eos: Collection[int],
    pad: int,
    sampling: Sampling,
    modality_ids: Tensor | None = None,
    segment_ids: Tensor | None = None,
    cache: Cache | None = None,
) -> Iterator[Step]:
    """Prefill, then decode until every row has met an `eos` token or the token budget.

    embeds [B, T, D], position_ids [3, B, T], modality_ids and segment_ids [B, T] describe the
    tokens that are not yet in `cache`; rope_deltas [B, 1] as from `rope_index` over the whole
    prompt; prompt_ids are all its ids, row by row without padding (history of the n-gram rule).
    Generated tokens are text and follow at position (cache length + delta) on all axes.
    """
    cache = Cache() if cache is None else cache
    rows = torch.arange(embeds.shape[0], device=embeds.device)
    history = [list(ids) for ids in prompt_ids]
    stop = torch.tensor(sorted(eos), device=embeds.device)
    generator = None
    if sampling.seed is not None:
        generator = torch.Generator(embeds.device).manual_seed(sampling.seed)
    out = backbone(
        embeds, position_ids, modality_ids=modality_ids, segment_ids=segment_ids, cache=cache
    )
    hidden = out.hidden[torch.arange(len(rows), device=rows.device), _last(segment_ids, out.hidden)]
    for step in range(sampling.max_new_tokens):
        logits = backbone.lm_head(hidden).float()
        chosen = choose(logits, [history[r] for r in rows.tolist()], sampling, generator)
        tokens = rows.new_full((len(history),), pad)
        tokens[rows] = chosen
        for row, token in zip(rows.tolist(), chosen.tolist(), strict=True):
            history[row].append(token)
        yield Step(tokens, logits)
        going = ~torch.isin(chosen, stop)
        if step + 1 == sampling.max_new_tokens or not going.any():
            return
        if not going.all():
            cache.select(going)
            rows, chosen, rope_deltas = rows[going], chosen[going], rope_deltas[going]
        position = (cache.length + rope_deltas).expand(3, -1, -1)
        hidden = backbone(backbone.embed(chosen.unsqueeze(1)), position, cache=cache).hidden[:, -1]


def _last(segment_ids: Tensor | None, hidden: Tensor) -> Tensor:
    """Index [B] of each row's last real token, wherever the padding is."""
    b, t, _ = hidden.shape
    if segment_ids is None:
        return torch.full((b,), t - 1, device=hidden.device)
    steps = torch.arange(t, device=hidden.device)
    return (steps * (segment_ids >= 0)).argmax(dim=1)


def choose(
    logits: Tensor,
    history: list[list[int]],
    sampling: Sampling,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Next token [B] of each row from logits [B, V] float32; `history` feeds the n-gram rule."""
    if sampling.no_repeat_ngram:
        logits = logits.clone()
        for row, ids in enumerate(history):
            banned = repeating_tokens(ids, sampling.no_repeat_ngram)
            logits[row, banned] = float("-inf")
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    # The greatest becomes 0 first: a tiny temperature cannot overflow.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature
    if sampling.top_k:
        kept = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1)
        logits = torch.full_like(logits, float("-inf")).scatter(-1, kept.indices, kept.values)
    if sampling.top_p < 1:
        ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        beyond = ranked.cumsum(dim=-1) - ranked >= sampling.top_p  # the first one always stays
        drop = torch.zeros_like(beyond).scatter_(-1, order, beyond)
        logits = logits.masked_fill(drop, float("-inf"))
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(-1)


def repeating_tokens(ids: list[int], n: int) -> list[int]:
    """Tokens that would complete an n-gram already present in `ids`."""
    if len(ids) < n:
        return []
    tail = ids[len(ids) - n + 1 :]
    return [ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i : i + n - 1] == tail]
