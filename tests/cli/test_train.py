"""`ming train`: names, settings in all their layers, and what is refused before anything begins."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pytest

from ming_core.plugins import get_plugins
from ming_core.plugins.kinds import RecipeEntry
from ming_core.plugins.registry import Registrar, Registry
from ming_recipes.nano.config import NanoPerception
from ming_recipes.training.ranges import Keys, Range, check
from ming_recipes.training.recipe import Recipe


@dataclass
class Settings:
    out: str = "runs/mine"
    steps: Annotated[int, Range(1, 100)] = 10
    rate: Annotated[float, Range(0, 1, above=True)] = 0.1
    fast: bool = False
    focus: Annotated[dict[str, Annotated[float, Range(0)]], Keys(("color", "shape"))] = field(
        default_factory=lambda: {"color": 2.0}
    )


class Trained:
    """What was trained, and with which command line."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, Any], str]] = []

    def train(self, config: Any, command: str) -> None:
        self.calls.append((asdict(config), command))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    """A recipe "mine", and some that are broken."""
    package = tmp_path / "packages" / "acme_recipes"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "mine.yaml").write_text("# mine\nsteps: 20\n")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "acme_recipes", raising=False)
    trained, module = Trained(), import_module("acme_recipes")
    module.RECIPE = Recipe(Settings, trained.train)  # type: ignore[attr-defined]
    module.Depth = dict  # type: ignore[attr-defined]
    registry = Registry(RecipeEntry)
    register = Registrar(registry, "acme", pytest.fail)
    register("mine", "acme_recipes:RECIPE", settings="acme_recipes:mine.yaml")
    register("lost", "acme_recipes:RECIPE", settings="acme_recipes:lost.yaml")
    register("nowhere", "acme_recipes:RECIPE", settings="acme_nowhere:mine.yaml")
    register("depth", "acme_recipes:Depth", settings="acme_recipes:mine.yaml")
    register("gone", "acme_gone:RECIPE", settings="acme_recipes:mine.yaml")
    monkeypatch.setattr(get_plugins(), "recipes", registry)
    monkeypatch.chdir(tmp_path)
    return trained


def test_settings_come_in_layers(run: Any, trained: Trained) -> None:
    Path("mine.yaml").write_text("rate: 1e-3\nfocus: {shape: 3}\n")
    result = run("train", "mine", "out=a b", "focus.color=1", "--config", "mine.yaml")
    assert (result.code, result.out, result.err) == (0, "", "")
    ((settings, command),) = trained.calls
    assert settings == {
        "out": "a b",
        "steps": 20,
        "rate": 1e-3,
        "fast": False,
        "focus": {"color": 1.0, "shape": 3.0},
    }
    assert command == "ming train mine 'out=a b' focus.color=1 --config mine.yaml"


@pytest.mark.parametrize("day", ["2024-11-28", "2024-13-45"])
def test_a_folder_may_be_named_by_a_day(run: Any, trained: Trained, day: str) -> None:
    Path("mine.yaml").write_text(f"out: {day}\n")
    for words in (["--config", "mine.yaml"], [f"out={day}"]):
        assert run("train", "mine", *words).code == 0
        assert trained.calls.pop()[0]["out"] == day


REGISTERED = "of acme has no file of settings: "


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mien"], "unknown recipe 'mien'; did you mean 'mine'?"),
        (["lost"], f"'lost' {REGISTERED}settings='acme_recipes:lost.yaml' is none; update"),
        (["nowhere"], f"'nowhere' {REGISTERED}settings='acme_nowhere:mine.yaml' is none; update"),
        (["depth"], "the recipe 'depth' of acme is broken: 'acme_recipes:Depth' must be a ming_re"),
        (["gone"], "'gone' of acme cannot be loaded from 'acme_gone:RECIPE'"),
        (["mine", "steps"], "cannot read the override 'steps'; write it as key=value"),
        (["mine", "--steps", "5"], "cannot read the override '--steps'; write it as key=value"),
        (["mine", "--steps=5"], "unknown setting '--steps'; did you mean 'steps'?"),
        (["mine", "stps=5"], "unknown setting 'stps'; did you mean 'steps'?"),
        (["mine", "=5"], "unknown setting ''"),
        (["mine", "steps=many"], "steps is 'many'; it must be a whole number at least 1 and"),
        (["mine", "steps=1.5"], "steps is 1.5; it must be a whole number at least 1 and"),
        (["mine", "steps=true"], "steps is True; it must be a whole number at least 1 and"),
        (["mine", "steps="], "steps is None; it must be a whole number at least 1 and"),
        (["mine", "steps=[1]"], "steps must be one value, not a list"),
        (["mine", "steps=0"], "steps is 0; it must be a whole number at least 1 and at most 100"),
        (["mine", "steps=1" + "0" * 30], "it must be a whole number at least 1 and at most 100"),
        (["mine", "rate=nan"], "rate is 'nan'; it must be a number above 0 and at most 1"),
        (["mine", "rate=inf"], "rate is 'inf'; it must be a number above 0 and at most 1"),
        (["mine", "rate=-0.1"], "rate is -0.1; it must be a number above 0 and at most 1"),
        (["mine", "rate=0"], "rate is 0.0; it must be a number above 0 and at most 1"),
        (["mine", "rate=???"], "rate is '???'; write a value"),
        (["mine", "fast=perhaps"], "fast is 'perhaps'; it must be true or false"),
        (["mine", "focus=3"], "focus is 3; it must be a table of names and values"),
        (["mine", "focus.colr=3"], "focus has no key 'colr'; did you mean 'color'?"),
        (["mine", "focus.shape=-1"], "focus.shape is -1.0; it must be a number at least 0"),
        (["mine", "focus.shape=inf"], "focus.shape is 'inf'; it must be a number at least 0"),
        (["mine", "focus.shape.x=1"], "focus has no key 'shape.x'; did you mean 'shape'?"),
        (["mine", "out=' '"], "out is ' '; it must be a text that is not empty"),
        (["mine", "out=${oc.env:HOME}"], "out is '${oc.env:HOME}', and settings are not looked up"),
        (["mine", "out=a${out}"], "out is 'a${out}', and settings are not looked up elsewhere"),
        (["mine", "focus.color=${rate}"], "focus.color is '${rate}', and settings are not looked"),
        (["mine", "out=${oc.env:"], "settings"),
        (["mine", "focus={color: 1, color: 2}"], "'color' stands twice; leave one out"),
        (["mine", "focus={[1]: 2}"], "'focus={[1]: 2}': found unhashable key"),
        (["mine", "steps=!!int x"], "cannot read the override 'steps=!!int x': 'x' is no int"),
        (["mine", "steps=0b_"], "cannot read the override 'steps=0b_': '0b_' is no int"),
        (["mine", "--config", "no.yaml"], "cannot read no.yaml: No such file or directory"),
        (["mine", "--config", "."], "cannot read .: Is a directory"),
    ],
)
def test_errors_of_use(run: Any, trained: Trained, arguments: list[str], sentence: str) -> None:
    result = run("train", *arguments)
    assert result.code == 2
    assert result.err.startswith("ming: ")
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert trained.calls == []


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]\n"
    for before, name in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"out: ${oc.env:HOME}\n", "out is '${oc.env:HOME}', and settings are not looked up"),
        (b"out: '${oc.decode:x}'\n", "out is '${oc.decode:x}'"),
        (b"focus: {color: '${oc.env:HOME}'}\n", "focus.color is '${oc.env:HOME}'"),
        (b"focus: {color: [{x: '${oc.env:HOME}'}]}\n", "focus.color.0.x is '${oc.env:HOME}'"),
        (b"steps: [1\n", "mine.yaml, line 2 cannot be read as YAML: expected ',' or ']'"),
        (b"- steps\n", "mine.yaml holds a list; expected lines `setting: value`"),
        (b"steps\n", "mine.yaml holds a str; expected lines `setting: value`"),
        (b"5: 5\n", "unknown setting '5'"),
        (b"steps: \xff\n", "mine.yaml is no UTF-8 text; expected a YAML file of settings"),
        (b"steps: !!python/object/apply:os.getcwd []\n", "mine.yaml, line 1 cannot be read as YAM"),
        (b"#" * 2_000_000, "mine.yaml is larger than 1000000 bytes"),
        (b"steps: " + b"[" * 100_000, "the settings do not fit this recipe"),
        (
            b"steps: 1\nout: a\nsteps: 2\n",
            "mine.yaml, line 3 cannot be read as YAML: 'steps' stands",
        ),
        (
            b"lora: {rank: 1, rank: 2}\n",
            "mine.yaml, line 1 cannot be read as YAML: 'rank' stands twi",
        ),
        (b"focus: {? [1] : 2}\n", "mine.yaml, line 1 cannot be read as YAML: found unhashable key"),
        (b"focus: !!map [1]\n", "mine.yaml, line 1 cannot be read as YAML: expected a mapping"),
        (b"steps: !!int x\n", "mine.yaml, line 1 cannot be read as YAML: 'x' is no int"),
        (b"rate: !!float ''\n", "mine.yaml, line 1 cannot be read as YAML: '' is no float"),
        (b"fast: !!bool x\n", "mine.yaml, line 1 cannot be read as YAML: 'x' is no bool"),
        (b"out: !!timestamp x\n", "mine.yaml, line 1 cannot be read as YAML: 'x' is no timestamp"),
        (b"steps: 2024-01-01\n", "steps is '2024-01-01'; it must be a whole number"),
        (b"steps: \0\n", "mine.yaml cannot be read as YAML"),
        (BOMB.encode(), "unknown setting 'a'"),
    ],
)
def test_files_of_settings_that_are_refused(
    run: Any, trained: Trained, text: bytes, sentence: str
) -> None:
    Path("mine.yaml").write_bytes(text)
    result = run("train", "mine", "--config", "mine.yaml")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert sentence in result.err
    assert trained.calls == []


def test_an_empty_file_of_settings_changes_nothing(run: Any, trained: Trained) -> None:
    Path("mine.yaml").write_text("# nothing yet\n")
    assert run("train", "mine", "--config", "mine.yaml").code == 0


def test_a_device_that_never_ends_is_no_file_of_settings(run: Any, trained: Trained) -> None:
    result = run("train", "mine", "--config", "/dev/zero")
    assert "/dev/zero is larger than 1000000 bytes" in result.err


@pytest.mark.parametrize("name", vars(NanoPerception()))
def test_every_setting_of_nano_is_checked(name: str) -> None:
    check(NanoPerception())
    default = getattr(NanoPerception(), name)
    wrong: list[Any] = [None, [], True, float("nan"), float("inf"), -1, "", 10**30]
    if isinstance(default, dict):
        wrong = [None, 3, {"nonsense": 1.0}, *({next(iter(default)): value} for value in wrong)]
    for value in wrong[default is None :]:  # null is the first
        with pytest.raises(Exception, match=f"^{name}") as error:
            check(NanoPerception(**{name: value}))
        assert type(error.value).__name__ == "BadConfig", value
