"""The one way in which settings are read: the type, the range and the sentence of each kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from ming_core.errors import BadConfig
from ming_core.fields import Section, shown


def section(**values: Any) -> Section:
    return Section(values, "vision_config")


def test_values_as_they_are() -> None:
    values = section(n=3, x=2, on=True, word="a", list=[1, 5], three=[0.5, 1, 2], inner={"n": 4})
    assert values.whole("n") == 3
    assert values.number("x", least=0, most=9) == 2.0
    assert values.flag("on") is True
    assert values.text("word") == "a"
    assert values.wholes("list", most=5) == (1, 5)
    assert values.numbers("three", count=3, least=0, most=2) == (0.5, 1.0, 2.0)
    assert values.section("inner").whole("n") == 4


def test_null_is_absent() -> None:
    values = section(n=None)
    assert "n" not in values
    assert values.whole("n", 7) == 7
    with pytest.raises(BadConfig, match="vision_config lacks the field 'n'; take the files of"):
        values.whole("n")


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (lambda s: s.whole("x"), True, "a whole number of at least 1 and at most 2147483647"),
        (lambda s: s.whole("x"), 2.0, "a whole number"),
        (lambda s: s.whole("x", most=9), 10, "a whole number of at least 1 and at most 9"),
        (lambda s: s.number("x", least=0, most=1), math.nan, "a number from 0 to 1"),
        (lambda s: s.number("x", least=0, most=1), 10**400, "a number from 0 to 1"),
        (lambda s: s.number("x", least=0, most=1), False, "a number from 0 to 1"),
        (lambda s: s.flag("x"), 1, "true or false"),
        (lambda s: s.text("x"), 1, "a text"),
        (lambda s: s.text("x"), "\ud800", "a text of whole characters"),
        (lambda s: s.wholes("x", most=3), [1, 1], "a list of different whole numbers from 0 to 3"),
        (lambda s: s.wholes("x", most=3), [4], "a list of different whole numbers from 0 to 3"),
        (lambda s: s.wholes("x", most=3), [[1]], "a list of different whole numbers"),
        (lambda s: s.numbers("x", count=3, least=0, most=1), [1, 1], "a list of 3 numbers"),
        (lambda s: s.section("x"), [], "an object with named settings"),
    ],
)
def test_what_cannot_be_used(read: Callable[[Section], Any], value: Any, expected: str) -> None:
    with pytest.raises(BadConfig) as caught:
        read(section(x=value))
    assert str(caught.value).startswith(f"vision_config.x is {shown(value)}; it must be {expected}")


def test_a_file_and_its_sections() -> None:
    file = Section({"n": 0, "inner": {"n": 0}}, "config.json")
    with pytest.raises(BadConfig, match=r"^n of config\.json is 0; it must be"):
        file.whole("n")
    with pytest.raises(BadConfig, match=r"^inner\.n is 0; it must be"):
        file.section("inner").whole("n")
    with pytest.raises(BadConfig, match=r"^config\.json has no 'other'; take"):
        file.section("other")


def test_settings_with_one_value() -> None:
    section(act="silu").fixed("act", "silu")
    section().fixed("act", "silu")
    with pytest.raises(BadConfig, match=r"vision_config\.act is 'gelu'; only 'silu' is supported"):
        section(act="gelu").fixed("act", "silu")
    with pytest.raises(BadConfig, match="only False is supported"):
        section(on=0).fixed("on", False)


@pytest.mark.parametrize("value", ["a" * 10**6, 10**4000, [[1] * 999] * 999, "\x1b[2J\n"])
def test_what_is_shown_is_short_and_harmless(value: Any) -> None:
    assert len(shown(value)) < 600
    assert shown(value).isprintable()


def test_a_number_that_python_does_not_write_out() -> None:
    assert len(shown(10**5000)) < 200
