"""Options that commands share, spelled once, and small helpers for their output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ming_core.chat.thinking import split_stream
from ming_core.cli.stdin import stdin_text
from ming_core.cli.terminal import note, say, show, styled
from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Audio, Image, Media, Video, media_from_path
from ming_core.media.files import MediaFile
from ming_core.notes import collected_notes
from ming_core.text import is_blank, printable, valid

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.plugins.registry import Entry

Medium = TypeVar("Medium", bound=Media)

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Preset (see `ming models`) or checkpoint folder.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")]
InstructionsOption = Annotated[
    str | None, typer.Option(help="Instructions that replace the system text.")
]
ThinkOption = Annotated[
    bool, typer.Option("--think", help="Reason first; the reasoning goes to stderr.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
BatchOption = Annotated[int, typer.Option(min=1, help="How many answers are written together.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress or timings.")]


def plain_app(add_completion: bool = False, **settings: Any) -> typer.Typer:
    """A program without rich, which would double the start-up time and is not inherited."""
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=add_completion,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
        **settings,
    )


def read_text(argument: str) -> str:
    """The argument itself, or standard input for `-`. Raises BadConfig for what is no text."""
    return stdin_text() if argument == "-" else valid(argument)


def read_question(argument: str) -> str | Audio:
    """What is asked: the text of an argument, or a recording if it is the path of a sound.

    Raises BadConfig for an empty question.
    """
    if argument != "-" and argument.strip() and not any(map(str.isspace, argument)):
        part = media_from_path(argument)
        if isinstance(part, Audio):
            return _present(part)
    question = read_text(argument)
    if is_blank(question):
        raise BadConfig("the question is empty; write it in quotes, or pipe it in with -")
    return question


def check_stdin(*arguments: str) -> None:
    """Raises BadConfig if more than one argument is `-`: standard input is read once."""
    if arguments.count("-") > 1:
        raise BadConfig("standard input can be read once only; give just one argument as -")


def read_media(path: str) -> Image | Audio | Video:
    """The media part of a path on the command line; refused before a model is loaded for it.

    A folder is a video of the pictures in it.
    """
    return _present(media_from_path(path))


def _present(part: Medium) -> Medium:
    """The medium unless its file is missing, or may not be read."""
    if part.path is not None and not os.path.exists(part.path):
        raise BadMedia(
            f"cannot read {str(part.path)!r}: there is no such file; give the path of a picture, "
            "sound or video"
        )
    if part.path is not None and not part.path.is_dir():
        MediaFile.find(part.path, part.kind).open().close()
    return part


def load_model(name: str, device: str, dtype: str, quiet: bool) -> OmniModel:
    """`ming_core.load`, timed on stderr."""
    from ming_core.api import load

    start = time.perf_counter()
    with collected_notes() as notes:
        model = load(name, device=device, dtype=dtype)
    for sentence in () if quiet else notes:
        say(sentence)
    note(f"loaded {name} in {time.perf_counter() - start:.1f} s", quiet)
    return model


def told(model: OmniModel) -> dict[str, str]:
    """What JSON says about what a small model knows; nothing for one that does not tell."""
    knowledge = getattr(model, "knowledge", None)
    return {} if knowledge is None else {"knows": knowledge.summary}


def print_pieces(pieces: Iterable[str], think: bool, quiet: bool) -> str:
    """Print an answer while it is written, with `think` its reasoning apart.

    Returns the answer without reasoning.
    """
    reasoning, answer = "", ""
    for thinking, text in split_stream(pieces) if think else ((False, text) for text in pieces):
        if thinking:
            reasoning = text
            print_reasoning(text, quiet)
            continue
        if think and not answer:  # blank lines stand between reasoning and answer
            text = text.lstrip()
        if text and reasoning:
            print_reasoning("" if reasoning.endswith("\n") else "\n", quiet)
            reasoning = ""
        answer += text
        show(text, end="")
    show("")
    return answer


def print_reasoning(text: str, quiet: bool) -> None:
    """Reasoning goes to stderr, dimmed on a terminal."""
    if text and not quiet:
        text = printable(text)
        dimmed = f"\x1b[2m{text}\x1b[0m" if styled(sys.stderr) else text
        print(dimmed, end="", file=sys.stderr, flush=True)


def entry_rows(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """What a list of registered things tells of each: its name, its package, and a summary."""
    return [
        {"name": entry.name, "package": entry.plugin, "summary": entry.summary} for entry in entries
    ]


def megabytes(count: int) -> str:
    """Bytes as `12.3 MB` (10^6 bytes)."""
    return f"{count / 1e6:.1f} MB"
