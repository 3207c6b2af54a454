"""Errors that a user can correct. The command line prints their sentence and exits with code 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from ming_core.text import one_line


class MingError(Exception):
    """Base class. The message says what is wrong, what was expected and what to do.

    It is one line. Control characters in names and values are written as escapes, such as `\\x1b`.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class BadConfig(MingError):
    """A configuration file or option holds a value that cannot be used."""


class BadCheckpoint(MingError):
    """A checkpoint folder is incomplete, damaged, unsafe or of an unknown kind."""


class BadMedia(MingError):
    """An image, video or sound cannot be read."""


class NotFinite(MingError):
    """A model computed NaN or infinite values, so it has no answer."""


class CannotWrite(MingError):
    """A result cannot be written where it should go."""


class MissingPlugin(MingError):
    """A task or a part needs a package that is not installed."""


class UnknownName(MingError):
    """No installed plugin has registered this name. The message offers the nearest name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1)
        message = f"unknown {kind} {name!r}"
        if near:
            message += f"; did you mean {near[0]!r}?"
        elif known:
            message += f"; known: {', '.join(known)}"
        if hint:
            message += f" {hint}" if near else f". {hint}"
        super().__init__(message)
