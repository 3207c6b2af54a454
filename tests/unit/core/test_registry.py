"""Registries of typed entries: what is kept, and the sentence for each registration that is not."""

from __future__ import annotations

from typing import Any

import pytest

from ming_core.plugins import get_plugins
from ming_core.plugins.kinds import (
    BenchmarkEntry,
    ChatCommandEntry,
    EncoderEntry,
    HeadEntry,
    PresetEntry,
    RecipeEntry,
    ReleaseEntry,
    TaskEntry,
)
from ming_core.plugins.registry import Entry, Registrar, Registry

GOOD: dict[type[Entry], dict[str, Any]] = {
    EncoderEntry: {"modality": "image", "section": "vision_config"},
    HeadEntry: {"gives": "image", "section": "transformer"},
    TaskEntry: {"takes": ("image",), "gives": "text"},
    PresetEntry: {"part": "backbone"},
    ReleaseEntry: {},
    RecipeEntry: {"settings": "acme:a.yaml"},
    BenchmarkEntry: {"data": "a folder"},
    ChatCommandEntry: {},
}
each_kind = pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.word)


def register(registry: Registry[Any], plugin: str = "acme") -> tuple[Registrar, list[str]]:
    """A registrar of a plugin, and what it reports."""
    reports: list[str] = []
    return Registrar(registry, plugin, reports.append), reports


def test_names_are_sorted_and_found() -> None:
    registry = Registry(TaskEntry)
    add, reports = register(registry)
    add("draw", "math:pi", gives="image", takes=["text"])
    add("ask", "os:path.join")
    assert reports == []
    assert registry.names() == ["ask", "draw"]
    assert [entry.name for entry in registry] == ["ask", "draw"]
    assert len(registry) == 2
    assert "draw" in registry
    assert "say" not in registry
    assert (registry["draw"].gives, registry["draw"].takes) == ("image", ("text",))
    assert registry["ask"].takes == ("text", "image", "audio", "video")
    assert registry["ask"].load()("a", "b") == "a/b"  # dotted attributes
    assert registry.find("say") == ()


@each_kind
def test_an_owner_keeps_its_name(kind: type[Entry]) -> None:
    registry = Registry(kind)
    for plugin, target in (("one", "math:pi"), ("two", "math:tau")):
        add, reports = register(registry, plugin)
        add("x", target, **GOOD[kind])
    assert registry["x"].target == "math:pi"
    assert len(registry) == 1
    (sentence,) = reports
    assert sentence.endswith(
        "'x' is registered by both one and two; using that of one, switch one off with "
        "MING_DISABLE_PLUGINS"
    )


@each_kind
def test_a_name_that_is_registered_twice_by_one_plugin(kind: type[Entry]) -> None:
    registry = Registry(kind)
    add, reports = register(registry)
    add("x", "math:pi", **GOOD[kind])
    add("x", "math:tau", **GOOD[kind])
    assert registry["x"].target == "math:pi"
    (sentence,) = reports
    assert sentence.endswith("'x' is registered twice; using the first")


def test_a_preset_has_several_parts() -> None:
    registry = Registry(PresetEntry)
    add, reports = register(registry)
    for part in ("vision", "backbone"):
        add("nano", f"acme:{part}", part=part)
    assert [entry.part for entry in registry.find("nano")] == ["backbone", "vision"]
    assert registry.names() == ["nano"]
    assert reports == []


def test_two_encoders_cannot_read_one_model_type() -> None:
    registry = Registry(EncoderEntry)
    ears = {"modality": "audio", "section": "audio_config"}
    register(registry, "ming-audio")[0]("whisper", "math:pi", spellings=("", "bailingmm"), **ears)
    add, reports = register(registry)
    add("acme", "math:tau", spellings=[""], **ears)
    add("bailingmm", "math:tau", **ears)
    assert registry.names() == ["whisper"]
    add("acme", "math:tau", modality="image", section="vision_config", spellings=[""])
    assert registry.names() == ["acme", "whisper"]
    assert reports == [
        f"the model_type {kind!r} of audio_config is registered by both ming-audio and acme; "
        "using that of ming-audio, switch one off with MING_DISABLE_PLUGINS"
        for kind in ("", "bailingmm")
    ]


@each_kind
@pytest.mark.parametrize(
    ("name", "target", "sentence"),
    [
        ("two words", "math:pi", "a {word} name must be one word, not 'two words'"),
        ("", "math:pi", "a {word} name must be one word, not ''"),
        ("-x", "math:pi", "a {word} name must be one word, not '-x'"),
        ("x\x1b", "math:pi", "a {word} name must be one word, not 'x\\x1b'"),
        (5, "math:pi", "a {word} name must be one word, not 5"),
        (None, "math:pi", "a {word} name must be one word, not None"),
        ("x", "math", "{word} 'x': target must be 'module:attribute', not 'math'"),
        ("x", ":pi", "{word} 'x': target must be 'module:attribute', not ':pi'"),
        ("x", "math:", "{word} 'x': target must be 'module:attribute', not 'math:'"),
        ("x", dict, "{word} 'x': target must be 'module:attribute', not <class 'dict'>"),
    ],
)
def test_a_name_or_target_that_can_never_work(
    kind: type[Entry], name: Any, target: Any, sentence: str
) -> None:
    add, reports = register(Registry(kind))
    add(name, target)
    add("fine", "math:pi", **GOOD[kind])
    assert reports == [sentence.format(word=kind.word)]
    assert add.registry.names() == ["fine"]


@each_kind
def test_each_keyword_is_checked(kind: type[Entry]) -> None:
    """Every field of every kind: absent, misspelt, and of other types."""
    for key in GOOD[kind]:
        others = {k: v for k, v in GOOD[kind].items() if k != key}
        for wrong in (5, b"x", object, {"a": 1}, ["x", 5], [None], True):
            add, reports = register(Registry(kind))
            add("x", "math:pi", **others, **{key: wrong})
            assert len(add.registry) == 0, (key, wrong)
            (sentence,) = reports
            assert sentence.startswith(f"{kind.word} 'x': {key} must be "), sentence
        add, reports = register(Registry(kind))
        add("x", "math:pi", **others, **{f"{key}_": "x"})
        assert reports == [f"{kind.word} 'x': unknown keyword '{key}_'; did you mean '{key}'?"]
    add, reports = register(Registry(kind))
    add("x", "math:pi", summary=None, **GOOD[kind])
    assert reports == [f"{kind.word} 'x': summary must be a text, not None"]


@pytest.mark.parametrize(
    ("kind", "name", "keywords", "sentence"),
    [
        (EncoderEntry, "x", {}, "encoder 'x': register it with section=... and modality=..."),
        (
            EncoderEntry,
            "x",
            {"section": "vision_config"},
            "encoder 'x': register it with modality=...",
        ),
        (
            EncoderEntry,
            "x",
            {"modality": "smell", "section": "nose_config"},
            "encoder 'x': modality must be 'audio' or 'image', not 'smell'",
        ),
        (
            EncoderEntry,
            "x",
            {"modality": "image", "section": ""},
            "encoder 'x': section must be the name of a section of config.json, not ''",
        ),
        (
            EncoderEntry,
            "timm:resnet18",
            GOOD[EncoderEntry],
            "encoder 'timm:resnet18': its name must have no colon; it gets every "
            "model_type whose part before the colon is its name",
        ),
        (
            EncoderEntry,
            "x",
            {**GOOD[EncoderEntry], "spellings": "y"},
            "encoder 'x': spellings must be a list of texts, not 'y'",
        ),
        (HeadEntry, "x", {}, "head 'x': register it with section=... and gives=..."),
        (
            HeadEntry,
            "x",
            {"gives": "text", "section": "y"},
            "head 'x': gives must be 'audio' or 'image', not 'te",
        ),
        (PresetEntry, "x", {}, "preset 'x': register it with part=..."),
        (PresetEntry, "x", {"part": ""}, "preset 'x': part must be one word, not ''"),
        (PresetEntry, "a/b", {"part": "x"}, "preset 'a/b': its name must be no path"),
        (RecipeEntry, "x", {}, "recipe 'x': register it with settings=..."),
        (
            RecipeEntry,
            "x",
            {"settings": "a.yaml"},
            "recipe 'x': settings must be 'package:file.yaml', not 'a.yaml'",
        ),
        (TaskEntry, "x", {"takes": "image"}, "task 'x': takes must be a list of texts, not 'ima"),
        (
            TaskEntry,
            "x",
            {"takes": ("smell",)},
            "task 'x': takes must be one or several of text, image, audio, video, not ('smell',)",
        ),
        (TaskEntry, "x", {"takes": ()}, "task 'x': takes must be one or several of text, image"),
        (TaskEntry, "x", {"gives": "a b"}, "task 'x': gives must be one word, as text or image"),
        (TaskEntry, "a-b", {}, "task 'a-b': its name must be that of a method in Python"),
        (TaskEntry, "_a", {}, "task '_a': its name must be that of a method in Python"),
        (TaskEntry, "import", {}, "task 'import': its name must be that of a method in Python"),
        (ReleaseEntry, "x", {"family": 1}, "release 'x': unknown keyword 'family'"),
        (ReleaseEntry, "x", {"plugin": "y"}, "release 'x': unknown keyword 'plugin'"),
    ],
)
def test_what_can_never_work_is_left_out_alone(
    kind: type[Entry], name: str, keywords: dict[str, Any], sentence: str
) -> None:
    add, reports = register(Registry(kind))
    add(name, "math:pi", **keywords)
    add("fine", "math:pi", **GOOD[kind])
    assert len(reports) == 1
    assert reports[0].startswith(sentence), reports[0]
    assert add.registry.names() == ["fine"]


def test_everything_that_is_installed_was_registered() -> None:
    assert get_plugins().failures == []
    kinds = {type(entry) for registry in get_plugins().registries.values() for entry in registry}
    assert kinds >= {EncoderEntry, TaskEntry, PresetEntry, ReleaseEntry, RecipeEntry}
