"""A prompt that does not fit into the context: what the user can do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

from ming_core.chat.prompt import Prompt
from ming_core.errors import MingError
from ming_core.media import Media, Message
from ming_core.model.encoder import Shrinks, Smaller, Taken
from ming_core.model.seen import Seen, SeenMedia

TRIES = 5
"""How often media are read again to find out."""

SHORTEN = "shorten the text or use smaller media"


class Prepare(Protocol):
    """Makes the prompt of a conversation and opens the media that are not known yet."""

    def __call__(
        self, messages: Sequence[Message], *, known: SeenMedia
    ) -> tuple[Prompt, list[Seen]]: ...


def way_out(
    messages: Sequence[Message],
    prompt: Prompt,
    seen: Sequence[Seen],
    limit: int,
    prepare: Prepare,
    processor: Callable[[str], Any],
) -> str:
    """What to do about a prompt of more than `limit` tokens, for the error.

    processor: gives the processor of a modality. A processor that can make its media smaller
    (`Shrinks`) proposes smaller ones. They are read to see whether they fit, and if they do not,
    the processor is asked again.
    """
    known = SeenMedia()
    known.keep(prompt.media, seen)
    advice = SHORTEN
    for _ in range(TRIES):
        smaller = _smaller(prompt, seen, len(prompt.input_ids) - limit, processor)
        if smaller is None:
            break
        advice = smaller.otherwise
        if not smaller.parts:
            break
        fewer = [_with_parts(message, smaller) for message in messages]
        try:
            prompt, seen = prepare(fewer, known=known)
        except MingError:  # the release cannot do with so little
            break
        if len(prompt.input_ids) <= limit:
            return smaller.advice
        messages = fewer
    return advice


def _smaller(
    prompt: Prompt, seen: Sequence[Seen], surplus: int, processor: Callable[[str], Any]
) -> Smaller | None:
    """What the first processor proposes that can make its media smaller."""
    for modality in dict.fromkeys(item.features.modality for item in seen):
        own = processor(modality)
        if isinstance(own, Shrinks):
            taken = [
                Taken(medium, item.features, _step(prompt, index))
                for index, (medium, item) in enumerate(zip(prompt.media, seen, strict=True))
                if item.features.modality == modality
            ]
            if (smaller := own.smaller(taken, surplus)) is not None:
                return smaller
    return None


def _step(prompt: Prompt, index: int) -> int | None:
    """Most tokens from the start of one run of a medium to the next; None for a single run."""
    starts = [run.start for run in prompt.runs if run.index == index]
    return max((b - a for a, b in pairwise(starts)), default=None)


def _with_parts(message: Message, smaller: Smaller) -> Message:
    def put(part: Any) -> Any:
        return smaller.parts.get(part, part) if isinstance(part, Media) else part

    return replace(message, parts=tuple(map(put, message.parts)))
