"""A batch whose rows come and go. A prompt is computed, joins it, and is decoded token by token.

Rows are padded on the left (segment id -1), so that all of them end at the same place of the cache.
A row's tokens do not depend on the other rows, nor on when it joined them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ming_core.engine.choosing import choose
from ming_core.engine.sampling import End, Sampling, loop_of
from ming_core.model.cache import Cache
from ming_core.model.omni import OmniBatch
from ming_core.model.transformer import Backbone, Layer


@dataclass(eq=False)
class Row:
    """One request while it is decoded.

    prompt: all ids of its prompt. stop: tokens that end it. keep: layers whose hidden states are
    kept, from the token number `keep_from` on. states: those, in parts [tokens, D] that follow each
    other. The state of a token chose the next one; the last token has none, as it is not fed.
    silent: only its prompt is computed. ids: prompt and tokens.
    """

    prompt: Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    stop: Collection[int] = ()
    keep: Sequence[Layer] = ()
    keep_from: int = 0
    silent: bool = False
    tokens: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    states: dict[Layer, list[Tensor]] = field(default_factory=dict)
    end: End | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        self.ids = list(self.prompt)

    @property
    def fed(self) -> int:
        """Number of its tokens in the cache: all but the last one that it chose."""
        return len(self.ids) - bool(self.tokens)

    @property
    def first_kept(self) -> int:
        """The first token of its prompt whose states are kept."""
        count = len(self.prompt)
        return max(0, count + self.keep_from) if self.keep_from < 0 else min(self.keep_from, count)

    @property
    def confidence(self) -> float:
        """Mean probability of the tokens; 0 without any."""
        return sum(self.probabilities) / max(1, len(self.tokens))

    def add(self, token: int, probability: float) -> None:
        """Take in the next token, and see whether it is the last one."""
        self.ids.append(token)
        self.tokens.append(token)
        self.probabilities.append(probability)
        limits = self.sampling
        if token in self.stop:
            self.end = "stop"
        elif len(self.tokens) >= limits.max_loop and loop_of(self.tokens, limits.max_loop):
            self.end = "loop"
        elif len(self.tokens) == limits.max_new_tokens:
            self.end = "length"


class Batch:
    """Rows that are decoded together. What is not in its rows lies in one cache."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.rows: list[Row] = []
        self._cache = Cache()
        self._tokens = self._positions = torch.empty(0, dtype=torch.long)  # [B], to be fed next

    @torch.inference_mode()
    def prefill(
        self,
        rows: Sequence[Row],
        embeds: Tensor,
        batch: OmniBatch,
        next_positions: Tensor,
        cache: Cache | None = None,
    ) -> None:
        """Compute prompts, choose the first token of each, and let them join.

        embeds [B, T, D] of `batch`, which is padded on the left, if at all. next_positions [B]: of
        the first generated tokens; those are text, so each follows the last by 1 on all axes.
        cache: holds the start of a prompt that stands alone; `batch` is the rest of it.
        """
        cache = Cache() if cache is None else cache
        out = self.backbone(
            embeds,
            batch.position_ids,
            modality_ids=batch.modality_ids,
            segment_ids=batch.segment_ids,
            cache=cache,
            keep=_layers(rows),
        )
        for number, row in enumerate(rows):
            seed = row.sampling.seed
            if seed is not None:
                row.generator = torch.Generator(embeds.device).manual_seed(seed)
            wanted = len(row.prompt) - row.first_kept
            for layer in row.keep:
                row.states[layer] = [out.kept[layer][number, embeds.shape[1] - wanted :].clone()]
        tokens = self._choose(rows, out.hidden[:, -1])
        if self.rows:
            self._trim()
            cache = Cache.join([self._cache, cache])
            tokens = torch.cat((self._tokens, tokens))
            next_positions = torch.cat((self._positions, next_positions))
        self._tokens, self._positions, self._cache = tokens, next_positions, cache
        self.rows += rows

    @torch.inference_mode()
    def step(self) -> None:
        """Feed the last tokens and choose the next of every row; none may have ended."""
        out = self.backbone(
            self.backbone.embed(self._tokens.unsqueeze(1)),
            self._positions.view(1, -1, 1).expand(3, -1, -1),
            cache=self._cache,
            keep=_layers(self.rows),
        )
        self._positions = self._positions + 1
        for number, row in enumerate(self.rows):
            for layer in row.keep:
                row.states[layer].append(out.kept[layer][number])
        self._tokens = self._choose(self.rows, out.hidden[:, -1])

    def cache_of(self, row: Row) -> Cache:
        """What is computed of a row: its first `fed` tokens."""
        if len(self.rows) == 1 and self._cache.segment_ids is None:
            return self._cache
        return self._cache.row(self.rows.index(row), row.fed)

    @torch.inference_mode()
    def drop(self, rows: Collection[Row]) -> None:
        """Let rows go."""
        left = [number for number, row in enumerate(self.rows) if row not in rows]
        if len(left) == len(self.rows):
            return
        self.rows = [self.rows[number] for number in left]
        if not left:
            self._cache = Cache()
            return
        places = torch.tensor(left, device=self._tokens.device)
        self._tokens, self._positions = self._tokens[places], self._positions[places]
        self._cache.select(places)
        if 2 * max(row.fed for row in self.rows) < self._cache.length:
            self._trim()

    def _choose(self, rows: Sequence[Row], hidden: Tensor) -> Tensor:
        """The next token [B] of each row from hidden states [B, D], written into the rows."""
        logits = self.backbone.lm_head(hidden).float()
        tokens = choose(
            logits,
            [row.ids for row in rows],
            [row.sampling for row in rows],
            [row.generator for row in rows],
        )
        chances = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1)
        finite = logits.isfinite().all(dim=-1)
        # One transfer from the device for each step. float32 holds every id below 2^24 exactly.
        found = torch.stack((tokens.float(), chances.exp(), finite.float())).tolist()
        for row, token, probability, whole in zip(rows, *found, strict=True):
            if whole and row.silent:
                row.end = "stop"
            elif whole:
                row.add(int(token), probability)
            else:
                row.end = "broken"
        return tokens

    def _trim(self) -> None:
        """Forget the padding that all rows have."""
        self._cache.trim(max(row.fed for row in self.rows))


def _layers(rows: Sequence[Row]) -> set[Layer]:
    return {layer for row in rows for layer in row.keep}
