"""A record as the model sees it: token ids with targets, and the inputs of the encoders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ming_core.chat.formats import ChatFormat
from ming_core.chat.prompt import (
    BadConversation,
    MediaTokens,
    Prompt,
    TextEncoder,
    build_example,
    media_parts,
)
from ming_core.errors import BadMedia, MingError, MissingPlugin
from ming_core.media import Media, Message, Text, with_sound
from ming_core.model.encoder import Features, Processor, item_seconds, split_grids
from ming_core.model.positions import PositionRule, rope_index
from ming_core.notes import collected_notes
from ming_core.plugins import get_plugins, version_of
from ming_core.text import is_blank
from ming_recipes.training.records import BadRow, Record, identity

if TYPE_CHECKING:
    from ming_core.api import OmniModel


class CachedTokenizer:
    """Templates and questions repeat: it remembers what they encode to."""

    def __init__(self, tokenizer: TextEncoder) -> None:
        self._tokenizer = tokenizer
        self.encode = lru_cache(65536)(tokenizer.encode)
        self.id = lru_cache(1024)(tokenizer.id)

    def __getstate__(self) -> dict[str, TextEncoder]:
        return {"_tokenizer": self._tokenizer}

    def __setstate__(self, state: Mapping[str, TextEncoder]) -> None:
        self.__init__(state["_tokenizer"])


@dataclass(frozen=True)
class Parts:
    """What of a model is needed to make its inputs; none of it has weights.

    Attributes:
        processors: By modality, of the encoders that the model has.
        pad: Id of the padding.
        context: Most tokens of a conversation.
        costs: By modality, the work of its encoder for one row of its input, for example a patch of
            a picture, in tokens of the backbone. It is the ratio of the weights that take part.
        missing: By modality, why the model cannot read such media.
        key: Changes when the same row may give other tokens.
    """

    name: str
    format: ChatFormat
    rule: PositionRule
    tokenizer: TextEncoder
    processors: Mapping[str, Processor]
    pad: int
    context: int
    costs: Mapping[str, float]
    missing: Mapping[str, MissingPlugin]
    key: str = ""

    @classmethod
    def of(cls, model: OmniModel) -> Parts:
        """Of a loaded model. No weights are read. Raises BadCheckpoint or BadConfig."""
        processors: dict[str, Processor] = {}
        costs: dict[str, float] = {}
        missing: dict[str, MissingPlugin] = {}
        active = _active_weights(model)
        for modality in dict.fromkeys(entry.modality for entry in get_plugins().encoders):
            try:
                encoder = model.present(modality) or model.sources.prepare(modality).module
            except MissingPlugin as error:
                missing[modality] = error
                continue
            processors[modality] = encoder.processor  # type: ignore[assignment]
            costs[modality] = sum(p.numel() for p in encoder.parameters()) / active
        return cls(
            model.short_name,
            model.format,
            model.rule,
            CachedTokenizer(model.tokenizer),
            processors,
            model.config.pad_token_id,
            model.config.max_position_embeddings,
            costs,
            missing,
            _key(model),
        )


def _key(model: OmniModel) -> str:
    """A hash of the settings, the words and the packages that rows are read with."""
    letters = model.tokenizer.encode("The quick brown fox, 12 + 3; 你好，世界。\n<image>")
    packages = sorted({(e.plugin, version_of(e.plugin)) for e in get_plugins().encoders})
    settings = json.dumps([model.sources.config, model.sources.preprocessor], sort_keys=True)
    return hashlib.sha256(f"{settings} {letters} {packages}".encode()).hexdigest()


def _active_weights(model: OmniModel) -> int:
    """How many weights of the backbone work on a token. Embedded ids are only looked up."""
    config = model.config
    backbone = model.present("backbone") or model.sources.prepare("backbone").module
    layers = sum(map(config.is_moe_layer, range(config.num_hidden_layers)))
    idle = config.num_experts - config.router.top_k
    unused = layers * idle * 3 * config.hidden_size * config.moe_intermediate_size
    looked_up = config.vocab_size * config.hidden_size
    return max(sum(p.numel() for p in backbone.parameters()) - unused - looked_up, 1)


@dataclass(frozen=True)
class Example:
    """A record with its prompt and its media, each of which its processor has read.

    notes: what the user should know about the media.
    """

    record: Record
    prompt: Prompt
    features: Sequence[Features]
    notes: Sequence[str] = ()

    @property
    def tokens(self) -> int:
        return len(self.prompt.input_ids)

    @property
    def targets(self) -> int:
        """How many tokens the loss is about. The first token of a row has none before it."""
        return sum(self.prompt.targets[1:])

    @cached_property
    def leading(self) -> int:
        """How many media stand before all text of the first question."""
        count = 0
        for part in next(m for m in self.record.messages if m.role == "user").parts:
            if isinstance(part, Text) and not is_blank(part.text):
                break
            count += isinstance(part, Media)
        return min(count, len(self.features))

    @cached_property
    def prefix(self) -> int:
        """Tokens up to the last patch of the leading media; 0 without such media."""
        runs = [run for run in self.prompt.runs if run.index < self.leading]
        return max((run.start + run.count for run in runs), default=0)

    @cached_property
    def group(self) -> str:
        """Equal for conversations that begin with the same media; empty without leading media."""
        if not self.prefix:
            return ""
        media = self.prompt.media[: self.leading]
        what = self.prompt.input_ids[: self.prefix], [identity(medium) for medium in media]
        return hashlib.sha256(repr(what).encode()).hexdigest()[:24]

    def work(self) -> dict[str, int]:
        """Rows of input of each encoder, by modality."""
        found: dict[str, int] = {}
        for item in self.features:
            found[item.modality] = found.get(item.modality, 0) + work_of(item)
        return found

    def positions(self, rule: PositionRule) -> Tensor:
        """Position ids [3, T] of the record alone."""
        stills, videos = split_grids(self.features)
        ids = torch.tensor([self.prompt.input_ids], device="cpu")
        found, _ = rope_index(rule, ids, None, stills, videos)
        return found[:, 0]


def work_of(features: Features) -> int:
    """Rows that the encoder reads, such as patches or frames."""
    grid = features.grid
    if grid is not None:
        return sum(prod(row) for row in grid.tolist())
    rows = [len(x) for x in features.tensors.values() if x.is_floating_point()]
    return sum(rows)


def read_example(
    record: Record,
    parts: Parts,
    seen: dict[str, Features] | None = None,
    change: Callable[[Media], Media] | None = None,
) -> Example:
    """Open the media of a record and write its prompt. Raises BadRow.

    seen: media that are not read again, by `identity`; those of this record are added.
    change: gives what is read in the place of a medium.
    """
    messages = [with_sound(message) for message in record.messages]
    media = media_parts(messages)
    seen = {} if seen is None else seen
    features: list[Features] = []
    with collected_notes() as notes:
        for medium in media:
            name = identity(medium)
            if name not in seen:
                seen[name] = _read(medium, record, parts, change)
            features.append(seen[name])
    sizes = [MediaTokens(item.tokens[0], item_seconds(item)[0]) for item in features]
    return Example(record, _prompt(record, messages, parts, sizes), features, tuple(notes))


def _prompt(
    record: Record, messages: Sequence[Message], parts: Parts, sizes: Sequence[MediaTokens]
) -> Prompt:
    try:
        return build_example(messages, parts.format, parts.tokenizer, sizes, think=record.think)
    except BadConversation as error:
        raise BadRow("turns", record.where, str(error)) from None
    except MingError as error:
        raise BadRow("not for this model", record.where, str(error)) from None


def _read(
    medium: Media, record: Record, parts: Parts, change: Callable[[Media], Media] | None
) -> Features:
    modality = medium.modality
    if modality not in parts.processors:
        why = parts.missing.get(modality) or f"{parts.name} reads no media of the kind {modality}"
        raise BadRow("not for this model", record.where, str(why))
    try:
        return parts.processors[modality]([change(medium) if change else medium])
    except BadMedia as error:
        raise BadRow("unreadable media", record.where, str(error)) from None
    except MingError as error:
        raise BadRow("not for this model", record.where, str(error)) from None
