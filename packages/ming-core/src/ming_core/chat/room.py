"""A conversation that fills the context: which of its turns are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ming_core.media import Media, Message

if TYPE_CHECKING:
    from ming_core.api import OmniModel


def with_room(
    model: OmniModel, messages: Sequence[Message], tokens: int = 256, think: bool = False
) -> list[Message]:
    """The conversation, without its oldest turns if an answer of `tokens` tokens has no room.

    A question and its answer are removed together, the oldest first. Turns with text only are
    removed before turns with media. The system text and the last question stay. If something is
    removed, a quarter of the context becomes free. If the last question alone is too long, nothing
    is removed, and `chat` raises an error.
    """
    quarter = model.config.max_position_embeddings // 4
    left, room = list(messages), model.room(messages, think)
    if room >= min(tokens, quarter):
        return left
    while room < quarter and (pair := _first_to_go(left)):
        del left[pair]
        room = model.room(left, think)
    return left if room > 0 else list(messages)


def _first_to_go(messages: Sequence[Message]) -> slice | None:
    """Where the pair stands that is forgotten next; None if only the last question is left."""
    starts = [i for i, message in enumerate(messages) if message.role == "user"]
    pairs = [slice(start, end) for start, end in pairwise(starts)]
    plain = [pair for pair in pairs if not _shows(messages[pair])]
    return next(iter(plain or pairs), None)


def _shows(messages: Sequence[Message]) -> bool:
    return any(isinstance(part, Media) for message in messages for part in message.parts)
