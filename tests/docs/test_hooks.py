"""The examples of the page about hooks are one plugin: registered, and what it adds is used."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from ming_core import load
from ming_core.cli import build_app
from ming_core.cli.tasks import task_command
from ming_core.evaluation.registered import check_data, options_of
from ming_core.plugins import Plugins, get_plugins, hooks
from ming_core.presets import preset_folders
from ming_core.release import release_of
from ming_recipes.training.recipe import load_recipe, recipe_yaml, settings

ACME = {
    "__init__": "",
    "vit": "class AcmeVit: modality = 'image'",
    "dit": "class AcmeDit: gives = 'image'",
    "options": """
from dataclasses import dataclass
from ming_core.media.options import option
@dataclass(frozen=True)
class Depth:
    metres: float | None = option("How far away.", least=0)
    def put(self, parts): return list(parts)
""",
    "tasks": "def caption(model, image): return model.ask('what?', image)",
    "release": """
from dataclasses import replace
from ming_core.releases.flash import FLASH
ACME_1 = replace(FLASH, name="acme-1", recognises=lambda c: c.get("model_type") == "acme")
""",
    "recipes/__init__": "",
    "recipes/depth": """
from dataclasses import dataclass
from ming_recipes.training.recipe import Recipe
@dataclass
class Depth:
    steps: int = 1
RECIPE = Recipe(Depth, lambda settings, command: None)
""",
    "counting": "class Counting:\n    def __init__(self, *, kind='all'): ...",
    "chat": "def camera(model, argument, messages): return 'nothing to see'",
    "cli": "def depth(): 'Measure.'",
}
"""The package that the page speaks of, as short as it can be."""


@pytest.fixture
def page(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's blocks as one module."""
    text = (repository / "docs/hooks.md").read_text("utf-8")
    module = ModuleType("hooks_page")
    monkeypatch.setitem(sys.modules, "hooks_page", module)
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "hooks.md", "exec"), vars(module))
    return module


@pytest.fixture
def plugins(page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    """The installed plugins, and that of the page."""
    for name, text in ACME.items():
        path = tmp_path / "acme" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "acme/recipes/depth.yaml").write_text("steps: 5\n")
    (tmp_path / "acme/presets/nano").mkdir(parents=True)
    (tmp_path / "acme/presets/nano/config.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    get_plugins().add(page, "acme", "acme")
    yield get_plugins()
    get_plugins.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


def test_every_hook_has_an_example(page: ModuleType) -> None:
    assert {name for name in vars(page) if name.startswith("ming_")} == {
        name for name in vars(hooks) if name.startswith("ming_")
    }


def test_the_examples_are_registered_and_used(plugins: Plugins) -> None:
    assert plugins.failures == []
    added: dict[str, Any] = {
        kind: entry
        for kind, registry in plugins.registries.items()
        for entry in registry
        if entry.plugin == "acme"
    }
    assert added.keys() == plugins.registries.keys()
    for kind, entry in added.items():
        if kind != "presets":  # a folder
            assert entry.load() is not None
    assert (added["encoders"].modality, added["encoders"].section) == ("image", "vision_config")
    assert load("nano").sources.encoder_entry("image").plugin == "ming-vision"
    assert (added["heads"].gives, added["heads"].reads("acme_dit")) == ("image", True)
    assert preset_folders("nano")["depth"].name == "nano"
    assert release_of({"model_type": "acme"}).name == "acme-1"
    recipe = load_recipe(added["recipes"])
    assert settings(recipe, [recipe_yaml(added["recipes"])], ["steps=7"]).steps == 7
    assert options_of(added["benchmarks"], ["kind=red"]) == {"kind": "red"}
    check_data(added["benchmarks"], Path())
    assert task_command(added["tasks"]).name == "caption"
    assert added["chat_commands"].load()(None, "", []) == "nothing to see"
    program = get_command(build_app(plugins))
    assert {"depth", "caption"} <= set(program.commands)  # type: ignore[attr-defined]
    assert "--metres" in [
        flag
        for option in program.commands["ask"].params  # type: ignore[attr-defined]
        for flag in option.opts
    ]
    assert plugins.failures == []


def test_the_others_are_called(plugins: Plugins, capsys: pytest.CaptureFixture[str]) -> None:
    model = load("nano", parts="image")
    assert re.match(r"nano: image has [\d,]+ weights\n", capsys.readouterr().out)
    assert model.encoder("image") is not None
    findings = [found for plugin, found in plugins.each("ming_doctor") if plugin.name == "acme"]
    assert [finding.detail for finding in findings[0]] == ["expired; run `acme renew`"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class Depth: ...", "options 'Depth' are no dataclass of options: "),
        ("Depth = 5", "options 'Depth' are no dataclass of options: "),
        (ACME["options"].replace("metres", "fps"), "options 'Depth': --fps is an option already"),
        (ACME["options"].replace("metres", "model"), "options 'Depth': --model is an option alr"),
    ],
)
def test_wrong_options_leave_the_command(plugins: Plugins, text: str, reason: str) -> None:
    """They took `ming ask`, and every other command of the core, with them."""
    module = ModuleType("acme.options")
    sys.modules["acme.options"] = module
    exec(text, vars(module))
    program = get_command(build_app(plugins))
    assert {"ask", "depth"} <= set(program.commands)  # type: ignore[attr-defined]
    assert [failure.reason.startswith(reason) for failure in plugins.failures] == [True]
