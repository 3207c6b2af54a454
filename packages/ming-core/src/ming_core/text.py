"""Text is made valid when it comes in, and harmless before a terminal shows it."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what follows, and so can make one name look like
another."""


def valid(text: str) -> str:
    """The text as valid Unicode, which every encoder accepts.

    Python keeps bytes of arguments and file names that it could not decode; they are decoded as
    UTF-8 here. Lone surrogates, and bytes that are no UTF-8, become U+FFFD.
    """
    if text.isascii():
        return text
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        raw = text.encode("utf-16-le", "surrogatepass")
        return raw.decode("utf-16-le", "replace")  # which also joins a pair of them
    return raw.decode("utf-8", "replace")


def is_blank(text: str) -> bool:
    """Whether a text has no visible character."""
    return not any(c.isprintable() and not c.isspace() for c in valid(text))


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with control characters as escapes, such as `\\x1b`, so that a terminal shows them.

    keep: control characters that stay as they are.
    """
    text = valid(text)
    return "".join(_escaped(c) if c not in keep and _commands(c) else c for c in text)


def one_line(text: str) -> str:
    """The text as one line for a message. No character in it can move the cursor."""
    return printable(text, keep="")


def json_text(value: Any, indent: int | None = 2) -> str:
    """The value as JSON. Characters beyond ASCII stay readable; control characters are escaped.

    The result is always valid Unicode. indent: None gives one line.
    """
    text = valid(json.dumps(value, ensure_ascii=False, indent=indent))
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


_OBEYED = re.compile("[\x7f-\x9f\u2028\u2029" + "".join(sorted(_TURNING)) + "]")


def _commands(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in _TURNING


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
