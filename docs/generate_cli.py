"""Writes docs/cli.md from the help texts: `python docs/generate_cli.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from ming_core.cli import build_app
from ming_core.plugins import get_plugins

INTRODUCTION = """# Command line

The answer goes to stdout and nothing else does; progress, timings and warnings go to stderr.
Exit codes: 0 fine; 1 `ming doctor` found something, or the model gave no readable box or action
(`ground`, `click`); 2 an error of use, told in one sentence; 130 interrupted,
143 ended by SIGTERM (`train`).
`MING_DISABLE_PLUGINS=NAME,NAME` switches plugins off.

This page is written by `python docs/generate_cli.py`.
"""


def page() -> str:
    """The whole page for the commands of the installed packages."""
    return INTRODUCTION + "".join(_sections(get_command(build_app(get_plugins())), None, "ming"))


def _sections(command: Any, parent: Any, name: str) -> Iterator[str]:
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=100
    )
    title = context.command_path
    yield f"\n## {title}\n\n```\n{command.get_help(context).rstrip()}\n```\n"
    for child in getattr(command, "commands", {}) and command.list_commands(context):
        yield from _sections(command.get_command(context, child), context, child)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(page(), "utf-8")
