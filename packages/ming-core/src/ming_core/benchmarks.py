"""Benchmarks, what `ming eval` runs: functions that score a model. docs/hooks.md adds one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from ming_core.errors import BadConfig, UnknownName
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import missing, package_for
from ming_core.plugins.registry import Entry

Track = Callable[[Sequence[Any], str], Iterable[Any]]
"""Gives the items of a long loop one by one, and may show how far it is under a title."""


def untracked(items: Sequence[Any], title: str) -> Iterable[Any]:
    """A `Track` that shows nothing."""
    return items


def benchmark_entry(name: str) -> Entry:
    """The registered benchmark. Raises UnknownName, or MissingPlugin with what to install."""
    known = get_plugins().benchmarks
    package = package_for("benchmarks", name)
    if name not in known and package:
        raise missing(f"the benchmark {name!r}", package)
    return known[name]


def options_of(entry: Entry, words: Sequence[str]) -> dict[str, str]:
    """Options of a benchmark from `key=value`: the parameters that its function takes by name only.

    Raises BadConfig for a word of another form, UnknownName for another key.
    """
    parameters = signature(entry.load()).parameters.values()
    known = [each.name for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
    options = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise BadConfig(f"cannot read the option {word!r}; write it as key=value")
        if key not in known:
            raise UnknownName(f"option of {entry.name}", key, known)
        options[key] = value
    return options


def check_data(entry: Entry, data: Path | None) -> None:
    """Raises BadConfig if data are lacking, are not there, or are given to whom needs none."""
    wanted = entry.extra.get("data")
    if wanted and data is None:
        raise BadConfig(f"the benchmark {entry.name!r} needs --data: {wanted}")
    if data is not None and not wanted:
        raise BadConfig(f"the benchmark {entry.name!r} brings its own data; leave --data out")
    if data is not None and not data.exists():
        raise BadConfig(f"--data {str(data)!r} does not exist; check the path")
