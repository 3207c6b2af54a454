"""Which release a config.json belongs to, and releases of plugins that are wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from ming_core.chat.formats import FLASH as FLASH_CHAT
from ming_core.errors import BadCheckpoint, BadConfig
from ming_core.plugins import Plugins, get_plugins
from ming_core.plugins.hooks import hookimpl
from ming_core.release import Release, backbone_of, release_of
from ming_core.releases.flash import FLASH

Add = Callable[..., None]
MINE = {"model_type": "mine"}


def broken(*_: Any) -> Any:
    raise KeyError("width")


@pytest.fixture
def plugins() -> Iterator[Plugins]:
    yield get_plugins()
    get_plugins.cache_clear()


@pytest.fixture
def add(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Installs a plugin of a distribution with one release, or what stands in its place."""

    def installed(distribution: str, release: Any, name: str = "mine") -> None:
        module = ModuleType(distribution)
        module.RELEASE = release  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, distribution, module)

        class Adds:
            @hookimpl
            def ming_register_releases(self, register: Any) -> None:
                register(name, f"{distribution}:RELEASE", summary=f"that of {distribution}")

        plugins.add(Adds(), distribution, distribution)

    return installed


def is_mine(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == "mine"


def mine(**changes: Any) -> Release:
    return replace(FLASH, **{"name": "mine", "recognises": is_mine, **changes})


def reasons(plugins: Plugins) -> list[str]:
    return [str(failure) for failure in plugins.failures]


def test_a_release_of_a_plugin(add: Add) -> None:
    add("acme", mine(wording={"audio_tasks": {"transcribe": "listen."}}))
    release = release_of(MINE)
    assert release.name == "mine"
    assert release.worded("audio_tasks", {"audio_tasks": {"domain": "on {domain}"}}) == (
        {"transcribe": "listen."},
        {"domain": "on {domain}"},
    )
    with pytest.raises(BadConfig, match="audio_tasks must be an object of sentences, not 3"):
        release.worded("audio_tasks", {"audio_tasks": 3})


def test_a_plugin_is_asked_before_the_core(add: Add, tiny_llm: Callable[[str], Any]) -> None:
    config = {"llm_config": tiny_llm("flash")}
    assert release_of(config).name == "flash"
    add("acme", replace(FLASH, chat=lambda _: replace(FLASH_CHAT, stop="<stop>")), "special")
    release = release_of(config)
    assert release.name == "special"
    assert release.chat(backbone_of(config)).stop == "<stop>"


def test_a_small_model_says_what_it_knows(tiny_llm: Callable[[str], Any]) -> None:
    assert release_of({"llm_config": tiny_llm("flash"), "knows": {}}).name == "nano"


def test_two_plugins_with_one_name(add: Add, plugins: Plugins) -> None:
    add("acme", mine())
    add("bolt", mine())
    assert release_of(MINE).name == "mine"
    assert reasons(plugins) == [
        "plugin 'bolt' of bolt: release 'mine' is registered by both acme and bolt; using that of "
        "acme, switch one off with MING_DISABLE_PLUGINS"
    ]
    add("flashy", mine(), "flash")
    assert "release 'flash' is registered by both ming-core and flashy" in reasons(plugins)[1]


def test_two_plugins_that_recognise_the_same(add: Add) -> None:
    add("acme", mine())
    add("bolt", mine(), "ours")
    with pytest.raises(BadCheckpoint) as caught:
        release_of(MINE)
    assert str(caught.value) == (
        "config.json is recognised by the releases 'mine' of acme and 'ours' of bolt; switch one "
        "off with MING_DISABLE_PLUGINS=bolt"
    )


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        (mine(), None),
        (replace(FLASH, recognises=broken), "release 'mine' raised KeyError: 'width'"),
        (replace(FLASH, recognises=lambda: True), "release 'mine' raised TypeError: "),
        (5, "release 'mine' raised TypeError: acme:RELEASE is 5 and no Release"),
        (Release, "release 'mine' raised TypeError: acme:RELEASE is <class 'ming_core.release.Re"),
    ],
    ids=["good", "raises", "takes nothing", "no release", "the class"],
)
def test_a_release_that_fails_stops_no_other(
    add: Add,
    plugins: Plugins,
    tiny_llm: Callable[[str], Any],
    release: Any,
    reason: str | None,
) -> None:
    add("acme", release)
    for _ in range(2):
        assert release_of({"llm_config": tiny_llm("lite-1.5")}).name == "lite-1.5"
    assert len(plugins.failures) == (reason is not None)  # said once
    assert reason is None or reasons(plugins)[0].startswith(f"plugin 'acme' of acme: {reason}")


def test_a_release_that_cannot_be_imported(add: Add, plugins: Plugins) -> None:
    add("acme", mine())
    vars(sys.modules["acme"]).clear()
    with pytest.raises(BadCheckpoint, match="'mine' without an llm_config section; known"):
        release_of(MINE)
    assert "'mine' of acme cannot be loaded from 'acme:RELEASE'" in reasons(plugins)[0]


@pytest.mark.parametrize("field", ["backbone", "chat", "slots", "positions"])
def test_a_function_that_raises_or_returns_something_else(add: Add, field: str) -> None:
    add("acme", mine(**{field: broken}))
    with pytest.raises(BadCheckpoint) as caught:
        getattr(release_of(MINE), field)(MINE)
    assert str(caught.value) == (
        f"{field} of release 'mine' of acme raised KeyError: 'width'; update acme, or use a "
        "checkpoint that it knows"
    )
    add("bolt", replace(mine(**{field: lambda _: 5}), recognises=lambda c: "bolt" in c), "bolt")
    with pytest.raises(BadCheckpoint, match=f"{field} of release 'bolt' of bolt returned 5 and no"):
        getattr(release_of({"bolt": 1}), field)(MINE)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"chat": FLASH_CHAT}, "chat of release 'mine' must be a function"),
        ({"recognises": "mine"}, "recognises of release 'mine' must be a function"),
        ({"wording": {"audio_tasks": "listen."}}, "wording of release 'mine' must map sections"),
        ({"wording": ["audio_tasks"]}, "wording of release 'mine' must map sections"),
        ({"components": ("image",)}, "components of release 'mine' must be places"),
    ],
    ids=str,
)
def test_a_release_of_wrong_things(changes: dict[str, Any], sentence: str) -> None:
    """It cannot be made, so that the module of its plugin cannot be imported."""
    with pytest.raises(TypeError, match=sentence):
        mine(**changes)


def test_sentences_of_a_release_are_ours(add: Add) -> None:
    def reads(config: Mapping[str, Any]) -> Any:
        raise BadConfig("width is 5; it must be even")

    add("acme", mine(backbone=reads))
    with pytest.raises(BadConfig, match=r"^width is 5; it must be even$"):
        backbone_of(MINE)


def test_an_interruption_is_passed_on(add: Add) -> None:
    def interrupted(config: Mapping[str, Any]) -> bool:
        raise KeyboardInterrupt

    add("acme", replace(FLASH, recognises=interrupted))
    with pytest.raises(KeyboardInterrupt):
        release_of(MINE)


def test_each_part_of_a_release_has_one_place() -> None:
    for entry in get_plugins().releases:
        release = entry.load()
        assert release.name == entry.name
        names = [place.name for place in release.components]
        assert names[0] == "backbone"
        assert len(names) == len(set(names))
        for place in release.components:
            assert not place.folder.startswith(("/", "."))
            assert place.folder or place.prefixes or place.files
