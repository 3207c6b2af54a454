"""The values that the settings of a recipe may have, written beside their types.

    rate: Annotated[float, Range(0, 1)] = 0.1

A field without such a mark takes every value of its type; numbers must always be finite. Whole
numbers, numbers, texts, switches and tables of them are checked.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ming_core.errors import BadConfig


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`; with `above`, `least` itself is too small."""

    least: float
    most: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return value <= self.most and (value > self.least if self.above else value >= self.least)

    def __str__(self) -> str:
        low = f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        return low if math.isinf(self.most) else f"{low} and at most {self.most:g}"


@dataclass(frozen=True)
class Keys:
    """The keys that a table may have."""

    known: Collection[str]


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def check(config: Any) -> None:
    """Raises BadConfig with the first field of a dataclass that has a value it must not have."""
    hints = get_type_hints(type(config), include_extras=True)
    for name in vars(config):
        _check(name, getattr(config, name), hints[name])


def _check(name: str, value: Any, hint: Any) -> None:
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        marks = tuple(rest)
    if get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise BadConfig(f"{name} is {value!r}; it must be a table of names and values")
        for key, item in value.items():
            for mark in marks:
                if isinstance(mark, Keys) and key not in mark.known:
                    raise BadConfig(f"{name} has no key {key!r}; {_nearest(key, mark.known)}")
            _check(f"{name}.{key}", item, get_args(hint)[1])
        return
    limit = next((mark for mark in marks if isinstance(mark, Range)), None)
    if hint not in _WORDS:
        return
    wanted = _WORDS[hint] + (f" {limit}" if limit else "")
    number = hint in (int, float)
    fits = isinstance(value, (int, float) if hint is float else hint)
    if isinstance(value, bool) != (hint is bool):
        fits = False
    if number and fits:
        fits = math.isfinite(value) and (limit is None or value in limit)
    if hint is str and fits and (not value.strip() or "\0" in value):
        fits, wanted = False, "a text that is not empty"
    if not fits:
        raise BadConfig(f"{name} is {value!r}; it must be {wanted}")


def _nearest(key: str, known: Collection[str]) -> str:
    near = get_close_matches(str(key), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
