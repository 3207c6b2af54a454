"""From messages to token ids.

A prompt is a list of segments: special tokens of the chat format, plain characters, and patches of
media. Plain characters are encoded without special tokens. So text that a person typed, such as
`<image>` or `<|role_end|>`, stays text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from ming_core.chat.formats import ChatFormat, MediaBlock
from ming_core.errors import BadMedia, MingError
from ming_core.media import Media, Message, Role, Text
from ming_core.modalities import TEXT
from ming_core.model.queries import NO_QUERY, Queries
from ming_core.text import is_blank
from ming_core.training.labels import IGNORED


class BadConversation(MingError):
    """The order or the content of the messages cannot be written in a chat format."""


class TextEncoder(Protocol):
    """The methods that a prompt needs of a tokenizer."""

    def id(self, token: str) -> int: ...

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Special:
    """One special token of the format. `target`: the model has to learn to write it."""

    text: str
    target: bool = False


@dataclass(frozen=True)
class Chars:
    """Plain characters, never read as special tokens."""

    text: str
    target: bool = False


@dataclass(frozen=True)
class Slot:
    """The place of the medium number `index` before its patches are known."""

    index: int
    block: MediaBlock

    @property
    def text(self) -> str:
        return self.block.placeholder


@dataclass(frozen=True)
class Patches:
    """`count` patch tokens, to be replaced by features of the medium number `index`."""

    index: int
    block: MediaBlock
    count: int

    @property
    def text(self) -> str:
        return self.block.patch * self.count


@dataclass(frozen=True)
class QueryPatches:
    """`count` patch tokens, to be replaced by the query vectors from number `first` on."""

    first: int
    block: MediaBlock
    count: int

    @property
    def text(self) -> str:
        return self.block.patch * self.count


Segment = Special | Chars | Slot | Patches | QueryPatches


@dataclass(frozen=True)
class MediaTokens:
    """Size of one medium in a prompt.

    count: number of patch tokens. seconds: time of each temporal patch of a video; each of them has
    the same number of tokens. A format with timestamps needs them.
    """

    count: int
    seconds: Sequence[float] = ()


@dataclass(frozen=True)
class Run:
    """`count` consecutive patch tokens of the medium number `index` from position `start`."""

    index: int
    start: int
    count: int


@dataclass(frozen=True)
class Prompt:
    """Token ids of a conversation; `media` and `runs` are in reading order.

    modality_ids: 0 text, 1 image or video patch, 2 audio patch. targets: whether the token belongs
    to an assistant's answer, its end token included. query_ids: the number of the query vector that
    stands for a token, -1 for all others; empty if no head adds queries.
    """

    input_ids: list[int]
    modality_ids: list[int]
    targets: list[bool]
    media: tuple[Media, ...] = ()
    runs: list[Run] = field(default_factory=list)
    query_ids: list[int] = field(default_factory=list)

    @property
    def first_query(self) -> int:
        """Place of the first query token; the length of the prompt if it has none."""
        places = (place for place, number in enumerate(self.query_ids) if number != NO_QUERY)
        return next(places, len(self.input_ids))

    @property
    def labels(self) -> list[int]:
        """Training labels: the ids of the targets, IGNORED elsewhere; not yet shifted."""
        return [i if t else IGNORED for i, t in zip(self.input_ids, self.targets)]


def media_parts(messages: Iterable[Message]) -> tuple[Media, ...]:
    """All media of a conversation in reading order."""
    return tuple(part for m in messages for part in m.parts if isinstance(part, Media))


def build_prompt(
    messages: Sequence[Message],
    format: ChatFormat,
    tokenizer: TextEncoder,
    media: Sequence[MediaTokens] = (),
    *,
    add_generation_prompt: bool = True,
    think: bool = False,
    begin: str = "",
    queries: Queries | None = None,
) -> Prompt:
    """Token ids that ask the model for the next answer.

    media: sizes of `media_parts(messages)`. think: let the model reason before it answers. begin:
    text with which its answer begins. queries: the query tokens of a head. Raises BadConversation
    for messages that the format cannot hold, and BadMedia for media that it cannot hold or whose
    sizes are missing.
    """
    segments = render(
        messages, format, add_generation_prompt=add_generation_prompt, think=think, queries=queries
    )
    if begin:
        segments.append(Chars(begin))
    if queries is not None and queries.where == "answer":
        segments += _query_blocks(queries, format)
    return _encode(expand(segments, media), tokenizer, media_parts(messages))


def build_example(
    messages: Sequence[Message],
    format: ChatFormat,
    tokenizer: TextEncoder,
    media: Sequence[MediaTokens] = (),
    *,
    think: bool = False,
) -> Prompt:
    """A whole conversation for training. Each answer and the token that ends it are targets.

    In Lite an answer in a history has no end token, so only the last answer has one.
    Raises like `build_prompt`, and BadConversation if the last message is no answer.
    """
    segments = render_example(messages, format, think=think)
    return _encode(expand(segments, media), tokenizer, media_parts(messages))


def render_example(
    messages: Sequence[Message], format: ChatFormat, *, think: bool = False
) -> list[Segment]:
    """The segments of `build_example`, with a Slot for each medium."""
    if not messages or messages[-1].role != "assistant":
        raise BadConversation("a training example must end with the assistant's answer")
    segments = render(messages, format, add_generation_prompt=False, think=think)
    if format.turn_end is None:
        segments.append(Special(format.stop, target=True))
    return segments


def answer_ids(text: str, format: ChatFormat, tokenizer: TextEncoder) -> list[int]:
    """Ids of an answer as the model should write it, end token included."""
    return [*tokenizer.encode(text), tokenizer.id(format.stop)]


def render(
    messages: Sequence[Message],
    format: ChatFormat,
    *,
    add_generation_prompt: bool = True,
    think: bool = False,
    queries: Queries | None = None,
) -> list[Segment]:
    """The conversation as segments, with a Slot for each medium.

    Only queries that stand in the question are among them.
    """
    _check_conversation(messages, add_generation_prompt)
    segments: list[Segment] = []
    if messages[0].role == "system":
        system, messages = messages[0].text, messages[1:]
    else:
        system = format.default_system
    if system is not None:
        switch = format.thinking[think] if format.thinking else ""
        segments += [*_role("system", format), Chars(system + switch), *_turn_end(format)]

    questions = [i for i, m in enumerate(messages) if m.role == "user"]
    counter = iter(range(len(media_parts(messages))))
    for i, message in enumerate(messages):
        answer = message.role == "assistant"
        prefix = format.think_prefix if think and questions and i == questions[-1] else ""
        segments += _role(message.role, format)
        segments += _content(message, format, prefix, counter)
        if queries and queries.where == "question" and questions and i == questions[-1]:
            segments += _query_blocks(queries, format)
        segments += _turn_end(format, target=answer)
    if add_generation_prompt:
        segments += _role("assistant", format)

    kinds = {part.kind for part in media_parts(messages)}
    if format.shared_patches and {"image", "video"} <= kinds:
        raise BadMedia(
            f"the {format.name} models cannot read images and videos in one conversation; "
            "ask about them in two conversations"
        )
    return segments


def expand(segments: Iterable[Segment], media: Sequence[MediaTokens]) -> list[Segment]:
    """Replace every Slot by start token, patches and end token of its medium."""
    expanded: list[Segment] = []
    slots = 0
    for segment in segments:
        if isinstance(segment, Slot):
            slots += 1
            if segment.index < len(media):
                expanded += _block(segment, media[segment.index])
        else:
            expanded.append(segment)
    if slots != len(media):
        raise BadMedia(f"the messages hold {slots} media, but sizes of {len(media)} were given")
    return expanded


def to_text(segments: Iterable[Segment]) -> str:
    """The prompt as one string, as the released processors write it. Not safe to encode."""
    return "".join(segment.text for segment in segments)


def _role(role: Role, format: ChatFormat) -> list[Segment]:
    end = [] if format.role_end is None else [Special(format.role_end)]
    return [Special(format.role_start), Chars(format.roles[role]), *end]


def _turn_end(format: ChatFormat, target: bool = False) -> list[Segment]:
    if format.turn_end is None:
        return []
    return [
        Special(format.turn_end, target),
        *([Chars(format.after_turn)] * bool(format.after_turn)),
    ]


def _content(
    message: Message, format: ChatFormat, prefix: str, counter: Iterator[int]
) -> Iterator[Segment]:
    """Parts in their order; `prefix` precedes the first text."""
    for part in message.parts:
        if isinstance(part, Text):
            yield Chars(prefix + part.text, target=message.role == "assistant")
            prefix = ""
        else:
            yield Slot(next(counter), getattr(format, part.kind))
    if prefix:
        yield Chars(prefix)


def _block(slot: Slot, size: MediaTokens) -> Iterator[Segment]:
    block = slot.block
    yield Special(block.start)
    if block.frame is None:
        yield Patches(slot.index, block, size.count)
    else:
        frames = len(size.seconds)
        if not frames or size.count % frames:
            raise BadMedia(
                f"a video of {size.count} patch tokens cannot be split over {frames} timestamps; "
                "give the seconds of each temporal patch"
            )
        for seconds in size.seconds:
            yield Chars(block.timestamp.format(seconds))
            yield Special(block.frame[0])
            yield Patches(slot.index, block, size.count // frames)
            yield Special(block.frame[1])
    yield Special(block.end)
    if block.after:
        yield Chars(block.after)


def _query_blocks(queries: Queries, format: ChatFormat) -> Iterator[Segment]:
    block: MediaBlock = getattr(format, queries.modality)
    first = 0
    for count in queries.counts:
        yield Special(block.start)
        yield QueryPatches(first, block, count)
        yield Special(block.end)
        first += count


def _check_conversation(messages: Sequence[Message], asks: bool) -> None:
    roles = [message.role for message in messages]
    if not roles or roles == ["system"]:
        raise BadConversation("a conversation needs at least one message of the user")
    if "system" in roles[1:]:
        raise BadConversation("a system message can only be the first one; found a later one")
    if asks and roles[-1] != "user":
        raise BadConversation("the last message must be the user's when asking for an answer")
    if asks and all(isinstance(p, Text) and is_blank(p.text) for p in messages[-1].parts):
        raise BadConversation("the last message is empty; say what you want to know")
    for message in messages:
        if message.role != "user" and media_parts([message]):
            raise BadConversation(
                f"{message.role} messages hold text only; put images and sounds in user messages"
            )


def _encode(
    segments: Iterable[Segment], tokenizer: TextEncoder, media: tuple[Media, ...]
) -> Prompt:
    ids: list[int] = []
    modalities: list[int] = []
    targets: list[bool] = []
    runs: list[Run] = []
    queries: list[int] = []
    for segment in _joined(segments):
        target, modality = False, TEXT
        if isinstance(segment, Patches):
            runs.append(Run(segment.index, len(ids), segment.count))
            piece = [tokenizer.id(segment.block.patch)] * segment.count
            modality = segment.block.modality
        elif isinstance(segment, QueryPatches):
            queries += [NO_QUERY] * (len(ids) - len(queries))
            queries += range(segment.first, segment.first + segment.count)
            piece = [tokenizer.id(segment.block.patch)] * segment.count
            modality = segment.block.modality
        elif isinstance(segment, Chars):
            piece, target = tokenizer.encode(segment.text), segment.target
        elif isinstance(segment, Special):
            piece, target = [tokenizer.id(segment.text)], segment.target
        else:
            raise TypeError("slots must be expanded before they are encoded")
        ids += piece
        modalities += [modality] * len(piece)
        targets += [target] * len(piece)
    if queries:
        queries += [NO_QUERY] * (len(ids) - len(queries))
    return Prompt(ids, modalities, targets, media, runs, queries)


def _joined(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Neighbouring characters become one text: a tokenizer may merge across their border."""
    for target, group in groupby(segments, lambda s: s.target if isinstance(s, Chars) else None):
        if target is None:
            yield from group
        else:
            yield Chars(to_text(group), target)
