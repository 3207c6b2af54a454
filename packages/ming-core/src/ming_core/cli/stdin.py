"""Text from standard input: of any encoding, of bounded length, or refused."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator
from typing import TextIO

from ming_core.errors import BadConfig
from ming_core.notes import note_to_user
from ming_core.text import valid

MOST = 1 << 22
"""Characters of a text; the longest context holds a quarter of so many."""

MOST_SKIPPED = 16
"""So many times as much is left out in search of the end of a line."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def stdin_text() -> str:
    """All of standard input. Raises BadConfig as `checked` does."""
    return checked(_stream().read(MOST + 1))


def stdin_lines() -> Iterator[str]:
    """Its lines as they come, for `checked`; of one that is too long only the start.

    Raises BadConfig for one that does not end.
    """
    stream = _stream()
    while line := stream.readline(MOST + 1):
        yield line
        for _ in range(MOST_SKIPPED):
            if not line or line.endswith("\n"):
                break
            line = stream.readline(MOST)
        else:
            raise BadConfig("standard input has a line that does not end; check what it is")


def _stream() -> TextIO:
    """Standard input, which is read as UTF-16, as Windows writes it, if it begins so."""
    stream = sys.stdin
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BufferedReader):
        head = stream.buffer.peek(4)[:4]
        for mark, encoding in _MARKS.items():
            if head.startswith(mark):
                stream.reconfigure(encoding=encoding)
        if len(head) == 4 and head[1] == head[3] == 0 and head[0] and head[2]:
            stream.reconfigure(encoding="utf-16-le")
        if len(head) == 4 and head[0] == head[2] == 0 and head[1] and head[3]:
            stream.reconfigure(encoding="utf-16-be")
    return stream


def checked(text: str) -> str:
    """The text as valid Unicode, without blanks around it.

    Raises BadConfig if it is longer than any model takes, or if it is no text at all.
    """
    if len(text) > MOST:
        raise BadConfig(
            f"standard input has a text of more than {MOST:,} characters, which no model takes; "
            "check what it is, and give a shorter text"
        )
    if "\0" in text:
        raise BadConfig("standard input is no text, it holds null bytes; give text as UTF-8")
    if "\ufffd" in text:
        note_to_user(
            "the text on standard input is no valid UTF-8; what could not be read became \ufffd"
        )
    return valid(text).strip()
