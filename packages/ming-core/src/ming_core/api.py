"""What most people use: `load` a model, `ask` it, `chat` with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from ming_core.chat.formats import format_of
from ming_core.chat.prompt import MediaTokens, Prompt, build_prompt, media_parts
from ming_core.chat.tokenizer import StreamDecoder
from ming_core.config import BackboneConfig
from ming_core.directory import missing_task
from ming_core.errors import BadConfig
from ming_core.generate import Sampling, generate
from ming_core.loading import Sources, open_sources
from ming_core.media import Audio, Image, Media, Message, Part, Video, system, user
from ming_core.model.cache import Cache
from ming_core.model.encoder import Encoder, Features, by_modality
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import rope_index
from ming_core.plugins import get_plugins

if TYPE_CHECKING:
    from typing import Unpack

    from ming_core.generate import SamplingOptions

MODALITIES: dict[type[Media], str] = {Image: "image", Video: "image", Audio: "audio"}
"""Which encoder reads a kind of media; images and video share one."""


@dataclass(frozen=True)
class Answer:
    """What the model said. tokens: generated ones; stopped: False if the budget cut it off."""

    text: str
    tokens: int
    stopped: bool

    def __str__(self) -> str:
        return self.text

    def save(self, path: str | Path) -> Path:
        """Write the text as UTF-8; the file appears complete or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.partial")
        temporary.write_text(self.text + "\n", encoding="utf-8")
        os.replace(temporary, path)
        return path


def load(
    model: str | Path = "nano",
    device: str = "auto",
    dtype: str = "auto",
    parts: Sequence[str] | None = None,
) -> OmniModel:
    """Load a preset by name or a checkpoint folder in the released layout.

    device: "auto" takes a GPU if there is one. dtype: "auto" is the checkpoint's own on a GPU; on
    CPU float32 for small models, else bfloat16. parts: which modalities to load now ("text",
    "image", "audio"), refusing the others; None loads each encoder when it is first needed.

    Raises UnknownName, BadCheckpoint, BadConfig or MissingPlugin.
    """
    sources = open_sources(model, device, dtype, parts)
    loaded = OmniModel(str(model), Omni(sources.load_backbone()).eval(), sources)
    for part in parts or ():
        if part != "text":
            loaded.encoder(part)
    list(get_plugins().each("ming_model_loaded", model=loaded))
    return loaded


@dataclass
class _Memory:
    """The last conversation: token ids whose keys and values `cache` holds, and its media."""

    ids: list[int]
    prompt: Prompt
    cache: Cache


class OmniModel:
    """A loaded model. Tasks of installed packages are its methods: `model.ask`, `model.chat`, …"""

    def __init__(self, name: str, omni: Omni, sources: Sources) -> None:
        self.name = name
        self.omni = omni
        self.sources = sources
        self.tokenizer = sources.tokenizer
        self.format = format_of(self.config)
        self._memory: _Memory | None = None

    @property
    def config(self) -> BackboneConfig:
        return self.omni.backbone.config

    @property
    def tasks(self) -> dict[str, str]:
        """Name and summary of every task that installed packages bring."""
        return {entry.name: entry.summary for entry in get_plugins().tasks}

    def encoder(self, modality: str) -> Encoder:
        """The encoder of "image" or "audio", loaded at first use.

        Raises MissingPlugin with the package to install, or BadCheckpoint.
        """
        if modality not in self.omni.encoders:
            self.omni.encoders[modality] = self.sources.load_encoder(modality)
        return self.omni.encoders[modality]  # type: ignore[return-value]

    @overload
    def ask(
        self,
        question: str,
        *media: Part | str,
        stream: Literal[False] = False,
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer: ...
    @overload
    def ask(
        self,
        question: str,
        *media: Part | str,
        stream: Literal[True],
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[str]: ...
    def ask(
        self,
        question: str,
        *media: Part | str,
        stream: bool = False,
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer | Iterator[str]:
        """Answer one question about media and text.

        media stand before the question in the order given. think lets the model reason first;
        instructions replace the system text. sampling: fields of `Sampling`. With stream the
        pieces of text come as they are generated.
        """
        messages = [user(*media, question)]
        if instructions is not None:
            messages.insert(0, system(instructions))
        pieces = self._run(messages, think, Sampling(**sampling))
        return _texts(pieces) if stream else self._collect(pieces)

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = False,
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[True],
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[str]: ...
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer | Iterator[str]:
        """Answer the last turn of a conversation.

        What the conversation shares with the one before (same text, same media objects) is not
        computed again: a follow-up question costs its own tokens only.
        """
        pieces = self._run(tuple(messages), think, Sampling(**sampling), remember=True)
        return _texts(pieces) if stream else self._collect(pieces)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> list[Answer]:
        """Answers of several conversations, with any mix of media, decoded together."""
        settings = Sampling(**sampling)
        prepared = [self._prepare(messages, think) for messages in conversations]
        if not prepared:
            return []
        prompts = [prompt for prompt, _ in prepared]
        length = max(len(prompt.input_ids) for prompt in prompts)
        ids = torch.full((len(prompts), length), self.config.pad_token_id)
        modality, segments = torch.zeros_like(ids), torch.full_like(ids, -1)
        for row, prompt in enumerate(prompts):  # left padding: all rows end together
            at = length - len(prompt.input_ids)
            ids[row, at:] = torch.tensor(prompt.input_ids)
            modality[row, at:] = torch.tensor(prompt.modality_ids)
            segments[row, at:] = 0
        features = [item for _, items in prepared for item in items]
        budget = self._budget(length, settings)
        positions, deltas = self._positions(ids, segments + 1, features)
        batch = OmniBatch(ids, positions, modality, segments, features=by_modality(features))
        batch = batch.to(self.sources.device, self.sources.dtype)
        with torch.inference_mode():
            embeds = self.omni.embed(batch)
        rows: list[list[int]] = [[] for _ in prompts]
        for step in generate(
            self.omni.backbone,
            embeds,
            batch.position_ids,
            deltas.to(self.sources.device),
            prompt_ids=[prompt.input_ids for prompt in prompts],
            eos=[self._stop_id],
            pad=-1,
            sampling=budget,
            modality_ids=batch.modality_ids,
            segment_ids=batch.segment_ids,
        ):
            for row, token in zip(rows, step.tokens.tolist(), strict=True):
                if token >= 0:
                    row.append(token)
        return [self._answer(tokens) for tokens in rows]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            found = get_plugins().tasks.find(name)
            if found:
                return partial(found[0].load(), self)
            hint = missing_task(name)
            if hint is not None:
                raise hint
        raise AttributeError(f"{type(self).__name__} has no attribute or task {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tasks]

    @property
    def _stop_id(self) -> int:
        return self.tokenizer.id(self.format.stop)

    def _answer(self, tokens: list[int]) -> Answer:
        stopped = bool(tokens) and tokens[-1] == self._stop_id
        return Answer(self.tokenizer.decode(tokens).strip(), len(tokens), stopped)

    def _collect(self, pieces: Iterator[tuple[str, list[int]]]) -> Answer:
        *_, (_, tokens) = pieces
        return self._answer(tokens)

    def _prepare(self, messages: Sequence[Message], think: bool) -> tuple[Prompt, list[Features]]:
        """Token ids of a conversation, and the encoder input of each of its media."""
        media = media_parts(messages)
        features = [self.encoder(MODALITIES[type(part)]).processor([part]) for part in media]
        sizes = [MediaTokens(sum(item.tokens)) for item in features]
        return build_prompt(messages, self.format, self.tokenizer, sizes, think=think), features

    def _positions(
        self, ids: Tensor, attention_mask: Tensor, features: Sequence[Features]
    ) -> tuple[Tensor, Tensor]:
        grids = [f.grid for f in features if f.grid is not None]
        return rope_index(self.config, ids, attention_mask, torch.cat(grids) if grids else None)

    def _budget(self, length: int, sampling: Sampling) -> Sampling:
        """The sampling with its token budget cut to what the context still holds."""
        room = self.config.max_position_embeddings - length
        if room < 1:
            raise BadConfig(
                f"the prompt has {length} tokens and the context of {self.name} holds "
                f"{self.config.max_position_embeddings}; shorten the text or use smaller media"
            )
        return replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))

    def _run(
        self,
        messages: Sequence[Message],
        think: bool,
        sampling: Sampling,
        remember: bool = False,
    ) -> Iterator[tuple[str, list[int]]]:
        """Generate one answer; yields each piece of text with all token ids so far.

        remember: go on from the last remembered conversation and leave this one for the next.
        """
        prompt, features = self._prepare(messages, think)
        sampling = self._budget(len(prompt.input_ids), sampling)
        # Taken, not shared: should this answer be cut short, its cache is not complete.
        memory, self._memory = (self._memory, None) if remember else (None, self._memory)
        cache, known = Cache(), 0
        if memory is not None:
            cache, known = memory.cache, _common(memory, prompt)
            cache.crop(known)
        ids = torch.tensor([prompt.input_ids])
        positions, deltas = self._positions(ids, torch.ones_like(ids), features)
        batch = OmniBatch(
            ids[:, known:],
            positions[:, :, known:],
            torch.tensor([prompt.modality_ids])[:, known:],
            features=by_modality(_unseen(prompt, features, known)),
        ).to(self.sources.device, self.sources.dtype)
        with torch.inference_mode():
            embeds = self.omni.embed(batch)
        decoder, tokens = StreamDecoder(self.tokenizer), []
        for step in generate(
            self.omni.backbone,
            embeds,
            batch.position_ids,
            deltas.to(self.sources.device),
            prompt_ids=[prompt.input_ids],
            eos=[self._stop_id],
            pad=self.config.pad_token_id,
            sampling=sampling,
            modality_ids=batch.modality_ids,
            cache=cache,
        ):
            tokens.append(int(step.tokens[0]))
            yield decoder.push(tokens[-1]), tokens
        yield decoder.flush(), tokens
        if remember:  # the last token was chosen but not yet fed
            fed = [*prompt.input_ids, *tokens][: cache.length]
            self._memory = _Memory(fed, prompt, cache)


def _common(memory: _Memory, prompt: Prompt) -> int:
    """How many leading tokens two conversations share, with the very same media in them.

    At least one token is left over: its hidden state starts the answer.
    """
    limit = min(len(memory.ids), len(prompt.input_ids) - 1)
    pairs = zip(memory.ids[:limit], prompt.input_ids, strict=False)
    shared = next((i for i, (old, new) in enumerate(pairs) if old != new), limit)
    for run in prompt.runs:
        same = run in memory.prompt.runs and (
            memory.prompt.media[run.index] is prompt.media[run.index]
        )
        if not same or run.start + run.count > shared:
            # A medium may have several runs (the frames of a video); it is encoded as a whole.
            return min(shared, next(r.start for r in prompt.runs if r.index == run.index))
    return shared


def _unseen(prompt: Prompt, features: list[Features], known: int) -> list[Features]:
    """The encoder inputs of the media whose tokens are not in the cache yet."""
    seen = {run.index for run in prompt.runs if run.start < known}
    return [item for i, item in enumerate(features) if i not in seen]


def _texts(pieces: Iterator[tuple[str, list[int]]]) -> Iterator[str]:
    return (text for text, _ in pieces if text)
