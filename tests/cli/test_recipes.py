"""`ming recipes`: what is listed, shown, copied and checked; a copied recipe trains."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from ming_core.errors import BadConfig
from ming_recipes.training.ranges import Range
from ming_recipes.training.recipe import Recipe, settings

OWN = """
from dataclasses import dataclass

from ming_recipes.training.recipe import Recipe


@dataclass
class Settings:
    out: str = "runs/own"
    steps: int = 1


def train(settings: Settings, command: str) -> None:
    print(settings.out, settings.steps, command)


RECIPE = Recipe(Settings, train)
"""


@dataclass
class Rows:
    path: str
    share: Annotated[float, Range(0, above=True)] | None = None


@dataclass
class Adapter:
    rank: Annotated[int, Range(0)] = 0
    targets: list[str] = field(default_factory=lambda: ["attention"])


@dataclass
class Nested:
    data: list[Rows] = field(default_factory=list)
    lora: Adapter = field(default_factory=Adapter)
    train: dict[str, Annotated[float, Range(0)]] = field(default_factory=lambda: {"a.*": 1.0})
    kind: Literal["adamw", "muon"] = "adamw"
    ema: float | None = None
    every: int | str = 10


def read(*overrides: str, files: tuple[Path, ...] = ()) -> Any:
    return settings(Recipe(Nested, lambda config, command: None), files, overrides)


def test_settings_lie_in_one_another(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("data: [one.jsonl, {path: two.jsonl, share: 2}]\nlora: {rank: 4}\nema: 1e-3\n")
    found = read("data.0.share=3", "lora.targets=[experts]", "train.b.c.*=0.5", files=(file,))
    assert found.data == [Rows("one.jsonl", 3.0), Rows("two.jsonl", 2.0)]
    assert found.lora == Adapter(4, ["experts"])
    assert found.train == {"a.*": 1.0, "b.c.*": 0.5}
    assert found.ema == 1e-3
    assert read("ema=null", "every=epoch").every == "epoch"


@pytest.mark.parametrize("short", ["data=5.jsonl", "data=[5.jsonl]", "data.0.path=5.jsonl"])
def test_a_list_of_one_is_written_short(short: str) -> None:
    assert read(short).data == [Rows("5.jsonl")]


def test_a_layer_adds_the_next_entry_of_a_list(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("data: one.jsonl\n")
    assert read("data.1=two.jsonl", files=(file,)).data == [Rows("one.jsonl"), Rows("two.jsonl")]
    with pytest.raises(BadConfig, match=r"^unknown setting 'data.2'; .* is data.1$"):
        read("data.2.path=x", files=(file,))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("lora.rnk=8", "unknown setting 'lora.rnk'; did you mean 'lora.rank'?"),
        ("rank=8", "unknown setting 'rank'; did you mean 'lora.rank'?"),
        ("lora.rank.x=8", "lora.rank must be one value, not a dict"),
        ("lora=8", "lora is 8; it must be a table of names and values"),
        ("lora.targets.x=8", "unknown setting 'lora.targets.x'; the entries of lora"),
        ("data.0.share=1", "data.0.path has no value; write one"),
        ("data=[{path: x, share: -1}]", "data.0.share is -1.0; it must be a number above 0 or n"),
        ("data=[{path: '${oc.env:HOME}'}]", "data is \"[{path: '${oc.env:HOME}'}]\", and settings"),
        ("kind=moun", "kind is 'moun'; did you mean 'muon'?"),
        ("kind=sgd", "kind is 'sgd'; it must be adamw or muon"),
        ("train.b*=-1", "train.b* is -1.0; it must be a number at least 0"),
        ("train.b*=x", "train.b* is 'x'; it must be a number at least 0"),
        ("ema=x", "ema is 'x'; it must be a number or null"),
        ("every=1.5", "every is 1.5; it must be a text"),
    ],
)
def test_faults_are_told_with_their_place(override: str, sentence: str) -> None:
    with pytest.raises(BadConfig) as error:
        read(override)
    assert str(error.value).startswith(sentence)


def test_all_faults_are_told_together() -> None:
    with pytest.raises(BadConfig) as error:
        read("lora.rank=-1", "knd=muon", "ema=x", "other=5")
    assert str(error.value) == (
        "4 settings cannot be used: (1) lora.rank is -1; it must be a whole number at least 0; "
        "(2) ema is 'x'; it must be a number or null; (3) unknown setting 'knd'; did you mean "
        "'kind'?; (4) unknown setting 'other'; known: data, ema, every, kind, lora, train"
    )


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that somebody has written a recipe in."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "recipe.py").write_text(OWN)
    (folder / "nano.yaml").write_text("# Trains nothing.\n# Time: none.\n\nsteps: 2\n")
    (folder / "large.yaml").write_text("# Trains more.\nsteps: 100\n")
    return folder


def test_a_folder_is_a_recipe(run: Any, own: Path) -> None:
    assert run("train", "own", "out=x").out == "x 2 ming train own out=x\n"
    large = run("train", "own/", "--config", "large.yaml")
    assert large.out == "runs/own 100 ming train own/ --config large.yaml\n"
    assert run("train", str(own), "--config", "own/large.yaml").out.startswith("runs/own 100 ")
    Path("mine.yaml").write_text("out: mine\n")
    assert run("train", "own", "--config", "mine.yaml").out.startswith("mine 2 ")
    both = run("train", "own", "--config", "large.yaml", "--config", "mine.yaml")
    assert both.out.startswith("mine 100 ")


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("recipe.py", "import nowhere_at_all", "recipe.py cannot be imported: ModuleNotFoundErr"),
        ("recipe.py", "RECIPE = 5", "recipe.py has no recipe: RECIPE must be a ming_recipes.tra"),
        ("nano.yaml", "stps: 5", "unknown setting 'stps'; did you mean 'steps'?"),
    ],
)
def test_a_broken_recipe_of_ones_own(
    run: Any, own: Path, file: str, text: str, sentence: str
) -> None:
    (own / file).write_text(text)
    result = run("train", "own")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert sentence in result.err


def test_a_folder_without_a_recipe(run: Any, own: Path) -> None:
    (own / "recipe.py").unlink()
    assert "own holds no recipe; a recipe is a folder with recipe.py" in run("train", "own").err


def test_recipes_are_listed(run: Any) -> None:
    listed = run("recipes")
    assert (listed.code, run("recipes", "ls").out) == (0, listed.out)
    names = [row["name"] for row in json.loads(run("recipes", "--json").out)]
    assert names == [row["name"] for row in json.loads(run("recipes", "ls", "--json").out)]
    assert "nano-perception" in names
    assert all(name in listed.out for name in names)


def test_what_a_recipe_needs_is_shown(run: Any, own: Path) -> None:
    shown = run("recipes", "show", "own").out
    assert shown.index("nano.yaml\n  Trains nothing.\n  Time: none.") < shown.index("large.yaml")
    told = json.loads(run("recipes", "show", "own", "--json").out)
    assert told["settings"]["large.yaml"] == "Trains more."
    assert "did you mean 'nano-perception'" in run("recipes", "show", "nano-perceptoin").err


def test_a_copied_recipe_is_ones_own(run: Any, own: Path) -> None:
    copied = run("recipes", "cp", "own", "copy")
    assert copied.out.splitlines() == ["copy/recipe.py", "copy/nano.yaml", "copy/large.yaml"]
    Path("copy/nano.yaml").write_text("steps: 7\n")
    assert run("train", "copy").out == "runs/own 7 ming train copy\n"
    again = run("recipes", "cp", "own", "copy")
    assert (again.code, again.err) == (
        2,
        "ming: copy is not empty; choose a folder that does not exist yet\n",
    )
    Path("file").touch()
    assert run("recipes", "cp", "own", "file/copy").err.startswith("ming: cannot copy the recipe")


def test_files_are_checked_without_training(run: Any, own: Path) -> None:
    assert run("recipes", "validate", "own/large.yaml").out == (
        f"own/large.yaml is valid for the recipe {own}\n"
    )
    Path("mine.yaml").write_text("stps: 5\nout: [1]\n")
    assert "mine.yaml lies in no folder of a recipe" in run("recipes", "validate", "mine.yaml").err
    wrong = run("recipes", "validate", "mine.yaml", "--recipe", "own")
    assert wrong.code == 2
    assert "(1) out must be one value, not a list; (2) unknown setting 'stps'; did" in wrong.err
    assert run("recipes", "validate", "no.yaml").err.startswith("ming: there is no file no.yaml")
