"""A session: a conversation, and what the model has computed of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

from ming_core.chat.dialects import as_messages
from ming_core.chat.prompt import Prompt
from ming_core.engine.answers import Answer
from ming_core.engine.request import Request, sampling_of
from ming_core.loading import TEXT
from ming_core.media import Message
from ming_core.model.cache import Cache
from ming_core.model.seen import Seen, SeenMedia, shared_tokens

if TYPE_CHECKING:
    from typing import Unpack

    from ming_core.api import OmniModel
    from ming_core.engine.sampling import SamplingOptions


@dataclass
class Past:
    """Token ids whose keys and values `cache` holds, and the media among them."""

    ids: Sequence[int] = ()
    seen: Sequence[Seen] = ()
    cache: Cache = field(default_factory=Cache)

    def shared(self, prompt: Prompt, seen: Sequence[Seen]) -> int:
        """How many leading tokens a prompt shares with it, with the same media behind them.

        A video that has grown shares what it was before (`shared_tokens`). At least one token is
        left over: its hidden state starts the answer. Query tokens are not shared, as their ids do
        not say which vectors stand for them.
        """
        limit = min(len(self.ids), prompt.first_query, len(prompt.input_ids) - 1)
        pairs = zip(self.ids[:limit], prompt.input_ids, strict=False)
        shared = next((i for i, (old, new) in enumerate(pairs) if old != new), limit)
        left = [0] * len(seen)
        for index, (old, new) in enumerate(zip(self.seen, seen, strict=False)):
            left[index] = shared_tokens(old, new)
        for run in prompt.runs:
            if run.start >= shared:
                break
            if left[run.index] < run.count:
                return min(shared, run.start + left[run.index])
            left[run.index] -= run.count
        return shared


@dataclass(eq=False)
class Memory:
    """What a session keeps between its turns: media it has seen, and its past."""

    seen: SeenMedia
    past: Past = field(default_factory=Past)

    def take(self) -> Past:
        """The past, which is gone then: two turns at once must not write into one cache."""
        past, self.past = self.past, Past()
        return past


class Session:
    """A conversation with a model, made by `model.session`.

    Of the conversation before, it keeps what the model has computed. So a follow-up question costs
    only its own tokens, whatever other sessions do in between.
    """

    def __init__(self, model: OmniModel, memory: Memory | None = None) -> None:
        model.sources.require(TEXT)
        self.model = model
        # As many tokens as the context holds: all media of the last turn, at the least.
        self.memory = memory or Memory(SeenMedia(model.config.max_position_embeddings))

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

        The start that it shares with the conversation before (same text, same media objects, or a
        video that has grown) is not computed again. Nor is it if the answer before was cut short.

        Args:
            messages: All messages, or mappings as other tools write them.
            stream: Return the pieces of text while the model writes them.
            think: Let the model reason first, in up to 8192 tokens.
            sampling: Fields of `Sampling`.

        Raises BadConfig, BadMedia, MissingPlugin or NotFinite.
        """
        request = Request(as_messages(messages), think, sampling=sampling_of(think, sampling))
        engine = self.model.engine
        return engine.stream(request, self) if stream else engine.answer(request, self)

    def room(self, messages: Sequence[Message | Mapping[str, Any]], think: bool = False) -> int:
        """Number of tokens that the context has left for an answer; below 1 if there is no room.

        `ming_core.chat.with_room` removes old turns until there is room. Raises BadMedia.
        """
        return self.model.engine.room(Request(as_messages(messages), think), self)
