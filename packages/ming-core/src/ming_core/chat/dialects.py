"""Messages as other tools write them: a mapping with a role and a content.

The content is a text, or a list of parts, each with its `type`. We read the parts of the chat API
of OpenAI (`text`, `image_url`, `input_audio`, ...), and those of transformers and of the Ming
scripts (`{"type": "image", "image": ...}`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Audio, Image, Message, Part, Role, Text, Video, as_medium, as_part

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
}
_MEDIA: dict[str, type[Image] | type[Audio] | type[Video]] = {
    "image": Image,
    "image_url": Image,
    "input_image": Image,
    "audio": Audio,
    "audio_url": Audio,
    "input_audio": Audio,
    "video": Video,
    "video_url": Video,
}
_TEXTS = ("text", "input_text", "output_text")


def as_messages(conversation: Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """A conversation as our own objects. Raises BadConfig for anything that is no message."""
    if isinstance(conversation, str | bytes | Mapping | Message):
        raise BadConfig(
            "a conversation must be a list of messages; put the single message into a list"
        )
    return tuple(map(as_message, conversation))


def as_message(message: Message | Mapping[str, Any]) -> Message:
    """One turn. Raises BadConfig for an unknown role or part."""
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        raise BadConfig(
            f"a message must be a Message or {{'role': ..., 'content': ...}}, not {message!r:.80}"
        )
    role = _ROLES.get(str(message["role"]).lower())
    if role is None:
        raise BadConfig(f"role is {message['role']!r:.40}; use system, user or assistant")
    content = message["content"]
    if isinstance(content, str):
        return Message(role, (Text(content),))
    if isinstance(content, Mapping) or not isinstance(content, Iterable):
        content = [content]
    return Message(role, tuple(map(_part, content)))


def _part(part: Any) -> Part:
    if not isinstance(part, Mapping):
        return as_part(part)
    kind = part.get("type")
    if kind in _TEXTS:
        if not isinstance(text := part.get("text"), str):
            raise BadConfig(f"a part of type {kind!r} needs a 'text', and has {text!r:.40}")
        return Text(text)
    if kind not in _MEDIA:
        known = ", ".join((*_TEXTS[:1], *_MEDIA))
        raise BadConfig(f"a part of a message has the type {kind!r:.40}; known: {known}")
    value = part.get(kind)
    if isinstance(value, Mapping):  # {"url": ...}, or {"data": base64, "format": "wav"}
        value = _decoded(value["data"]) if "data" in value else value.get("url")
    if value is None:
        raise BadConfig(f"a part of type {kind!r} needs a value under {kind!r}")
    wanted = _MEDIA[kind]
    found = as_medium(value)
    return found if type(found) is wanted else wanted(found.source)


def _decoded(data: Any) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (TypeError, ValueError) as error:
        raise BadMedia(f"the data of a message are no valid base64: {error}") from error
