"""The Python reference: every name that docs/api.md lists exists and has a docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import ming_core

PAGE = Path(__file__).parents[2] / "docs/api.md"


def listed() -> Iterator[tuple[str, str]]:
    """Module and name of every member in the directives of the page."""
    for module, members in re.findall(
        r"^::: ([\w.]+)(?:\n    options:\n      members: \[(.*)\])?", PAGE.read_text("utf-8"), re.M
    ):
        names = members.split(", ") if members else public_names(module)
        yield from ((module, name) for name in names)


def public_names(module: str) -> list[str]:
    """Classes and functions that a module defines itself."""
    return [
        name
        for name, value in vars(import_module(module)).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]


@pytest.mark.parametrize(("module", "name"), list(listed()), ids=lambda value: value.split(".")[-1])
def test_every_listed_name_has_a_docstring(module: str, name: str) -> None:
    value = getattr(import_module(module), name)
    assert value.__doc__, f"{module}.{name} has no docstring"
    assert not value.__doc__.startswith(f"{name}("), f"{module}.{name} has no docstring of its own"
    if inspect.isclass(value):
        for method, function in vars(value).items():
            if inspect.isfunction(function) and not method.startswith(("_", "to_")):
                assert function.__doc__, f"{module}.{name}.{method} has no docstring"


def test_every_name_that_the_core_offers_is_listed() -> None:
    names = {name for _, name in listed()}
    assert set(ming_core.__all__) - {"hookimpl"} <= names
