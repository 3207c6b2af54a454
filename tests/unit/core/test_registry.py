from __future__ import annotations

import pytest

from ming_core.plugins.registry import Entry, Registrar, Registry


def registrar(registry: Registry, reports: list[str], plugin: str = "acme") -> Registrar:
    return Registrar(registry, plugin, reports.append)


def test_names_are_sorted_and_found() -> None:
    registry = Registry("task")
    register = registrar(registry, [])
    register("draw", "math:pi", gives="image")
    register("ask", "os:path.join")
    assert registry.names() == ["ask", "draw"]
    assert [entry.name for entry in registry] == ["ask", "draw"]
    assert "draw" in registry
    assert "say" not in registry
    assert registry["draw"].extra == {"gives": "image"}
    assert registry["ask"].load()("a", "b") == "a/b"  # dotted attributes
    assert registry.find("say") == ()


def test_an_owner_keeps_its_name() -> None:
    registry = Registry("task")
    first, second = Entry("ask", "math:pi", "one"), Entry("ask", "math:tau", "two")
    assert registry.add(first) is None
    assert registry.add(second) is first
    assert registry["ask"] is first


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("two words", "math:pi", "a preset name must be one word, not 'two words'"),
        ("", "math:pi", "a preset name must be one word, not ''"),
        ("x", "math", "preset 'x': target must be 'module:attribute', not 'math'"),
        ("x", ":pi", "preset 'x': target must be 'module:attribute', not ':pi'"),
        ("x", "math:pi", "preset 'x': register it with part=..."),
        ("-x", "math:pi", "a preset name must be one word, not '-x'"),
        ("x\x1b", "math:pi", "a preset name must be one word, not 'x\\x1b'"),
        (5, "math:pi", "a preset name must be one word, not 5"),
        ("x", None, "preset 'x': target must be 'module:attribute', not None"),
    ],
)
def test_what_can_never_work_is_refused(name: str, target: str, message: str) -> None:
    with pytest.raises(ValueError, match="preset") as error:
        registrar(Registry("preset", part="part"), [])(name, target)
    assert str(error.value) == message


def test_a_summary_is_a_text() -> None:
    with pytest.raises(ValueError, match="task 'x': summary must be a text, not None"):
        registrar(Registry("task"), [])("x", "math:pi", summary=None)  # type: ignore[arg-type]
