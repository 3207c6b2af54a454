"""From conversations to the tensors of a prefill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ming_core.chat.dialects import as_messages
from ming_core.chat.prompt import MediaTokens, Prompt, build_prompt, media_parts
from ming_core.engine.fitting import way_out
from ming_core.engine.request import Request
from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Media, Message, with_sound
from ming_core.model.encoder import Features, Processor, split_grids
from ming_core.model.omni import OmniBatch
from ming_core.model.positions import PositionRule, rope_index
from ming_core.model.queries import NO_QUERY, Queries, cover_picture
from ming_core.model.seen import Seen, SeenMedia, encoded

if TYPE_CHECKING:
    from ming_core.api import OmniModel


def prepare(model: OmniModel, request: Request, known: SeenMedia) -> tuple[Prompt, list[Seen]]:
    """Token ids of a request, and its media; those in `known` are not opened again.

    Raises BadConfig, BadMedia or MissingPlugin.
    """
    messages = [with_sound(message) for message in as_messages(request.messages)]
    media = media_parts(messages)
    seen = known.look(media, partial(_read, model))
    for medium, item in zip(media, seen, strict=True):
        if not item.is_of(model.encoder(item.features.modality)):
            raise BadMedia(
                f"{medium} was seen by another model than {model.name}, which cannot read what "
                "that one made of it; give the file or the frames"
            )
    sizes = [MediaTokens(item.tokens, item.seconds) for item in seen]
    prompt = build_prompt(
        messages,
        model.format,
        model.tokenizer,
        sizes,
        think=request.think,
        begin=request.begin,
        queries=request.queries,
    )
    return prompt, seen


def room_for(model: OmniModel, request: Request, prompt: Prompt, seen: Sequence[Seen]) -> int:
    """How many tokens an answer may have. Raises BadConfig if the prompt leaves none."""
    length, context = len(prompt.input_ids), model.config.max_position_embeddings
    if length < context:
        return context - length
    messages = as_messages(request.messages)

    def again(messages: Sequence[Message], *, known: SeenMedia) -> tuple[Prompt, list[Seen]]:
        return prepare(model, replace(request, messages=messages), known)

    raise BadConfig(
        f"the prompt has {length} tokens and the context of {model.name} holds {context}; "
        + way_out(messages, prompt, seen, context - 1, again, partial(_processor, model))
    )


def tensors_of(
    rule: PositionRule,
    pad: int,
    prompts: Sequence[Prompt],
    media: Sequence[Seen],
    known: int = 0,
    queries: Sequence[Queries | None] = (),
) -> tuple[OmniBatch, Tensor]:
    """Prompts as one batch on the CPU, padded on the left, and next positions [B] of its rows.

    pad: id of the padding. media: the encoded media of all prompts. known: how many tokens of a
    single prompt are computed already; they are left out. queries: the query tokens of each prompt;
    empty if no prompt has any.
    """
    queries = queries or [None] * len(prompts)
    sizes = [len(prompt.input_ids) for prompt in prompts]
    length = max(sizes)
    ids = torch.full((len(prompts), length), pad, device="cpu")
    modality, segments = torch.zeros_like(ids), torch.full_like(ids, -1)
    for row, (prompt, size) in enumerate(zip(prompts, sizes, strict=True)):
        ids[row, length - size :] = torch.tensor(prompt.input_ids, device="cpu")
        modality[row, length - size :] = torch.tensor(prompt.modality_ids, device="cpu")
        segments[row, length - size :] = 0
    items = _items(prompts, media, queries, rule.merge)
    stills, videos = split_grids([item for row in items for item in row])
    positions, deltas = rope_index(rule, ids, segments + 1, stills, videos)
    query_ids, vectors = torch.full_like(ids, NO_QUERY), []
    for row, (prompt, own) in enumerate(zip(prompts, queries, strict=True)):
        if own is not None:
            start = length - sizes[row]
            numbers = torch.tensor(prompt.query_ids, device="cpu")
            if own.layout == "picture":
                place = positions[:, row, start:]
                _cover(place, prompt, own, items[row], rule.merge)
            before = sum(map(len, vectors))
            query_ids[row, start:] = torch.where(numbers >= 0, numbers + before, NO_QUERY)
            vectors.append(own.joined())
    skip = [0] * len(media) if not known else _written(prompts[0], known)
    shown = [(item, n) for item, n in zip(media, skip, strict=True) if n < item.tokens]
    batch = OmniBatch(
        ids[:, known:],
        positions[:, :, known:],
        modality[:, known:],
        segments if len(prompts) > 1 else None,
        encoded=encoded([item for item, _ in shown], [n for _, n in shown]),
        query_ids=query_ids[:, known:] if vectors else None,
        queries=torch.cat(vectors) if vectors else None,
    )
    return batch, length + deltas.squeeze(1)


def _items(
    prompts: Sequence[Prompt],
    media: Sequence[Seen],
    queries: Sequence[Queries | None],
    merge: int,
) -> list[list[Features]]:
    """Media and queries of each prompt in reading order: queries stand behind all media."""
    left = iter(media)
    rows = [[next(left).features for _ in prompt.media] for prompt in prompts]
    for row, own in zip(rows, queries, strict=True):
        if own is not None:
            row.append(own.features(merge))
    return rows


def _cover(
    positions: Tensor, prompt: Prompt, queries: Queries, items: Sequence[Features], merge: int
) -> None:
    """Lay queries over the first picture of their prompt; positions [3, T] are changed in place."""
    for run in prompt.runs:
        grid = items[run.index].grid
        if prompt.media[run.index].kind == "image" and grid is not None:
            _, height, width = grid[0].tolist()
            numbers = torch.tensor(prompt.query_ids, device="cpu")
            cover_picture(positions, numbers, queries, run.start, (height // merge, width // merge))
            return


def _read(model: OmniModel, medium: Media) -> Features:
    return _processor(model, medium.modality)([medium])


def _processor(model: OmniModel, modality: str) -> Processor:
    return model.encoder(modality).processor


def _written(prompt: Prompt, known: int) -> list[int]:
    """How many tokens of each medium are among the first `known` of the prompt."""
    counts = [0] * len(prompt.media)
    for run in prompt.runs:
        counts[run.index] += min(max(known - run.start, 0), run.count)
    return counts
