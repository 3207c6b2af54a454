"""Pages that are checked against the program."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from ming_core.plugins import hooks

HOOKS = {name: spec for name, spec in vars(hooks).items() if name.startswith("ming_")}


def script(path: Path) -> Any:
    """A file of the docs folder as a module."""
    spec = spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cli_page_is_what_the_program_says(repository: Path) -> None:
    written = (repository / "docs/cli.md").read_text("utf-8")
    page = script(repository / "docs/generate_cli.py").page()
    assert written == page, "run `python docs/generate_cli.py`"


def test_figures_of_the_architecture_are_the_import_contracts(repository: Path) -> None:
    rooms = script(repository / "docs/generate_rooms.py")
    written = (repository / "docs/architecture.md").read_text("utf-8")
    assert written == rooms.page(), "run `python docs/generate_rooms.py`"
    for floor in rooms.layers(["ming_core"]):
        for room in floor:
            assert f"`{room}`" in written, f"the page does not say what {room} is for"


def test_files_that_the_architecture_names_exist(repository: Path) -> None:
    core = repository / "packages/ming-core/src/ming_core"
    roots = [core, core.parent, repository, *repository.glob("packages/*/src")]
    roots += [repository / "recipes", repository / "recipes/ming_recipes"]
    roots += [path for path in core.iterdir() if path.is_dir()]  # in the table of rooms
    page = (repository / "docs/architecture.md").read_text("utf-8")
    named = re.findall(r"`([\w/]+(?:\.py|/))`", page)
    assert len(named) > 50
    missing = [name for name in named if not any((root / name).exists() for root in roots)]
    assert not missing


def test_hook_page_has_every_hook_with_its_signature(repository: Path) -> None:
    page = (repository / "docs/hooks.md").read_text("utf-8")
    headings = re.findall(r"^## (ming_.*)$", page, re.MULTILINE)
    expected = [
        f"{name}({', '.join(inspect.signature(f).parameters)})" for name, f in HOOKS.items()
    ]
    assert headings == expected


@pytest.mark.parametrize("name", HOOKS)
def test_hook_section_shows_an_implementation(repository: Path, name: str) -> None:
    page = (repository / "docs/hooks.md").read_text("utf-8")
    section = page.partition(f"## {name}(")[2].partition("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code, f"no example of {name}"
    (function,) = ast.parse(code.group(1)).body
    assert isinstance(function, ast.FunctionDef)
    assert function.name == name
    assert [ast.unparse(d) for d in function.decorator_list] == ["hookimpl"]
    known = inspect.signature(HOOKS[name]).parameters
    assert {argument.arg for argument in function.args.args} <= set(known)


def test_score_tables_are_those_of_the_shipped_weights(repository: Path) -> None:
    for path, expected in script(repository / "docs/generate_scores.py").pages().items():
        assert path.read_text("utf-8") == expected, "run `python docs/generate_scores.py`"
