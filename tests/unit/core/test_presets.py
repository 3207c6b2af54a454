from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from ming_core.cli.models import _state
from ming_core.errors import BadCheckpoint, UnknownName
from ming_core.plugins import Plugins
from ming_core.plugins.hooks import hookimpl
from ming_core.presets import preset, preset_folders, presets


class Part:
    """A plugin that adds one part of a preset."""

    def __init__(self, name: str, target: str, part: str) -> None:
        self.arguments, self.part = (name, target), part

    @hookimpl
    def ming_register_presets(self, register) -> None:
        register(*self.arguments, part=self.part, summary=f"the {self.part}")


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    plugins = Plugins()
    monkeypatch.setattr("ming_core.presets.get_plugins", lambda: plugins)
    return plugins


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable package with one complete and one empty part."""
    root = tmp_path / "acme_presets_test"
    (root / "presets/tiny").mkdir(parents=True)
    (root / "presets/empty").mkdir()
    (root / "__init__.py").touch()
    (root / "presets/tiny/config.json").write_text("{}", "utf-8")
    (root / "presets/tiny/model.safetensors").write_bytes(bytes(98))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return root.name


def test_parts_of_several_plugins_merge(plugins: Plugins, package: str) -> None:
    plugins.add(Part("tiny", f"{package}:presets/tiny", "backbone"), "a", "acme-core")
    plugins.add(Part("tiny", f"{package}:presets/tiny", "vision"), "b", "acme-vision")
    folders = preset_folders("tiny")
    assert list(folders) == ["backbone", "vision"]
    assert folders["vision"].parts[-3:] == (package, "presets", "tiny")
    tiny = preset("tiny")
    assert (tiny.ready, tiny.summary, tiny.missing) == (True, "the backbone", {})
    assert tiny.parts["vision"].plugin == "acme-vision"
    assert tiny.parts["vision"].size == 100


def test_two_plugins_with_the_same_part(plugins: Plugins, package: str) -> None:
    plugins.add(Part("tiny", f"{package}:presets/tiny", "vision"), "a", "one")
    plugins.add(Part("tiny", f"{package}:presets/empty", "vision"), "b", "two")
    assert preset("tiny").parts["vision"].plugin == "one"
    assert "part 'vision' of preset 'tiny' is registered by both one and two" in str(
        plugins.failures[0]
    )


def test_parts_that_are_known_but_not_installed_are_named(plugins: Plugins, package: str) -> None:
    plugins.add(Part("nano", f"{package}:presets/tiny", "backbone"), "a", "ming-core")
    assert preset("nano").missing == {"vision": "ming-vision", "audio": "ming-audio"}
    assert list(preset_folders("nano")) == ["backbone"]


def test_the_summary_is_that_of_the_backbone(plugins: Plugins, package: str) -> None:
    plugins.add(Part("tiny", f"{package}:presets/tiny", "audio"), "a", "one")
    assert preset("tiny").summary == "the audio"
    plugins.add(Part("tiny", f"{package}:presets/tiny", "backbone"), "b", "two")
    assert preset("tiny").summary == "the backbone"


def test_weights_that_are_not_here(plugins: Plugins, package: str) -> None:
    plugins.add(Part("big", "hub:acme/Big", "checkpoint"), "a", "acme")
    plugins.add(Part("gone", f"{package}:presets/empty", "backbone"), "b", "acme")
    plugins.add(Part("away", "no_such_package_acme:presets/x", "backbone"), "c", "acme")
    assert [p.name for p in presets() if p.ready] == []
    assert preset("big").parts["checkpoint"].hub_id == "acme/Big"
    with pytest.raises(
        BadCheckpoint, match=r"weights of 'big' \(acme/Big\) are not on this machine"
    ):
        preset_folders("big")
    for name in ("gone", "away"):
        with pytest.raises(BadCheckpoint, match=f"preset '{name}' lacks .* reinstall acme"):
            preset_folders(name)


def test_weights_in_the_hub_cache_are_found(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--acme--Big/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", "utf-8")
    (tmp_path / "models--acme--Big/refs").mkdir()
    (tmp_path / "models--acme--Big/refs/main").write_text("abc", "utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    plugins.add(Part("big", "hub:acme/Big", "checkpoint"), "a", "acme")
    assert preset_folders("big") == {"checkpoint": snapshot}


def test_a_download_under_way_is_not_ready(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--acme--Big/snapshots/abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--acme--Big/refs").mkdir()
    (tmp_path / "models--acme--Big/refs/main").write_text("abc", "utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    plugins.add(Part("big", "hub:acme/Big", "checkpoint"), "a", "acme")

    def lacks() -> list[str]:
        part = preset("big").parts["checkpoint"]
        assert preset("big").ready == part.ready == (not part.lacks)
        assert _state(preset("big")) == ("incomplete" if part.lacks else "ready")
        return part.lacks

    beside = ["preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
    (snapshot / "config.json").write_text("{}", "utf-8")
    assert lacks() == [*beside, "model.safetensors"]
    for name in beside:
        (snapshot / name).write_text("{}", "utf-8")
    index = snapshot / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}', "utf-8")
    assert lacks() == ["1.safetensors", "2.safetensors"]
    (snapshot / "1.safetensors").write_bytes(bytes(8))
    assert lacks() == ["2.safetensors"]
    (snapshot / "2.safetensors").write_bytes(bytes(8))
    assert lacks() == []
    index.write_text("{", "utf-8")
    assert lacks() == [index.name]


def test_unknown_preset(plugins: Plugins, package: str) -> None:
    plugins.add(Part("nano", f"{package}:presets/tiny", "backbone"), "a", "ming-core")
    with pytest.raises(UnknownName, match="unknown preset 'nanno'; did you mean 'nano'\\?"):
        preset("nanno")


@pytest.mark.parametrize("target", ["json.decoder:presets", "no.such:presets", ".:presets"])
def test_a_part_in_no_package_is_not_here(plugins: Plugins, target: str) -> None:
    plugins.add(Part("tiny", target, "backbone"), "odd", "odd")
    assert _state(preset("tiny")) == "not here"
