"""Settings out of JSON files, each checked for its type and its range when it is read.

Every section of a checkpoint's files is read through a `Section`. A value that passes can be used.
A wrong value raises `BadConfig` with one sentence: the name of the field, its value, and the values
that it may have. A null counts as absent.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ming_core.errors import BadConfig

T = TypeVar("T")

LAYERS = 1024
"""Most layers of one kind; the released models have at most 50."""

EXPERTS = 4096
"""Most experts of a layer; the released models have at most 256."""

WIDTH = 2**20
"""Largest width of anything, in channels."""

MERGE = 64
"""Largest side of a token, in patches."""

DEPTH = 64
"""Most linear layers of a projector."""

COUNT = 2**31 - 1
"""Highest value of all other counts."""

_REQUIRED: Any = object()

_short = reprlib.Repr()
_short.maxstring = _short.maxlong = _short.maxother = 120


def shown(value: object) -> str:
    """A value from a file for a message: shortened, with control characters escaped."""
    try:
        return _short.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a very long number"


def plain(text: str) -> str:
    """A text from a file for a message, without quotes unless it is long."""
    return text if len(text) < 200 else shown(text)


class Section:
    """One object of a JSON file, read field by field.

    name: what messages call it: the name of the section, such as `llm_config`, or the name of the
    file. Raises BadConfig if `values` is no object.
    """

    def __init__(self, values: object, name: str) -> None:
        if not isinstance(values, Mapping):
            raise BadConfig(f"{name} is {shown(values)}; it must be an object with named settings")
        self.name = name
        self._values: Mapping[str, Any] = values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def raw(self, key: str, default: T = _REQUIRED) -> T:
        """A value without a check, for fields that need a rule of their own."""
        value = self._values.get(key)
        if value is not None:
            return value
        if default is _REQUIRED:
            lacks = "has no" if self._is_file else "lacks the field"
            raise BadConfig(
                f"{self.name} {lacks} {key!r}; take the files of a model from one release"
            )
        return default

    def refuse(self, key: str, expected: str) -> BadConfig:
        """The error for a wrong field. expected: what it must be, in words."""
        value = self._values.get(key)
        return BadConfig(f"{self._place(key)} is {shown(value)}; it must be {expected}")

    def section(self, key: str, default: Mapping[str, Any] = _REQUIRED) -> Section:
        """An object inside this one."""
        return Section(self.raw(key, default), key if self._is_file else self._place(key))

    def whole(
        self, key: str, default: int = _REQUIRED, *, least: int = 1, most: int = COUNT
    ) -> int:
        """A whole number. true and 2.0 are refused."""
        value = self.raw(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.refuse(key, f"a whole number of at least {least} and at most {most}")
        return value

    def number(self, key: str, default: float = _REQUIRED, *, least: float, most: float) -> float:
        """A finite number."""
        value = self.raw(key, default)
        if not _is_number(value, least, most):
            raise self.refuse(key, f"a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, key: str, default: bool = _REQUIRED) -> bool:
        value = self.raw(key, default)
        if type(value) is not bool:
            raise self.refuse(key, "true or false")
        return value

    def text(self, key: str, default: str = _REQUIRED) -> str:
        value = self.raw(key, default)
        if not isinstance(value, str) or not _is_text(value):
            raise self.refuse(key, "a text of whole characters")
        return value

    def choice(self, key: str, default: str, known: Iterable[str]) -> str:
        """One of the known words."""
        value, known = self.raw(key, default), sorted(known)
        if not isinstance(value, str) or value not in known:
            raise BadConfig(f"unknown {key} {shown(value)}; known: {', '.join(known)}")
        return value

    def wholes(self, key: str, default: Sequence[int] = _REQUIRED, *, most: int) -> tuple[int, ...]:
        """A list of different whole numbers from 0 to `most`."""
        value = self.raw(key, default)
        right = isinstance(value, list | tuple) and all(
            type(n) is int and 0 <= n <= most for n in value
        )
        if not right or len(set(value)) < len(value):
            raise self.refuse(key, f"a list of different whole numbers from 0 to {most}")
        return tuple(value)

    def numbers(
        self,
        key: str,
        default: Sequence[float] = _REQUIRED,
        *,
        count: int,
        least: float,
        most: float,
    ) -> tuple[float, ...]:
        """A list of `count` finite numbers."""
        value = self.raw(key, default)
        right = isinstance(value, list | tuple) and all(_is_number(n, least, most) for n in value)
        if not right or len(value) != count:
            raise self.refuse(key, f"a list of {count} numbers from {least:g} to {most:g}")
        return tuple(float(n) for n in value)

    def fixed(self, key: str, value: Any) -> None:
        """A setting that may be absent, and has only one supported value."""
        found = self.raw(key, value)
        if type(found) is not type(value) or found != value:
            raise BadConfig(f"{self._place(key)} is {shown(found)}; only {value!r} is supported")

    @property
    def _is_file(self) -> bool:
        return self.name.endswith(".json")

    def _place(self, key: str) -> str:
        return f"{key} of {self.name}" if self._is_file else f"{self.name}.{key}"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most  # NaN is within no bounds
