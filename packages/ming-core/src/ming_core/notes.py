"""Notes: what a user should know about a result although it is no error.

Examples are a recording that broke off and a channel that was left out. A note is one sentence.
It goes to the logger `ming`, and commands print it on stderr. Whoever wants to hand the notes on
with a result collects them with `collected_notes`; then they are not logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger("ming")

_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def note_to_user(sentence: str) -> None:
    """Say one sentence. A collection keeps the same sentence only once."""
    notes = _collected.get()
    if notes is None:
        log.warning("%s", sentence)
    elif sentence not in notes:
        notes.append(sentence)


@contextmanager
def collected_notes() -> Iterator[list[str]]:
    """Collect the notes of the work inside the block, in their order. They are not logged."""
    notes: list[str] = []
    token = _collected.set(notes)
    try:
        yield notes
    finally:
        _collected.reset(token)
