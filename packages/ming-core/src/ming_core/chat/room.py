"""A conversation at the end of the context: which of its turns are forgotten."""

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
    """The conversation, or what is left of it when an answer of so many tokens has no room.

    Turns leave as pairs of question and answer, the oldest first: those of text alone before those
    with media. The system text and the last question stay. So many leave at once that a quarter of
    the context is free, which is enough for any answer. Nothing leaves if the last question alone
    is too long, as `chat` then says.
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
