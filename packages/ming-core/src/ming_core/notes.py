"""Notes: what a user should know about a result although it is no error.

A recording that broke off, a page of several, a channel that was left out: the work is done, and
one sentence says so. A note goes to the `ming` logger, which commands print on stderr, unless
somebody collects the notes of a piece of work to hand them on with its result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger("ming")

_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def note_to_user(sentence: str) -> None:
    """Say one sentence; the same one is said once in a collection."""
    notes = _collected.get()
    if notes is None:
        log.warning("%s", sentence)
    elif sentence not in notes:
        notes.append(sentence)


@contextmanager
def collected_notes() -> Iterator[list[str]]:
    """The notes of the work inside the block, in their order; they are not logged."""
    notes: list[str] = []
    token = _collected.set(notes)
    try:
        yield notes
    finally:
        _collected.reset(token)
