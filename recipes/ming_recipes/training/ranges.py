"""Settings as dataclasses: plain values become one, and every value that does not fit is told.

    rate: Annotated[float, Range(0, 1)] = 0.1

A field without such a mark takes every value of its type; numbers must always be finite. A field
is a whole number, a number, a text, a switch, one of some words (`Literal`), another dataclass, or
a list or table of those. A dataclass with one field that has no default can be written as the value
of that field: `data: rows.jsonl` is `data: [{path: rows.jsonl}]`.
"""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ming_core.errors import BadConfig
from ming_core.fields import shown

T = TypeVar("T")

MOST = 10
"""Faults that are told one by one."""


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
    """Raises BadConfig with every field of a dataclass that has a value it must not have."""
    typed(type(config), vars(config))


def typed(kind: type[T], values: Any) -> T:
    """The dataclass that plain values describe.

    values: a table of fields; a field that it lacks has its default. Raises BadConfig with all
    faults in one sentence.
    """
    faults: list[str] = []
    found = _table(kind, values, "", faults, kind)
    if faults:
        raise BadConfig(_joined(faults))
    return found


def _joined(faults: list[str]) -> str:
    if len(faults) == 1:
        return faults[0]
    told = [f"({number}) {fault}" for number, fault in enumerate(faults[:MOST], 1)]
    more = [f"and {len(faults) - MOST} more"] if len(faults) > MOST else []
    return f"{len(faults)} settings cannot be used: " + "; ".join([*told, *more])


def kind_of(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """A type without its marks, its marks, and whether a setting of it may be null."""
    marks: tuple[Any, ...] = ()
    empty = False
    while True:
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            marks += tuple(more)
        elif get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
            rest = tuple(one for one in get_args(hint) if one is not type(None))
            hint, empty = Union[rest], True  # noqa: UP007 - it is made here
        else:
            return hint, marks, empty


def hints_of(kind: Any) -> dict[str, Any]:
    """The types of the fields of a dataclass, with their marks."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def short_field(kind: Any) -> str | None:
    """The only field without a default: its value can stand for the whole dataclass."""
    needed = [field.name for field in fields(kind) if field.init and _required(field)]
    return needed[0] if len(needed) == 1 else None


def names(kind: Any, before: str = "") -> Iterator[str]:
    """The dotted names of all settings of a dataclass."""
    for name, hint in hints_of(kind).items():
        yield before + name
        inner = kind_of(hint)[0]
        if is_dataclass(inner):
            yield from names(inner, f"{before}{name}.")


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _table(kind: Any, values: Any, place: str, faults: list[str], whole: Any) -> Any:
    """A dataclass out of a table of its fields; None if that is impossible."""
    if type(values) is kind:
        values = vars(values)
    short = short_field(kind)
    if short and isinstance(values, str):
        values = {short: values}
    if not isinstance(values, dict):
        faults.append(f"{place} is {shown(values)}; it must be a table of names and values")
        return None
    before, hints = place + "." if place else "", hints_of(kind)
    count, found = len(faults), {}
    for key, value in values.items():
        if key in hints:
            found[key] = _value(hints[key], value, before + key, faults, whole)
        else:
            faults.append(_unknown(before, str(key), hints, whole))
    for field in fields(kind):
        if field.init and _required(field) and field.name not in values:
            faults.append(f"{before}{field.name} has no value; write one")
    if len(faults) > count:
        return None
    try:
        return kind(**found)
    except BadConfig as error:
        faults.append(f"{place}: {error}" if place else str(error))
        return None


def _unknown(before: str, key: str, hints: Iterable[str], whole: Any) -> str:
    siblings = [before + name for name in hints]
    # The right word may stand in the wrong table.
    near = [name for name in names(whole) if name.rpartition(".")[2] == key][:1]
    near = near or get_close_matches(before + key, siblings, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(siblings))}"
    return f"unknown setting {before + key!r}; {hint}"


def _value(hint: Any, value: Any, place: str, faults: list[str], whole: Any) -> Any:
    hint, marks, empty = kind_of(hint)
    if value is None and empty:
        return None
    if is_dataclass(hint):
        return _table(hint, value, place, faults, whole)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is dict:
        return _names(inner[1], marks, value, place, faults, whole)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            if isinstance(value, dict) and not is_dataclass(kind_of(inner[0])[0]):
                faults.append(f"{place} is {shown(value)}; it must be a list of values")
                return None
            value = [] if value is None else [value]  # one value is a list of one
        made = [_value(inner[0], v, f"{place}.{i}", faults, whole) for i, v in enumerate(value)]
        return origin(made)
    if isinstance(value, dict | list | tuple):
        faults.append(f"{place} must be one value, not a {type(value).__name__}")
        return None
    if origin is Literal:
        return _word(inner, value, place, faults)
    if origin in (Union, types.UnionType):
        return _any_of(inner, value, place, faults, whole)
    return _plain(hint, marks, empty, value, place, faults)


def _names(
    inner: Any, marks: Iterable[Any], value: Any, place: str, faults: list[str], whole: Any
) -> Any:
    if not isinstance(value, dict):
        faults.append(f"{place} is {shown(value)}; it must be a table of names and values")
        return None
    known = next((mark.known for mark in marks if isinstance(mark, Keys)), None)
    found = {}
    for key, item in value.items():
        if known is not None and key not in known:
            faults.append(f"{place} has no key {key!r}; {_nearest(key, known)}")
            continue
        found[str(key)] = _value(inner, item, f"{place}.{key}", faults, whole)
    return found


def _word(known: tuple[Any, ...], value: Any, place: str, faults: list[str]) -> Any:
    if value not in known or type(value) not in {type(one) for one in known}:
        choices = [str(one) for one in known]
        near = get_close_matches(str(value), choices, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it must be {' or '.join(choices)}"
        faults.append(f"{place} is {shown(value)}; {hint}")
    return value


def _any_of(kinds: Iterable[Any], value: Any, place: str, faults: list[str], whole: Any) -> Any:
    tried: list[str] = []
    for kind in kinds:
        wrong: list[str] = []
        found = _value(kind, value, place, wrong, whole)
        if not wrong:
            return found
        tried += wrong
    faults.append(tried[-1])
    return None


def _plain(
    hint: Any, marks: Iterable[Any], empty: bool, value: Any, place: str, faults: list[str]
) -> Any:
    if hint not in _WORDS:
        return value
    limit = next((mark for mark in marks if isinstance(mark, Range)), None)
    wanted = _WORDS[hint] + (f" {limit}" if limit else "") + (" or null" if empty else "")
    if hint is float and type(value) is int:
        value = _float(value)
    fits = isinstance(value, hint) and isinstance(value, bool) == (hint is bool)
    if hint in (int, float) and fits:
        fits = (limit is None or value in limit) and math.isfinite(value)
    if hint is str and fits and (not value.strip() or "\0" in value):
        fits, wanted = False, "a text that is not empty"
    if not fits:
        faults.append(f"{place} is {shown(value)}; it must be {wanted}")
    return value


def _float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _nearest(key: str, known: Collection[str]) -> str:
    near = get_close_matches(str(key), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
