"""Rows as people have them, read into records.

A row is a mapping. Its keys say who wrote it:

- `messages`: our rows, those of ms-swift, and those that LLaMA-Factory calls openai.
- `conversations`: what LLaMA-Factory calls sharegpt.
- `query` and `response`: older rows of ms-swift.
- `instruction` and `output`: what LLaMA-Factory calls alpaca.

Media stand in a message as parts (`{"type": "image", "image": "a.png"}`), or as the tags `<image>`,
`<video>` and `<audio>` in its text. A tag stands for the next entry of the row's list `images`,
`videos` or `audios`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ming_core.errors import MingError
from ming_core.fields import shown
from ming_core.media import Audio, Image, Media, Message, Part, Role, Text, Video
from ming_core.media.files import MediaFile
from ming_core.text import is_blank, valid
from ming_recipes.training.records import BadRow, Record

Finder = Callable[[str, str], Any]
"""What a name in a row stands for: (kind of medium, name) -> source of a medium.

It raises MissingMedia if there is nothing of this name.
"""


class MissingMedia(MingError):
    """A row names a medium that is not there."""


@dataclass(frozen=True)
class Row:
    """A row of a file. find: gives the media that it names. spare: media that lie beside it."""

    values: Mapping[str, Any]
    where: str
    id: str
    find: Finder
    spare: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def bad(self, reason: str) -> BadRow:
        """The error for a value of a wrong type."""
        return BadRow("wrong type", self.where, reason)


ReadRow = Callable[[Row], Record]

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_TOOLS = ("tool", "tool_call", "tool_response", "function", "function_call", "observation")
_CLASSES: Mapping[str, type[Image] | type[Audio] | type[Video]] = {
    "image": Image,
    "video": Video,
    "audio": Audio,
}
_TAG = re.compile("<(image|video|audio)>")
_BOXES = re.compile("<(?:bbox|ref-object)>")
_THOUGHT = re.compile(r"\s*<think(?:ing)?>")

Turn = tuple[Any, Any, Any]
"""Role, content and reasoning, as the row has them."""


def read_row(row: Row) -> Record:
    """The record of a row of any dialect. Raises BadRow."""
    values = row.values
    for key in ("tools", "objects"):
        if values.get(key):
            raise row.bad(f"{key!r} cannot be trained on yet; leave such rows out")
    turns = _turns(row)
    messages = _Reader(row).messages(turns)
    return Record(
        id=id_of(row),
        messages=messages,
        weight=_weight(row),
        think=_thinks(row, messages),
        lang=_word(row, "lang"),
        task=_word(row, "task"),
        annotations=_mapping(row, "annotations"),
        where=row.where,
    )


def _turns(row: Row) -> list[Turn]:
    values = row.values
    if values.get("messages") is not None or values.get("conversations") is not None:
        key = "messages" if values.get("messages") is not None else "conversations"
        turns = list(_listed_turns(row, key))
    elif "query" in values and "response" in values:
        turns = [*_history(row), ("user", values["query"], None)]
        turns.append(("assistant", values["response"], None))
    elif "instruction" in values and "output" in values:
        question = values["instruction"]
        more = values.get("input")
        if isinstance(question, str) and isinstance(more, str) and more:
            question = f"{question}\n{more}"
        turns = [*_history(row), ("user", question, None), ("assistant", values["output"], None)]
    else:
        has = ", ".join(map(repr, list(values)[:8])) or "nothing"
        raise row.bad(
            f"the row has no conversation: it needs 'messages' or 'conversations', and has {has}"
        )
    if values.get("system"):
        turns.insert(0, ("system", values["system"], None))
    if isinstance(values.get("think"), str) and turns:  # the reasoning of the last answer
        role, content, _ = turns[-1]
        turns[-1] = role, content, values["think"]
    return turns


def _listed_turns(row: Row, key: str) -> Iterator[Turn]:
    listed = row.values[key]
    if isinstance(listed, str):  # as tables hold it
        try:
            listed = json.loads(listed)
        except (ValueError, RecursionError):
            raise row.bad(f"{key!r} is a text that is no JSON; it must be a list") from None
    if not isinstance(listed, list | tuple):
        raise row.bad(f"{key!r} is {shown(listed)}; it must be a list of messages")
    for number, message in enumerate(listed, 1):
        if not isinstance(message, Mapping):
            raise row.bad(f"message {number} is {shown(message)}; it must be an object")
        role = message.get("role", message.get("from"))
        if role is None:
            raise row.bad(f"message {number} has no 'role'; it is user, assistant or system")
        content = message.get("content", message.get("value"))
        yield role, content, message.get("think", message.get("reasoning_content"))


def _history(row: Row) -> Iterator[Turn]:
    history = row.values.get("history") or []
    if not isinstance(history, list | tuple):
        raise row.bad(f"'history' is {shown(history)}; it must be a list of pairs")
    for pair in history:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise row.bad(f"'history' holds {shown(pair)}; it must hold pairs of two texts")
        yield "user", pair[0], None
        yield "assistant", pair[1], None


class _Reader:
    """Reads the messages of one row; tags take media from its lists in turn."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.listed = {kind: _pool(row, kind) for kind in _CLASSES}
        self.used = dict.fromkeys(_CLASSES, 0)
        self.tags = dict.fromkeys(_CLASSES, 0)

    def messages(self, turns: Sequence[Turn]) -> tuple[Message, ...]:
        read: list[Message] = []
        empty: BadRow | None = None
        for number, (role, content, thought) in enumerate(turns, 1):
            name = self._role(role, number)
            parts = tuple(self._parts(content, name, number))
            if thought is not None:
                parts = (Text(self._thought(thought, name, number)), *parts)
            blank = all(isinstance(part, Text) and is_blank(part.text) for part in parts)
            if name == "system" and blank:
                continue
            if blank and empty is None:
                who = "answer" if name == "assistant" else "question"
                reason = f"message {number} is an empty {who}; write its text or leave the row out"
                empty = BadRow("empty text", self.row.where, reason)
            read.append(Message(name, parts))
        read = self._with_untagged(read)
        self._check_counts()  # first: a message may be empty because its medium is missing
        if empty is not None:
            raise empty
        self._check_turns(read)
        return tuple(read)

    def _role(self, role: Any, number: int) -> Role:
        name = role.lower() if isinstance(role, str) else role
        if name in _TOOLS:
            raise self.row.bad(
                f"message {number} is of the role {role!r}; calls of tools cannot be trained on "
                "yet; leave such rows out"
            )
        if not isinstance(name, str) or name not in _ROLES:
            raise self.row.bad(
                f"message {number} has the role {shown(role)}; use user, assistant or system"
            )
        return _ROLES[name]

    def _parts(self, content: Any, role: Role, number: int) -> Iterator[Part]:
        if isinstance(content, str):
            yield from self._tagged(content, role, number)
        elif isinstance(content, Mapping):
            yield self._part(content, number)
        elif isinstance(content, list | tuple):
            for part in content:
                if isinstance(part, str):
                    yield Text(valid(part))
                elif isinstance(part, Mapping):
                    yield self._part(part, number)
                else:
                    raise self.row.bad(
                        f"message {number} holds {shown(part)}; a part is a text or an object "
                        "with a 'type'"
                    )
        else:
            raise self.row.bad(
                f"message {number} has the content {shown(content)}; it must be a text or a list "
                "of parts"
            )

    def _tagged(self, text: str, role: Role, number: int) -> Iterator[Part]:
        tag = _TAG.search(text)
        if role != "user":
            if tag and role == "assistant":
                raise BadRow(
                    "placeholders",
                    self.row.where,
                    f"the answer in message {number} holds the placeholder {tag[0]}, and answers "
                    "are text only; if the characters are meant, write the content as "
                    '[{"type": "text", "text": ...}]',
                )
            yield Text(valid(text))
            return
        pieces = _TAG.split(text)  # text, kind, text, kind, ..., text
        for place, piece in enumerate(pieces):
            if place % 2:
                self.tags[piece] += 1
                if self.used[piece] < len(self.listed[piece]):
                    yield self._next(piece)
            elif piece:
                yield Text(valid(piece))

    def _part(self, part: Mapping[str, Any], number: int) -> Part:
        kind = part.get("type")
        if kind in ("text", "input_text", "output_text"):
            if not isinstance(text := part.get("text"), str):
                raise self.row.bad(
                    f"message {number} has a part of text whose 'text' is {shown(text)}"
                )
            return Text(valid(text))
        name = str(kind).removeprefix("input_").removesuffix("_url")
        if name not in _CLASSES:
            raise self.row.bad(
                f"message {number} has a part of the type {shown(kind)}; known: text, image, "
                "video, audio"
            )
        keys = (str(kind), name, "path", "source", "url", "media")
        value = next((part[key] for key in keys if part.get(key) is not None), None)
        if value is None:
            self.tags[name] += 1
            if self.used[name] < len(self.listed[name]):
                return self._next(name)
            return Text("")  # too many placeholders: counted, and refused at the end
        return self._medium(name, value, part)

    def _next(self, kind: str) -> Image | Video | Audio:
        value = self.listed[kind][self.used[kind]]
        self.used[kind] += 1
        return self._medium(kind, value, {})

    def _medium(self, kind: str, value: Any, part: Mapping[str, Any]) -> Image | Video | Audio:
        how: dict[str, Any] = {}
        if kind == "audio" and "purpose" in part:
            how["purpose"] = part["purpose"]
        if kind == "video" and part.get("sound"):
            how["sound"] = True
        media = self.row.values.get("media")
        if isinstance(media, Mapping) and isinstance(value, str) and value in media:
            value = media[value]
        source = self._source(kind, value)
        try:
            return _CLASSES[kind](source, **how)
        except MingError as error:
            raise self.row.bad(str(error)) from None

    def _source(self, kind: str, value: Any) -> Any:
        """The source of a medium from what a row says about it."""
        if isinstance(value, list | tuple) and kind == "video" and value:
            return [self._source("image", item) for item in value]
        if isinstance(value, Mapping):
            if isinstance(data := value.get("bytes"), bytes):
                name = value.get("path")
                return MediaFile(kind, None, data) if not name else _named(kind, name, data)
            if isinstance(data := value.get("data"), str):
                try:
                    return base64.b64decode(data, validate=True)
                except ValueError:
                    raise self.row.bad(f"the data of the {kind} are no valid base64") from None
            value = next((value[k] for k in ("path", "member", "url") if value.get(k)), value)
        if isinstance(value, bytes) and value:
            return MediaFile(kind, None, value)
        if not isinstance(value, str) or not value.strip():
            raise self.row.bad(f"the {kind} is {shown(value)}; name its file")
        try:
            return self.row.find(kind, value)
        except MissingMedia as error:
            raise BadRow("missing media", self.row.where, str(error)) from None
        except MingError as error:
            raise BadRow("unreadable media", self.row.where, str(error)) from None

    def _thought(self, thought: Any, role: Role, number: int) -> str:
        if not isinstance(thought, str):
            raise self.row.bad(f"'think' of message {number} is {shown(thought)}; write a text")
        if role != "assistant":
            raise self.row.bad(f"'think' of message {number} belongs to an answer")
        return f"<think>\n{valid(thought).strip()}\n</think>\n\n"

    def _with_untagged(self, messages: list[Message]) -> list[Message]:
        """Media of a list without any tag stand before the first question, as in other tools."""
        before: list[Part] = []
        for kind, listed in self.listed.items():
            if not self.tags[kind] and listed:
                self.tags[kind] = len(listed)
                before += [self._next(kind) for _ in listed]
        first = next((i for i, m in enumerate(messages) if m.role == "user"), None)
        if first is not None and before:
            messages[first] = Message("user", (*before, *messages[first].parts))
        return messages

    def _check_counts(self) -> None:
        for kind, listed in self.listed.items():
            if self.tags[kind] != len(listed):
                raise BadRow(
                    "placeholders",
                    self.row.where,
                    f"the messages hold {self.tags[kind]} placeholders <{kind}>, and the row lists "
                    f"{len(listed)} under '{kind}s'; there must be as many",
                )

    def _check_turns(self, messages: Sequence[Message]) -> None:
        roles = [message.role for message in messages]
        where = self.row.where
        if "system" in roles[1:]:
            raise BadRow("turns", where, "a system message can only be the first; put it there")
        turns = [role for role in roles if role != "system"]
        if "assistant" not in turns:
            raise BadRow("no answer", where, "the row has no answer, so nothing is to learn")
        if turns[0] != "user":
            raise BadRow("turns", where, "the conversation begins with an answer; add the question")
        for before, after in pairwise(turns):
            if before == after:
                what = "answers" if after == "assistant" else "questions"
                raise BadRow("turns", where, f"there are two {what} in a row; join them into one")
        if turns[-1] != "assistant":
            raise BadRow(
                "no answer", where, "the conversation ends with a question; add the answer or cut"
            )
        for message in messages:
            if message.role != "user" and any(isinstance(p, Media) for p in message.parts):
                raise BadRow(
                    "turns",
                    where,
                    f"a message of the role {message.role} holds a medium; only questions can",
                )


def _named(kind: str, name: Any, data: bytes) -> MediaFile:
    return MediaFile(kind, Path(str(name)), data)


def _pool(row: Row, kind: str) -> list[Any]:
    """The media of a kind that the row lists, else those that lie beside it."""
    for key in (f"{kind}s", kind):
        value = row.values.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, list | tuple):
            return list(value)
        if isinstance(value, str | bytes | Mapping):
            return [value]
        raise row.bad(f"{key!r} is {shown(value)}; it must be a list of files")
    return [] if _names_media(row) else list(row.spare.get(kind, ()))


def _names_media(row: Row) -> bool:
    """Whether the row says itself which media it is about."""
    if any(row.values.get(key) for kind in _CLASSES for key in (kind, f"{kind}s")):
        return True
    contents = (
        m.get("content") for m in row.values.get("messages") or () if isinstance(m, Mapping)
    )
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return any(isinstance(part, Mapping) and len(part) > 1 and "text" not in part for part in parts)


def id_of(row: Row) -> str:
    """The name that a row has, or else its place. Raises BadRow."""
    value = row.values.get("id")
    if value is None:
        return row.id
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise row.bad(f"'id' is {shown(value)}; it must be a text or a whole number")
    return valid(str(value))


def _weight(row: Row) -> float:
    value = row.values.get("weight", 1.0)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None:
        return 1.0
    if not number or not 0 < value <= 1e6:
        raise row.bad(f"'weight' is {shown(value)}; it must be a number above 0")
    return float(value)


def _thinks(row: Row, messages: Sequence[Message]) -> bool:
    value = row.values.get("think")
    if value is not None and not isinstance(value, bool | str):
        raise row.bad(f"'think' is {shown(value)}; it must be true, false or the reasoning")
    if isinstance(value, bool):
        return value
    return _THOUGHT.match(messages[-1].text) is not None


def _word(row: Row, key: str) -> str:
    value = row.values.get(key)
    if value is not None and not isinstance(value, str):
        raise row.bad(f"{key!r} is {shown(value)}; it must be a text")
    return valid(value or "")


def _mapping(row: Row, key: str) -> Mapping[str, Any]:
    value = row.values.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise row.bad(f"{key!r} is {shown(value)}; it must be an object")
    return value or {}
