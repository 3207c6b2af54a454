"""Writes docs/cli.md from the help texts: `python docs/generate_cli.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from ming_core.cli import build_app
from ming_core.plugins import get_plugins

INTRODUCTION = r"""# Command line

Only the answer goes to stdout. Progress, timings, notes and errors go to stderr.
`MING_DISABLE_PLUGINS=NAME,NAME` switches plugins off. `ming --install-completion` installs shell
completion.

| exit code | |
|---|---|
| 0 | success |
| 1 | `ming doctor` found a problem, or `ground` or `click` gave no readable box or action |
| 2 | wrong use, a bad file or a disk error, with one sentence; or one of several files failed |
| 130, 143 | stopped by Ctrl-C or SIGTERM; all results so far are kept |
| 141 | the reader of the output has ended, as with `\| head -1` |

**Inputs.** A medium is a path, a `file://` address, a pipe (`<(...)`, `/dev/fd/3`) or `-` for
standard input. If the question is `-`, its text is read from standard input, in UTF-8 or UTF-16,
with at most 4 million characters. Web addresses are not fetched.

**Several inputs** (`describe`, `read`, `transcribe`). In folders and their sub-folders, all files
with a suitable suffix are used, except hidden files. If an input cannot be read, it is reported on
stderr and in the `error` of its result, the others are done, and the exit code is 2. `--json`
always prints one valid object; after an interruption it has `"interrupted": true`.

**Results.** `-o FILE` writes the result of one input, completely or not at all. It follows links,
keeps the mode of an existing file, and writes into pipes and devices; `-o -` is stdout. Several
results need a folder, which is made if necessary and gets the same sub-folders as the input.
`talk.mp3` becomes `talk.txt`; if `talk.wav` is beside it, it becomes `talk.mp3.txt`. Results that
exist in this folder are skipped, so the same command resumes an interrupted one; `--again` does all
inputs again. The command checks the place of the result before it loads the model. If a result
still cannot be saved, it is printed.

**Terminals.** Control characters in answers and file names are shown as escapes such as `\x1b`;
JSON and files keep the true text. JSON is always UTF-8. Other output uses the encoding of the
locale, with escapes such as `\u4e2d` for other characters. `NO_COLOR` and `TERM=dumb` are
respected. Tables fit the width of the terminal, or `COLUMNS`.

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
