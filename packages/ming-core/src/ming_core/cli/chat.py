"""`ming chat`: a conversation on the terminal, or with questions piped in line by line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated

import typer

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    QuietOption,
    SeedOption,
    ThinkOption,
    TokensOption,
    load_model,
    print_pieces,
    read_media,
    token_budget,
)
from ming_core.errors import MingError, UnknownName
from ming_core.media import Message, Part, assistant, system, user

HELP = """/image PATH  show a picture, sound or video with the next question
/say PATH    ask what a recording says
/reset       forget the conversation
/quit        leave (so does Ctrl-D)"""
COMMANDS = ("/help", "/image", "/quit", "/reset", "/say")


def chat(
    model: ModelOption = "nano",
    instructions: Annotated[
        str | None, typer.Option("--system", help="Instructions for the whole conversation.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = None,
    max_new_tokens: TokensOption = None,
    think: ThinkOption = False,
    quiet: QuietOption = False,
) -> None:
    """Talk with a model; it remembers what was said.

    Lines starting with / are commands, see /help. Example: echo "hello" | ming chat
    """
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    budget = token_budget(max_new_tokens, think)
    omni = load_model(model, device, dtype, quiet)
    if interactive and not quiet:
        print(HELP, file=sys.stderr)
    opening = [system(instructions)] if instructions else []
    messages: list[Message] = list(opening)
    shown: list[Part] = []
    for line in _lines(interactive):
        try:
            command, _, argument = line.partition(" ")
            if command == "/quit":
                return
            if command == "/reset":
                messages, shown = list(opening), []
            elif command == "/help":
                print(HELP, file=sys.stderr)
            elif command == "/image":
                shown.append(_medium(argument))
            elif command.startswith("/") and command != "/say":
                raise UnknownName("chat command", command, COMMANDS)
            elif line:
                asked = _medium(argument) if command == "/say" else line
                turn = [*messages, user(*shown, asked)]
                pieces = omni.chat(turn, stream=True, think=think, max_new_tokens=budget, seed=seed)
                messages = [*turn, assistant(print_pieces(pieces, think, quiet))]
                shown = []
        except MingError as error:
            if not interactive:
                raise
            shown = []
            print(f"ming: {error}", file=sys.stderr)


def _medium(argument: str) -> Part:
    """What a path names that somebody typed, perhaps in quotes."""
    return read_media(argument.strip().strip("\"'"))


def _lines(interactive: bool) -> Iterator[str]:
    """Stripped input lines until the end of input."""
    if interactive:
        with suppress(ImportError):
            import readline  # noqa: F401 - gives `input` line editing and history
    while True:
        try:
            yield input("> " if interactive else "").strip()
        except EOFError:
            return
