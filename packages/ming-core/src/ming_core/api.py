"""What most people use: `load` a model, `ask` it, `chat` with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from ming_core.chat.dialects import as_messages
from ming_core.chat.formats import format_of
from ming_core.chat.prompt import MediaTokens, Prompt, build_prompt, media_parts
from ming_core.chat.thinking import THINKING_TOKENS
from ming_core.chat.tokenizer import StreamDecoder
from ming_core.engine.answers import Answer, Row
from ming_core.engine.fitting import thin_out
from ming_core.engine.generate import Sampling, generate, loop_of
from ming_core.engine.knowledge import Knowledge, read_familiar
from ming_core.errors import BadConfig, NotFinite, UnknownName
from ming_core.loading import Sources, open_sources
from ming_core.media import (
    Audio,
    Media,
    Message,
    as_medium,
    names_medium,
    system,
    user,
    with_sound,
)
from ming_core.model.cache import Cache
from ming_core.model.config import BackboneConfig
from ming_core.model.encoder import Encoder, Features, split_grids
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import rope_index
from ming_core.model.seen import Seen, SeenMedia, encode, encoded, shared_tokens
from ming_core.notes import note_to_user
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import missing_task
from ming_core.text import is_blank

if TYPE_CHECKING:
    from typing import Unpack

    from ming_core.engine.generate import SamplingOptions

LOOPED = (
    "the answer was cut off because it said the same thing over and over; max_loop=0 lets it go on"
)


def load(
    model: str | Path = "nano",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    parts: str | Sequence[str] | None = None,
) -> OmniModel:
    """Load a preset by name, or a checkpoint folder in the released layout.

    Args:
        model: Name of a preset or path of a folder. If a folder has the name of a preset, write
            `./name`.
        device: Name of a device, or "auto": the GPU if there is one.
        dtype: Name of a dtype, or "auto": on a GPU the dtype of the checkpoint; on a CPU float32
            for small models and bfloat16 for large ones.
        parts: Modalities to load now, one or several of "text", "image" and "audio". All others
            are refused. None loads each encoder when it is first needed.

    Raises UnknownName, BadCheckpoint, BadConfig or MissingPlugin.
    """
    sources = open_sources(model, device, dtype, parts)
    loaded = OmniModel(str(model), Omni(sources.load_backbone()).eval(), sources)
    _say_what_it_knows(loaded)
    for part in sources.parts or ():
        if part != "text":
            loaded.encoder(part)
    list(get_plugins().each("ming_model_loaded", model=loaded))
    return loaded


@cache
def _say_once(sentence: str) -> None:
    note_to_user(sentence)


def _say_what_it_knows(model: OmniModel) -> None:
    """One line for each kind of small model in a process."""
    if model.knowledge is not None:
        _say_once(f"{model.short_name} knows only {model.knowledge.summary}")


@dataclass
class _Memory:
    """The last conversation: token ids whose keys and values `cache` holds, and its media."""

    ids: list[int]
    seen: list[Seen]
    cache: Cache


class OmniModel:
    """A loaded model, made by `load`. The tasks of installed packages are its methods:
    `model.describe`, `model.transcribe`, …
    """

    def __init__(self, name: str, omni: Omni, sources: Sources) -> None:
        self.name = name
        self.omni = omni
        self.sources = sources
        self.tokenizer = sources.tokenizer
        self.format = format_of(self.config)
        told = Knowledge.from_config(sources.config)
        self.knowledge = told and replace(told, familiar=read_familiar(sources.checkpoints))
        self._memory: _Memory | None = None
        # As many tokens as the context holds: all media of the last conversation, at the least.
        self._seen = SeenMedia(self.config.max_position_embeddings)

    @property
    def config(self) -> BackboneConfig:
        return self.omni.backbone.config

    @property
    def short_name(self) -> str:
        """The name without the folders in front of it."""
        return Path(self.name).name

    @property
    def tasks(self) -> dict[str, str]:
        """Name and summary of every task of the installed packages."""
        return {entry.name: entry.summary for entry in get_plugins().tasks}

    def encoder(self, modality: str) -> Encoder:
        """The encoder of "image" or "audio", loaded when it is first needed.

        Raises MissingPlugin with the package to install, or BadCheckpoint.
        """
        if modality not in self.omni.encoders:
            self.omni.encoders[modality] = self.sources.load_encoder(modality)
        return self.omni.encoders[modality]  # type: ignore[return-value]

    def save(self, folder: str | Path) -> Path:
        """Write the whole model with all of its parts into a new folder, which `load` can read.

        Raises BadCheckpoint if the folder is not empty or cannot be written. Then nothing is left.
        """
        from ming_core.checkpoints.saving import save_model

        return save_model(self.omni, self.sources, folder)

    @overload
    def ask(
        self,
        question: str | Audio,
        *media: Any,
        stream: Literal[False] = False,
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer: ...
    @overload
    def ask(
        self,
        question: str | Audio,
        *media: Any,
        stream: Literal[True],
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[str]: ...
    def ask(
        self,
        question: str | Audio,
        *media: Any,
        stream: bool = False,
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer | Iterator[str]:
        """Answer one written or spoken question about media and text.

        Args:
            question: Text, or an `Audio` with a spoken question.
            media: Pictures, sounds, videos and texts, which stand before the question in the given
                order. Everything that `as_medium` takes is allowed. A string is a path if such a
                file exists or if it looks like one; any other string is text.
            stream: Return the pieces of text while the model writes them.
            think: Let the model reason first, in up to 8192 tokens.
            instructions: Text that replaces the system text.
            sampling: Fields of `Sampling`.

        Raises BadConfig, BadMedia, MissingPlugin or NotFinite.
        """
        if isinstance(question, str) and is_blank(question):
            raise BadConfig("the question is empty; say what you want to know")
        messages = [user(*map(_shown, media), question)]
        if instructions is not None:
            messages.insert(0, system(instructions))
        settings = _sampling(think, sampling)
        pieces = self._run(messages, think, settings)
        return _texts(pieces) if stream else self._collect(pieces, settings)

    @overload
    def chat(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        stream: Literal[False] = False,
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        stream: Literal[True],
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[str]: ...
    def chat(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        stream: bool = False,
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer | Iterator[str]:
        """Answer the last turn of a conversation.

        The start that this conversation shares with the one before (same text, same media objects,
        or a video that has grown) is not computed again, so a follow-up question costs only its own
        tokens.

        Args:
            messages: Messages, or mappings as other tools write them.
            stream: Return the pieces of text while the model writes them.
            think: Let the model reason first, in up to 8192 tokens.
            sampling: Fields of `Sampling`.

        Raises BadConfig, BadMedia, MissingPlugin or NotFinite.
        """
        settings = _sampling(think, sampling)
        pieces = self._run(as_messages(messages), think, settings, remember=True)
        return _texts(pieces) if stream else self._collect(pieces, settings)

    def room(self, messages: Sequence[Message | Mapping[str, Any]], think: bool = False) -> int:
        """Number of tokens that the context has left for an answer; below 1 if there is no room.

        `ming_core.chat.with_room` removes old turns until there is room. Raises BadMedia.
        """
        prompt, seen = self._prepare(as_messages(messages), think, self._seen)
        self._seen.keep(prompt.media, seen)  # `chat` does not open them again
        return self.config.max_position_embeddings - len(prompt.input_ids)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message | Mapping[str, Any]]],
        think: bool = False,
        begin: str = "",
        **sampling: Unpack[SamplingOptions],
    ) -> list[Answer]:
        """Answer several conversations together, with any mix of media.

        Args:
            conversations: One list of messages for each answer.
            think: Let the model reason first, in up to 8192 tokens.
            begin: Text with which every answer begins. The answers do not repeat it.
            sampling: Fields of `Sampling`.

        If the values of a row are not finite, its answer has an `error`, and the other answers are
        right. Raises NotFinite if no row has an answer; also BadConfig, BadMedia or MissingPlugin.
        """
        settings = _sampling(think, sampling)
        prompts: list[Prompt] = []
        media: list[Seen] = []
        known = SeenMedia()  # several conversations may be about the same picture
        turns = [as_messages(messages) for messages in conversations]
        for messages in turns:
            prompt, seen = self._prepare(messages, think, known, begin)
            self._room(messages, think, prompt, seen)
            known.keep(prompt.media, seen)
            prompts.append(prompt)
            media += seen
        if not prompts:
            return []
        length = max(len(prompt.input_ids) for prompt in prompts)
        ids = torch.full((len(prompts), length), self.config.pad_token_id, device="cpu")
        modality, segments = torch.zeros_like(ids), torch.full_like(ids, -1)
        for row, prompt in enumerate(prompts):  # left padding: all rows end together
            at = length - len(prompt.input_ids)
            ids[row, at:] = torch.tensor(prompt.input_ids, device="cpu")
            modality[row, at:] = torch.tensor(prompt.modality_ids, device="cpu")
            segments[row, at:] = 0
        room = self.config.max_position_embeddings - length
        positions, deltas = self._positions(ids, segments + 1, media)
        embeds, batch = self._embed(OmniBatch(ids, positions, modality, segments), media)
        rows = [Row() for _ in prompts]
        for step in generate(
            self.omni.backbone,
            embeds,
            batch.position_ids,
            deltas.to(self.sources.device),
            prompt_ids=[prompt.input_ids for prompt in prompts],
            eos=[self._stop_id],
            pad=self.config.pad_token_id,
            sampling=_within(settings, room),
            modality_ids=batch.modality_ids,
            segment_ids=batch.segment_ids,
        ):
            for number, row in enumerate(rows):
                row.add(step, number)
        errors = self._errors(prompts, media, rows)
        if all(errors):
            raise NotFinite(errors[0])
        for error in filter(None, errors):
            note_to_user(error)
        answers, left = [], iter(media)
        for talk, prompt, row, error in zip(turns, prompts, rows, errors, strict=True):
            own = [next(left) for _ in prompt.media]
            sure = self._sure(talk, own, row)
            answers.append(self._answer(row, settings, sure, error or None))
        return answers

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            found = get_plugins().tasks.find(name)
            if found:
                # A method, so that `help` and `inspect` show the task's own text and signature.
                return MethodType(found[0].load(), self)
            hint = missing_task(name)
            if hint is not None:
                raise hint
        raise AttributeError(f"{type(self).__name__} has no attribute or task {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tasks]

    @property
    def _stop_id(self) -> int:
        return self.tokenizer.id(self.format.stop)

    def _answer(
        self, row: Row, sampling: Sampling, sure: bool | None, error: str | None = None
    ) -> Answer:
        tokens = row.tokens
        if row.end == "loop":
            turn = loop_of(tokens, sampling.max_loop)
            tokens = tokens[: len(tokens) - sampling.max_loop + turn]
        text = "" if error else self.tokenizer.decode(tokens).strip()
        stopped, repeated = row.end == "stop", row.end == "loop"
        return Answer(text, len(row.tokens), stopped, row.confidence, repeated, sure, error)

    def _sure(self, messages: Sequence[Message], seen: Sequence[Seen], row: Row) -> bool | None:
        """Whether a question lies within what the model was taught; None if it does not tell.

        What is spoken is not read, so that only what was answered tells whether it was understood.
        """
        known = self.knowledge
        if known is None:
            return None
        asked = messages[-1]
        spoken = any(isinstance(part, Audio) for part in asked.parts)
        if row.end == "loop" or row.confidence < known.confidence or not seen:
            return False
        if not spoken and not known.understands(asked.text):
            return False
        return all(
            item.values is not None and known.familiar[item.features.modality].knows(item.values)
            for item in seen
            if item.features.modality in known.familiar
        )

    def _collect(self, pieces: Iterator[tuple[str, Row]], sampling: Sampling) -> Answer:
        *_, (_, row) = pieces
        return self._answer(row, sampling, row.sure)

    def _check(self, prompt: Prompt, seen: Sequence[Seen], row: Row) -> None:
        (error,) = self._errors([prompt], seen, [row])
        if error:
            raise NotFinite(error)

    def _errors(
        self, prompts: Sequence[Prompt], media: Sequence[Seen], rows: Sequence[Row]
    ) -> list[str]:
        """Why each row has no answer; "" for those that have one. media: of all prompts."""
        left, errors = iter(media), []
        for prompt, row in zip(prompts, rows, strict=True):
            bad = [
                medium for medium, seen in zip(prompt.media, left, strict=False) if not seen.finite
            ]
            if bad:
                errors.append(
                    f"the encoder of {self.name} made values of {bad[0]} that are no finite "
                    "numbers; check the file, and the weights of the model"
                )
            elif row.end == "broken":
                errors.append(
                    f"{self.name} computed values that are no finite numbers, so there is no "
                    "answer; check its weights and config.json, or load it with dtype float32"
                )
            else:
                errors.append("")
        return errors

    def _prepare(
        self, messages: Sequence[Message], think: bool, known: SeenMedia, begin: str = ""
    ) -> tuple[Prompt, list[Seen]]:
        """Token ids of a conversation, and its media; those in `known` are not opened again."""
        messages = [with_sound(message) for message in messages]
        seen = known.look(media_parts(messages), self._read)
        sizes = [MediaTokens(item.tokens, item.seconds) for item in seen]
        prompt = build_prompt(
            messages, self.format, self.tokenizer, sizes, think=think, begin=begin
        )
        return prompt, seen

    def _read(self, medium: Media) -> Features:
        return self.encoder(medium.modality).processor([medium])

    def _positions(
        self, ids: Tensor, attention_mask: Tensor, media: Sequence[Seen]
    ) -> tuple[Tensor, Tensor]:
        stills, videos = split_grids([item.features for item in media])
        return rope_index(self.config, ids, attention_mask, stills, videos)

    @torch.inference_mode()
    def _embed(
        self, batch: OmniBatch, media: Sequence[Seen], skip: Sequence[int] | None = None
    ) -> tuple[Tensor, OmniBatch]:
        """Embeddings of a batch whose placeholders stand for `media`, and the moved batch.

        skip: leading tokens of each medium that have no placeholder in the batch.
        """
        device, dtype = self.sources.device, self.sources.dtype
        skip = skip or [0] * len(media)
        shown = [(item, n) for item, n in zip(media, skip, strict=True) if n < item.tokens]
        items, skip = [item for item, _ in shown], [n for _, n in shown]
        encode(self.omni, items, device, dtype)
        batch = replace(batch, encoded=encoded(items, skip)).to(device, dtype)
        return self.omni.embed(batch), batch

    def _room(
        self, messages: Sequence[Message], think: bool, prompt: Prompt, seen: Sequence[Seen]
    ) -> int:
        """How many tokens an answer may have. Raises BadConfig if the prompt leaves none."""
        length, context = len(prompt.input_ids), self.config.max_position_embeddings
        if length < context:
            return context - length
        way_out = "shorten the text or use smaller media"
        if any(item.seconds for item in seen):
            prepare = partial(self._prepare, think=think)
            way_out = thin_out(messages, prompt, seen, context - 1, prepare)
        raise BadConfig(
            f"the prompt has {length} tokens and the context of {self.name} holds {context}; "
            + way_out
        )

    def _run(
        self,
        messages: Sequence[Message],
        think: bool,
        sampling: Sampling,
        remember: bool = False,
    ) -> Iterator[tuple[str, Row]]:
        """Generate one answer; yields each piece of text with all that was written so far.

        remember: go on from the last remembered conversation and leave this one for the next.
        Raises NotFinite.
        """
        prompt, seen = self._prepare(messages, think, self._seen if remember else SeenMedia())
        sampling = _within(sampling, self._room(messages, think, prompt, seen))
        # Taken, not shared: should this answer be cut short, its cache is not complete.
        memory, self._memory = (self._memory, None) if remember else (None, self._memory)
        cache, known = Cache(), 0
        if memory is not None:
            cache, known = memory.cache, _common(memory, prompt, seen)
            cache.crop(known)
        ids = torch.tensor([prompt.input_ids], device="cpu")
        positions, deltas = self._positions(ids, torch.ones_like(ids), seen)
        modality = torch.tensor([prompt.modality_ids], device="cpu")
        batch = OmniBatch(ids[:, known:], positions[:, :, known:], modality[:, known:])
        embeds, batch = self._embed(batch, seen, _written(prompt, known))
        decoder, row = StreamDecoder(self.tokenizer), Row()
        self._check(prompt, seen, row)
        if remember:
            self._seen.keep(prompt.media, seen)
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
            row.add(step, 0)
            if row.end == "broken":
                self._check(prompt, seen, row)
            yield decoder.push(row.tokens[-1]), row
        if row.end == "loop":
            note_to_user(LOOPED)
        row.sure = self._sure(messages, seen, row)
        if row.sure is False and self.knowledge is not None:
            note_to_user(f"{self.short_name} is not sure: it knows only {self.knowledge.summary}")
        yield decoder.flush(), row
        if remember:  # the last token was chosen but not yet fed
            fed = [*prompt.input_ids, *row.tokens][: cache.length]
            self._memory = _Memory(fed, seen, cache)


def _common(memory: _Memory, prompt: Prompt, seen: Sequence[Seen]) -> int:
    """How many leading tokens two conversations share, with the same media behind them.

    A video that has grown shares what it was before (`shared_tokens`). At least one token is left
    over: its hidden state starts the answer.
    """
    limit = min(len(memory.ids), len(prompt.input_ids) - 1)
    pairs = zip(memory.ids[:limit], prompt.input_ids, strict=False)
    shared = next((i for i, (old, new) in enumerate(pairs) if old != new), limit)
    left = [shared_tokens(old, new) for old, new in zip(memory.seen, seen, strict=False)]
    for run in prompt.runs:
        if run.start >= shared:
            break
        if left[run.index] < run.count:
            return min(shared, run.start + left[run.index])
        left[run.index] -= run.count
    return shared


def _written(prompt: Prompt, known: int) -> list[int]:
    """How many tokens of each medium are among the first `known` of the prompt."""
    counts = [0] * len(prompt.media)
    for run in prompt.runs:
        counts[run.index] += min(max(known - run.start, 0), run.count)
    return counts


def _shown(value: Any) -> Any:
    """A medium as people give it: a string that names one is no text."""
    return as_medium(value) if isinstance(value, str) and names_medium(value) else value


def _within(sampling: Sampling, room: int) -> Sampling:
    """The sampling with its token budget cut to what the context still holds."""
    return replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))


def _sampling(think: bool, options: SamplingOptions) -> Sampling:
    """Settings of one answer; reasoning gets room for it."""
    known = [field.name for field in fields(Sampling)]
    for name in options:
        if name not in known:
            raise UnknownName("option of an answer", name, known)
    if think:
        options = {"max_new_tokens": THINKING_TOKENS, **options}
    return Sampling(**options)


def _texts(pieces: Iterator[tuple[str, Row]]) -> Iterator[str]:
    return (text for text, _ in pieces if text)
