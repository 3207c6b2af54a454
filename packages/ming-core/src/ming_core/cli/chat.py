"""`ming chat`: a conversation on the terminal, or with questions piped in line by line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import typer

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    InstructionsOption,
    ModelOption,
    QuietOption,
    ThinkOption,
    load_model,
    print_pieces,
    read_media,
)
from ming_core.cli.sampling import Sampled, sampling_options
from ming_core.cli.stdin import checked, stdin_lines
from ming_core.cli.terminal import said_notes, say, show
from ming_core.errors import BadConfig, MingError, UnknownName
from ming_core.media import Message, Part, as_medium, assistant, system, user
from ming_core.plugins import describe, get_plugins

HELP = """/image PATH  show a picture, sound or video with the next question
/say PATH    ask what a recording says
/reset       forget the conversation
/quit        leave (so does Ctrl-D)"""
EXAMPLES = {"/image": "/image scene.png", "/say": "/say question.wav"}
FORGETFUL = (
    "the conversation has outgrown the context of the model: from now on its oldest questions and "
    "answers are forgotten, those without media first; /reset begins a new one"
)
COMMANDS = ("/help", "/image", "/quit", "/reset", "/say")


@sampling_options("512, or 8192 with --think")
def chat(
    model: ModelOption = "nano",
    instructions: InstructionsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    think: ThinkOption = False,
    *,
    sampling: Sampled,
    quiet: QuietOption = False,
) -> None:
    """Talk with a model; it remembers what was said.

    Lines that begin with / are commands, see /help. If lines are piped in, a line that cannot be
    answered is reported, and the others are answered. Example: echo "hello" | ming chat
    """
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    from ming_core.chat.room import with_room
    from ming_core.engine.request import sampling_of

    budget = sampling_of(think, sampling).max_new_tokens  # type: ignore[arg-type]
    omni = load_model(model, device, dtype, quiet)
    if interactive and not quiet:
        print(_help(), file=sys.stderr)
    opening = [system(instructions)] if instructions else []
    messages: list[Message] = list(opening)
    shown: list[Part] = []
    failed = forgetful = False
    for line in _lines(interactive):
        try:
            line = checked(line)
            command, _, argument = line.partition(" ")
            if command == "/quit":
                break
            if command == "/reset":
                messages, shown = list(opening), []
            elif command == "/help":
                print(_help(), file=sys.stderr)
            elif command == "/image":
                shown.append(_medium(command, argument))
            elif command.startswith("/") and command != "/say":
                with said_notes():
                    given = _given(command, omni, argument.strip(), tuple(messages))
                if isinstance(given, str):
                    show(given)
                elif given is not None:
                    shown.append(given)
            elif line:
                asked = _medium(command, argument) if command == "/say" else line
                whole, shown = [*messages, user(*shown, asked)], []
                turn = with_room(omni, whole, budget, think)
                if len(turn) < len(whole) and not forgetful:
                    say(FORGETFUL)
                    forgetful = True
                with said_notes():
                    pieces = omni.chat(turn, stream=True, think=think, **sampling)
                    messages = [*turn, assistant(print_pieces(pieces, think, quiet))]
        except MingError as error:
            say(error)
            failed = True
    if failed and not interactive:
        raise typer.Exit(2)


def _help() -> str:
    """The commands, those of plugins included."""
    added = [f"/{entry.name:<11} {entry.summary}" for entry in get_plugins().chat_commands]
    return "\n".join([HELP, *added])


def _added(command: str) -> Any:
    """The function of a plugin behind a command. Raises UnknownName and MissingPlugin."""
    known = get_plugins().chat_commands
    if command.removeprefix("/") not in known:
        names = (f"/{name}" for name in known.names())
        raise UnknownName("chat command", command, (*COMMANDS, *names))
    return known[command.removeprefix("/")].load()


def _given(command: str, *arguments: Any) -> str | Part | None:
    """What a command of a plugin gives. Its errors do not end the conversation."""
    function = _added(command)
    try:
        given = function(*arguments)
        return given if given is None or isinstance(given, str) else as_medium(given)
    except MingError:
        raise
    except Exception as error:
        raise MingError(f"the command {command} of a plugin failed: {describe(error)}") from error


def _medium(command: str, argument: str) -> Part:
    """What a path names that somebody typed, perhaps in quotes."""
    path = argument.strip().strip("\"'")
    if path in ("", "-"):
        raise BadConfig(f"{command} needs the path of a file behind it, as in {EXAMPLES[command]}")
    return read_media(os.path.expanduser(path))


def _lines(interactive: bool) -> Iterator[str]:
    """Input lines until the end of input."""
    if not interactive:
        yield from stdin_lines()
        return
    with suppress(ImportError):
        import readline  # noqa: F401 - gives `input` line editing and history
    while True:
        try:
            yield input("> ")
        except EOFError:
            return
