"""Token generation: greedy or sampled, as a stream, also for batches of prompts of unequal length.

The prompts of a batch are padded (on either side) with segment id -1, and every row keeps its own
position offset. A row leaves the batch when it is finished, when it repeats itself without end, or
when its logits are not finite. The other rows then decode faster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal, TypedDict

import torch
from torch import Tensor

from ming_core.errors import BadConfig
from ming_core.model.cache import Cache
from ming_core.model.transformer import Backbone

LOOP_TURNS = 6
"""How often the same tokens must follow each other at least to count as a loop."""

End = Literal["stop", "length", "loop", "broken"]
"""Why a row ended: the model was done, its tokens were used up, it said the same thing over and
over, or its logits were no finite numbers (it then has no token of this step)."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: Highest number of generated tokens.
        temperature: 0 always takes the most likely token (greedy decoding).
        top_k: Sample only from the k most likely tokens; 0 means all.
        top_p: Sample only from the most likely tokens with this total probability; 1 means all.
        no_repeat_ngram: No n-gram of this size occurs twice in prompt and answer; 0 means off.
        max_loop: The answer ends if its last `max_loop` tokens repeat a short sequence, at least 6
            times; 0 means off.
        seed: Makes sampled answers repeatable.

    Raises BadConfig for values out of range.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    no_repeat_ngram: int = 0
    max_loop: int = 96
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            if not _is_number(getattr(self, name), Real):
                raise BadConfig(f"{name} is {getattr(self, name)!r}; it must be a number")
        for name in ("max_new_tokens", "top_k", "no_repeat_ngram", "max_loop", "seed"):
            value = getattr(self, name)
            if not _is_number(value, Integral) and not (name == "seed" and value is None):
                raise BadConfig(f"{name} is {value!r}; it must be a whole number")
        limits = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "no_repeat_ngram": (self.no_repeat_ngram >= 0, "0 (off) or more"),
            "max_loop": (
                self.max_loop == 0 or self.max_loop >= LOOP_TURNS,
                f"0 (off) or at least {LOOP_TURNS}",
            ),
            "seed": (-(2**63) <= (self.seed or 0) < 2**64, "from -2^63 to 2^64 - 1"),
        }
        for name, (ok, expected) in limits.items():
            if not ok:
                raise BadConfig(f"{name} is {getattr(self, name)}; it must be {expected}")


def _is_number(value: object, kind: type) -> bool:
    """Whether a value is such a number; true and false are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments of the tasks."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    no_repeat_ngram: int
    max_loop: int
    seed: int | None


@dataclass(frozen=True)
class Step:
    """One decoded position: tokens [B] int64 (pad in finished rows), logits [active rows, V].

    probabilities: what the model gave each row's token, before temperature and truncation; 0 in
    finished rows. ended: the rows for which this was the last step.
    """

    tokens: Tensor
    logits: Tensor
    probabilities: Sequence[float] = ()
    ended: Mapping[int, End] = field(default_factory=dict)


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
    generator = None
    if sampling.seed is not None:
        generator = torch.Generator(embeds.device).manual_seed(sampling.seed)
    out = backbone(
        embeds, position_ids, modality_ids=modality_ids, segment_ids=segment_ids, cache=cache
    )
    hidden = out.hidden[torch.arange(len(rows), device=rows.device), _last(segment_ids, out.hidden)]
    for step in range(sampling.max_new_tokens):
        logits = backbone.lm_head(hidden).float()
        finite = logits.isfinite().all(dim=-1)
        chosen = rows.new_full((len(rows),), pad)
        if finite.all():
            chosen = choose(logits, [history[r] for r in rows.tolist()], sampling, generator)
        elif finite.any():
            sound = [history[r] for r in rows[finite].tolist()]
            chosen[finite] = choose(logits[finite], sound, sampling, generator)
        tokens = rows.new_full((len(history),), pad)
        tokens[rows] = chosen
        probabilities = [0.0] * len(history)
        ended: dict[int, End] = {}
        spent: End | None = "length" if step + 1 == sampling.max_new_tokens else None
        given = _probabilities(logits, chosen, finite)
        found = zip(rows.tolist(), chosen.tolist(), given, finite.tolist(), strict=True)
        for row, token, probability, whole in found:
            if not whole:
                ended[row] = "broken"
                continue
            history[row].append(token)
            probabilities[row] = probability
            if token in eos:
                ended[row] = "stop"
            elif step + 1 >= sampling.max_loop and loop_of(history[row], sampling.max_loop):
                ended[row] = "loop"
            elif spent:
                ended[row] = spent
        yield Step(tokens, logits, probabilities, ended)
        if ended:
            going = torch.tensor([row not in ended for row in rows.tolist()], device=rows.device)
            if not going.any():
                return
            cache.select(going)
            rows, chosen, rope_deltas = rows[going], chosen[going], rope_deltas[going]
        position = (cache.length + rope_deltas).expand(3, -1, -1)
        hidden = backbone(backbone.embed(chosen.unsqueeze(1)), position, cache=cache).hidden[:, -1]


def _probabilities(logits: Tensor, chosen: Tensor, finite: Tensor) -> list[float]:
    """What logits [B, V] gave the chosen tokens [B]; of no meaning in rows that are not finite."""
    places = chosen.where(finite, 0).unsqueeze(-1)
    chances = logits.gather(-1, places).squeeze(-1) - logits.logsumexp(dim=-1)
    return chances.exp().tolist()


def loop_of(ids: Sequence[int], length: int) -> int:
    """How many tokens are repeated if the last `length` of `ids` are a loop, else 0."""
    if not length or len(ids) < length:
        return 0
    tail = ids[-length:]
    for size in range(1, length // LOOP_TURNS + 1):
        if tail[-1] == tail[-1 - size] and tail[size:] == tail[:-size]:
            return size
    return 0


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
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(-1)


def repeating_tokens(ids: list[int], n: int) -> list[int]:
    """Tokens that would complete an n-gram already present in `ids`."""
    if len(ids) < n:
        return []
    tail = ids[len(ids) - n + 1 :]
    return [ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i : i + n - 1] == tail]
