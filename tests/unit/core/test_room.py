"""What is forgotten of a conversation at the end of the context."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ming_core.chat import with_room
from ming_core.media import Image, Message, Text, assistant, system, user


class Model:
    """A context of 100 tokens; a word is one and a medium ten."""

    config = SimpleNamespace(max_position_embeddings=100)

    def room(self, messages: Any, think: bool = False) -> int:
        parts = [part for message in messages for part in message.parts]
        return 100 - sum(len(p.text.split()) if isinstance(p, Text) else 10 for p in parts)


def words(count: int) -> str:
    return " ".join("w" * count)


def turn(name: str, count: int = 9, picture: bool = False) -> list[Message]:
    shown = [Image(name)] if picture else []
    return [user(*shown, f"{name} {words(count)}"), assistant(words(10))]


def names(messages: list[Message]) -> list[str]:
    return [m.text.split()[0] for m in messages if m.role == "user"]


MODEL: Any = Model()


def test_a_conversation_with_room_is_left_alone() -> None:
    messages = [*turn("a"), *turn("b"), user("c")]
    assert with_room(MODEL, messages) == messages


def test_pairs_leave_until_a_quarter_is_free() -> None:
    messages = [system("be brief"), *turn("a"), *turn("b"), *turn("c"), *turn("d"), user("e")]
    left = with_room(MODEL, messages)
    assert names(left) == ["b", "c", "d", "e"]
    assert MODEL.room(left) >= 25
    assert left[0].role == "system"


@pytest.mark.parametrize("tokens", [17, 18])
def test_they_leave_only_if_the_answer_has_no_room(tokens: int) -> None:
    messages = [*turn("a"), *turn("b"), *turn("c"), *turn("d"), user("e f g")]
    assert MODEL.room(messages) == 17
    assert (names(with_room(MODEL, messages, tokens))[0] == "a") == (tokens == 17)


def test_media_leave_last() -> None:
    messages = [*turn("a", picture=True), *turn("b"), *turn("c"), *turn("d"), user("e")]
    assert names(with_room(MODEL, messages)) == ["a", "c", "d", "e"]
    messages[-1:] = [user(words(50))]
    assert names(with_room(MODEL, messages))[0] == "w"


def test_a_question_that_is_too_long_forgets_nothing() -> None:
    messages = [*turn("a"), *turn("b"), user(words(200))]
    assert with_room(MODEL, messages) == messages
