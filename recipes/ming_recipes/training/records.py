"""What training data consist of: one conversation with its media, and what can be wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ming_core.errors import MingError
from ming_core.media import Media, Message
from ming_core.media.files import MediaFile

Fault = Literal[
    "broken row",
    "wrong type",
    "missing media",
    "unreadable media",
    "placeholders",
    "turns",
    "no answer",
    "empty text",
    "too long",
    "duplicate id",
    "broken file",
    "not for this model",
]
"""Kinds of faults, as they are counted."""


class BadRow(MingError):
    """A row that cannot be trained on. The message begins with the place of the row.

    Attributes:
        fault: The kind of the fault.
        where: The place, such as `rows.jsonl line 3`.
        reason: The sentence without the place.
    """

    def __init__(self, fault: Fault, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.fault: Fault = fault
        self.where = where
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return BadRow, (self.fault, self.where, self.reason)


@dataclass(frozen=True)
class Record:
    """One conversation to train on. Every answer in it is a target.

    Attributes:
        id: Name of the row. Reports and logs use it.
        dataset: Name of the data set that it belongs to.
        weight: Weight of each of its target tokens in the loss.
        think: Whether the prompt asks the model to reason first.
        lang, task: What the row says about itself; empty if it says nothing.
        annotations: Other facts of the row, which a recipe may use.
        where: The place of the row in its file.
    """

    id: str
    messages: tuple[Message, ...]
    dataset: str = ""
    weight: float = 1.0
    think: bool = False
    lang: str = ""
    task: str = ""
    annotations: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


def identity(medium: Media) -> str:
    """A text that is equal for two media of the same file and the same way of reading it."""
    how = {name: value for name, value in vars(medium).items() if name not in ("source", "track")}
    return f"{medium.kind} {sorted(how.items())!r} {_name(medium.source)}"


def _name(source: Any) -> str:
    if isinstance(source, list | tuple):
        return " ".join(map(_name, source))
    if isinstance(source, MediaFile):
        source = source.path if source.data is None else source.data
    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else str(source)
