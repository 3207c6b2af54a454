"""Writes docs/cli.md from the help texts: `python docs/generate_cli.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from ming_core.cli import build_app
from ming_core.plugins import get_plugins

INTRODUCTION = r"""# Command line

The answer goes to stdout and nothing else does; progress, timings, notes and errors go to stderr.
`MING_DISABLE_PLUGINS=NAME,NAME` switches plugins off. `ming --install-completion` lets the shell
complete commands and options.

| exit code | |
|---|---|
| 0 | fine |
| 1 | `ming doctor` found something, or `ground` or `click` gave no readable box or action |
| 2 | an error of use, of a file or the disk, told in one sentence; or one file of several failed |
| 130, 143 | interrupted with Ctrl-C, ended by SIGTERM; what was done until then is kept |
| 141 | nobody reads the output any more, as after `\| head -1` |

**Inputs.** A medium is a path, a `file://` address, a pipe (`<(...)`, `/dev/fd/3`) or `-` for
standard input. In the place of a question `-` reads its text from there. Web addresses are not
fetched. Questions on standard input may be UTF-8 or UTF-16, and have at most 4 million characters.

**Several inputs** (`describe`, `read`, `transcribe`). Folders are searched for files of the right
kind by their suffix, with the folders in them and without hidden files. An input that cannot be
read is told on stderr and in the `error` of its result; the others are done, and the exit code is
2. With `--json` there is always one valid object; after an interruption it has
`"interrupted": true`.

**Results.** `-o FILE` writes the result of one input. It is complete or not there; links are
followed, a file keeps its mode, pipes and devices are written into, `-o -` is stdout. Several
results need a folder, which is made and keeps the shape of a folder of inputs: `talk.mp3` becomes
`talk.txt`, and beside `talk.wav` it becomes `talk.mp3.txt`. A result that lies in that folder
already is not done again, so that the same command goes on after an interruption; `--again` does
all of them. The place is tried before the model is loaded. A result that cannot be saved after all
is printed instead.

**Terminals.** Control characters in answers and file names are written out, as `\x1b`; JSON and
files keep the true text. JSON is UTF-8 in every locale; other output uses the locale, with `\u4e2d`
for what it does not know. `NO_COLOR` and `TERM=dumb` are respected. Tables are wrapped to the
terminal, or to `COLUMNS`.

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
