"""Pages that are checked against the program."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from ming_core import hookspecs

HOOKS = {name: spec for name, spec in vars(hookspecs).items() if name.startswith("ming_")}


def test_cli_page_is_what_the_program_says(repository: Path) -> None:
    spec = spec_from_file_location("generate_cli", repository / "docs/generate_cli.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (repository / "docs/cli.md").read_text("utf-8")
    assert written == module.page(), "run `python docs/generate_cli.py`"


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
