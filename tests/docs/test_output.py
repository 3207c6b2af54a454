"""The pages of the tasks show what their commands really print."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from shlex import split
from typing import Any

import pytest
from typer.testing import CliRunner

from ming_core.cli import build_app
from ming_core.plugins import get_plugins

REPOSITORY = Path(__file__).parents[2]
SHELL, OUTPUT = "```sh", "```text"


def shown() -> Iterator[Any]:
    """Commands and output of each block of commands that a block of output follows."""
    for page in sorted((REPOSITORY / "docs/tasks").glob("*.md")):
        text = page.read_text("utf-8")
        for after in text.split(SHELL + "\n")[1:]:
            commands, _, rest = after.partition("```\n")
            if rest.lstrip("\n").startswith(OUTPUT):
                output = rest.partition(OUTPUT + "\n")[2].partition("```")[0]
                lines = commands.splitlines()
                yield pytest.param(lines, output, id=f"{page.stem}: {lines[0][:60]}")


@pytest.fixture
def pictures_and_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of what the pages use, as some commands write beside it."""
    for folder in ("images", "sounds"):
        shutil.copytree(REPOSITORY / "docs" / folder, tmp_path / "docs" / folder)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("pictures_and_sounds")
@pytest.mark.parametrize(("commands", "output"), list(shown()))
def test_output_on_the_page_is_that_of_the_command(commands: list[str], output: str) -> None:
    printed = ""
    for command in commands:
        name, *arguments = split(command)
        assert name == "ming"
        result = CliRunner().invoke(build_app(get_plugins()), arguments)
        assert result.exit_code == 0, result.output
        if "--think" in arguments:  # the reasoning, without notes
            printed += "".join(
                line for line in result.stderr.splitlines(True) if not line.startswith("ming: ")
            )
        printed += result.stdout
    if output.startswith("{"):
        assert rounded(printed) == rounded(output)
    else:
        assert printed == output


def rounded(printed: str) -> dict[str, Any]:
    """Values for JSON, with the confidence as it is on every processor."""
    values = json.loads(printed)
    return {**values, "confidence": round(values["confidence"], 1)}
