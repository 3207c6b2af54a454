from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ming_core
from ming_core.media import (
    Audio,
    Image,
    Message,
    Text,
    Video,
    as_part,
    assistant,
    media_from_path,
    system,
    user,
)


def test_strings_become_text_and_order_is_kept() -> None:
    picture = Image("a.png")
    message = user("what is ", picture, "this?")
    assert message.role == "user"
    assert message.parts == (Text("what is "), picture, Text("this?"))
    assert message.text == str(message) == "what is this?"
    assert assistant("a star") == Message("assistant", (Text("a star"),))
    assert system("be brief").role == "system"
    assert Message("user", "hello").parts == (Text("hello"),)  # type: ignore[arg-type]


def test_wrong_roles_and_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="role must be one of system, user, assistant, not 'bot'"):
        Message("bot", ())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not ndarray"):
        as_part(np.zeros(3))  # type: ignore[arg-type]


def test_media_name_themselves() -> None:
    assert str(Image(Path("a") / "b.png")) == "a/b.png"
    assert Image("b.png").path == Path("b.png")
    frame = Image(np.zeros((2, 2, 3), np.uint8))
    assert frame.path is None
    assert str(frame) == "image in memory (ndarray)"
    assert user(frame) == user(frame)  # equality never asks an array for its truth value
    assert user(frame) != user(Image(frame.source))


@pytest.mark.parametrize(
    ("path", "kind"),
    [("a.WAV", Audio), ("b.mp4", Video), (Path("c.jpeg"), Image), ("noextension", Image)],
)
def test_kind_follows_the_suffix(path: str | Path, kind: type) -> None:
    part = media_from_path(path)
    assert type(part) is kind
    assert part.source == path


def test_public_names_are_the_modules_own() -> None:
    assert ming_core.Image is Image
    assert set(ming_core.__all__) <= set(dir(ming_core))
    with pytest.raises(AttributeError, match="has no attribute 'Picture'"):
        _ = ming_core.Picture
