"""What the pages show: Python blocks run, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

from ming_core.cli import build_app
from ming_core.evaluation.registered import benchmark_entry, options_of
from ming_core.plugins import get_plugins
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import scene_of
from ming_recipes.training.recipe import find_recipe, settings

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/tasks/*.md", "packages/*/*.md", "recipes/*.md")
    for path in REPOSITORY.glob(pattern)
)
OURS = (REPOSITORY, REPOSITORY / "docs", REPOSITORY / "docs/tasks")
WITH_CODE = [page for page in PAGES if page.parent in OURS]
NOT_RUN = "<!-- not run -->"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))


def blocks(page: Path, *languages: str) -> Iterator[tuple[int, str]]:
    """First line number and text of the fenced blocks of some languages, unless marked."""
    lines = page.read_text("utf-8").splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    assert len(fences) % 2 == 0, f"{page.name} has a block without an end"
    for start, end in zip(fences[::2], fences[1::2], strict=True):
        if lines[start].removeprefix("```") in languages and lines[start - 1] != NOT_RUN:
            yield start + 1, "\n".join(lines[start + 1 : end])


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [p for p in WITH_CODE if any(blocks(p, "python"))], ids=lambda p: p.name
)
def test_python_blocks_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks of a page share their names, as a reader types them one after another."""
    code = list(blocks(page, "python"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(REPOSITORY / "docs")
    Image.fromarray(render(scene_of("test", 0))).save("scene.png")
    module = ModuleType(page.stem)
    monkeypatch.setitem(sys.modules, page.stem, module)  # where dataclasses look their names up
    for line, text in code:
        # Line numbers of the page in tracebacks.
        exec(compile("\n" * line + text, page, "exec"), vars(module))


def commands(line: str) -> Iterator[list[str]]:
    """Name and arguments of each `ming ...` in a line of shell."""
    words = shlex.split(line, comments=True)
    for place, word in enumerate(words):
        if word == "ming":
            yield list(takewhile(lambda w: w not in ("|", "&&", ">", "<"), words[place + 1 :]))


def check(program: Any, name: str, arguments: list[str]) -> None:
    """Parse a command and the settings of a recipe or benchmark; raises for unknown ones."""
    assert name in program.commands, f"there is no `ming {name}`"
    command = program.commands[name]
    if arguments and hasattr(command, "commands"):
        group, (name, *arguments) = name, arguments
        assert name in command.commands, f"there is no `ming {group} {name}`"
        command = command.commands[name]
    given = command.make_context(name, list(arguments)).params
    if name == "train":
        # A folder of one's own is a copy, and a file of one's own has what fits.
        copied = given["recipe"].startswith("./")
        recipe = find_recipe("understanding" if copied else given["recipe"])
        own = {file.name for file in recipe.files}
        files = [file for file in given["config"] or [] if file.name in own]
        settings(recipe.load(), recipe.layers(files), given["overrides"] or [])
    if name == "run":
        options_of(benchmark_entry(given["name"]), given["options"] or [])


@pytest.fixture(scope="module")
def program() -> Any:
    return get_command(build_app(get_plugins()))


@each_page
def test_commands_parse(page: Path, program: Any) -> None:
    for _, text in blocks(page, "sh", "bash", "console"):
        for line in text.splitlines():
            for name, *arguments in commands(line):
                check(program, name, arguments)


def test_the_example_of_every_help_parses(program: Any) -> None:
    for command in program.commands.values():
        example = command.help.partition("Example: ")[2].splitlines()
        assert example, f"`ming {command.name}` has no example"
        for name, *arguments in commands(example[0]):
            check(program, name, arguments)


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: lower case, spaces to hyphens, punctuation dropped."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        linked = (page.parent / place).resolve() if place else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def test_package_pages_have_no_relative_links() -> None:
    """They are shown by package indexes, where no other file of the repository is."""
    for page in PAGES:
        if page not in WITH_CODE:
            assert not re.search(r"\]\((?![a-z]+:)", prose(page)), page


def test_the_index_links_every_page() -> None:
    index = prose(REPOSITORY / "docs/index.md")
    docs = REPOSITORY / "docs"
    for page in docs.rglob("*.md"):
        name = page.relative_to(docs).as_posix()
        assert name == "index.md" or f"]({name})" in index, name


def test_paths_named_in_pages_exist() -> None:
    """Paths from the root of the repository, in backticks."""
    for page in PAGES:
        for name in re.findall(r"`((?:tests|recipes|speed|packages|docs)/[\w./-]+)`", prose(page)):
            assert (REPOSITORY / name).exists(), f"{page.name} names {name}"
