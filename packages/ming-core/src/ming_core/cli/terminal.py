"""The standard streams: what may be written on them, and the one way in which it is."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ming_core.errors import CannotWrite
from ming_core.notes import collected_notes
from ming_core.text import json_text, one_line, printable

CLOSED_PIPE, TERMINATED = 141, 143
"""Exit codes: nobody reads on, as after `| head -1`, and SIGTERM; 128 + the signal."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """Streams that take every text, warnings of ours on stderr, and SIGTERM as an exit."""
    _mend("stdin", "r", "replace")
    for name in ("stdout", "stderr"):
        _mend(name, "w", "backslashreplace")
    handler = _Handler()
    logger = logging.getLogger("ming")
    logger.addHandler(handler)
    try:
        with _ended_by_sigterm():
            yield
    finally:
        logger.removeHandler(handler)


def _mend(name: str, mode: str, errors: str) -> None:
    """A stream that was closed, as by `>&-`, becomes an empty one."""
    stream = getattr(sys, name)
    if stream is None:
        setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    elif isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=errors)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, unless somebody else answers it."""
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Handler(logging.Handler):
    """Warnings of the toolkit and its plugins, each as a sentence on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def flush() -> None:
    """Send what was printed on its way, while its errors can still be told. Raises OSError."""
    try:
        sys.stdout.flush()
    except OSError:
        silence()
        raise


def silence() -> None:
    """Drop what stdout has not taken; Python would try again at its end, with a traceback."""
    with suppress(OSError, ValueError):  # a stream without a descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def show(text: object, end: str = "\n") -> None:
    """Print a result, or a piece of it. What a terminal would obey is written out."""
    _print(printable(str(text)), end)


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print an object as UTF-8, whatever the locale. indent: None gives one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    _print(json_text(value, indent), "\n")


def _print(text: str, end: str) -> None:
    progress.clear()
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        silence()
        raise CannotWrite(
            f"cannot print the result: {error.strerror}; send it somewhere else"
        ) from error


def say(message: object) -> None:
    """An error or a note, on one line of stderr."""
    progress.clear()
    with suppress(OSError, ValueError):  # there is no other place to tell it
        print(f"ming: {one_line(str(message))}", file=sys.stderr, flush=True)


def note(message: str, quiet: bool) -> None:
    """Progress for a person who watches: on stderr, and only on a terminal."""
    if not quiet and sys.stderr.isatty():
        progress.clear()
        print(one_line(message), file=sys.stderr)


@contextmanager
def said_notes(about: str | None = None) -> Iterator[list[str]]:
    """The notes of the work inside, which are said after it. about: the file that they are about.

    Not before its end, as an answer may stand unfinished on the terminal.
    """
    with collected_notes() as notes:
        try:
            yield notes
        finally:
            say_notes(notes, about)


def say_notes(notes: Iterable[str], about: str | None = None) -> None:
    """Notes on stderr. about: the file that they are about."""
    for sentence in notes:
        known = about is None or os.path.basename(about) in sentence
        say(sentence if known else f"{about}: {sentence}")


def styled(stream: TextIO) -> bool:
    """Whether a stream is a terminal that takes escape codes, and its user wants them."""
    return moves_back(stream) and not os.environ.get("NO_COLOR")


def moves_back(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a line can be written over."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """Cells in a line of the terminal, or of $COLUMNS."""
    return shutil.get_terminal_size().columns


def cells(text: str) -> int:
    """How wide a terminal shows a text: a Chinese character is two cells, an accent none."""
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def first_cells(text: str, most: int) -> str:
    """The start of a text that is at most so many cells wide."""
    room = most
    for at, character in enumerate(text):
        room -= _cells(character)
        if room < 0:
            return text[:at]
    return text


class Progress:
    """One line on stderr that is written over and over; it is gone when something else comes."""

    def __init__(self) -> None:
        self._width = 0

    def show(self, text: str) -> None:
        self.clear()
        line = first_cells(one_line(text), columns() - 1)
        self._width = cells(line)
        self._write(line)

    def clear(self) -> None:
        if self._width:
            self._write("\r\x1b[K" if styled(sys.stderr) else f"\r{' ' * self._width}\r")
            self._width = 0

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            print(text, end="", file=sys.stderr, flush=True)


progress = Progress()
"""The one line of the terminal's one cursor."""
