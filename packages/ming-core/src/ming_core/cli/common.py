"""Options that commands share, spelled once, and small helpers for their output."""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ming_core.errors import BadMedia
from ming_core.media import Audio, Media, Part, Video, VideoSampling, media_from_path
from ming_core.thinking import THINKING_TOKENS, split_stream

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.registry import Entry

Medium = TypeVar("Medium", bound=Media)

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Preset (see `ming models`) or checkpoint folder.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")]
SeedOption = Annotated[int | None, typer.Option(help="Makes sampled answers repeatable.")]
TokensOption = Annotated[
    int | None,
    typer.Option(min=1, help="Longest answer in tokens: 256, or 8192 with --think."),
]
FpsOption = Annotated[
    float | None, typer.Option("--fps", min=0.001, help="Frames of a video per second to look at.")
]
FramesOption = Annotated[
    int | None, typer.Option("--max-frames", min=1, help="Most frames of a video to look at.")
]
SoundOption = Annotated[bool, typer.Option("--sound", help="Also listen to the videos.")]
ThinkOption = Annotated[
    bool, typer.Option("--think", help="Reason first; the reasoning goes to stderr.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress or timings.")]


def read_text(argument: str) -> str:
    """The argument itself, or standard input for `-`."""
    return sys.stdin.read().strip() if argument == "-" else argument


def read_question(argument: str) -> str | Audio:
    """What is asked: the text of an argument, or a recording if it is the path of a sound."""
    if argument != "-" and not any(map(str.isspace, argument)):
        part = media_from_path(argument)
        if isinstance(part, Audio):
            return _present(part)
    return read_text(argument)


def token_budget(given: int | None, think: bool) -> int:
    """The longest answer of a command: what was asked for, or what the help promises."""
    return given or (THINKING_TOKENS if think else 256)


def read_media(
    path: str, fps: float | None = None, max_frames: int | None = None, sound: bool = False
) -> Part:
    """The media part of a path on the command line; refused before a model is loaded for it.

    A folder is a video of the pictures in it. The other arguments are about videos.
    """
    part = _present(media_from_path(path))
    if not isinstance(part, Video):
        return part
    sampling = VideoSampling(fps, max_frames) if fps or max_frames else None
    return replace(part, sampling=sampling, sound=sound)


def _present(part: Medium) -> Medium:
    """The medium unless its file is missing."""
    if part.path is not None and not part.path.exists():
        raise BadMedia(
            f"cannot read {str(part.path)!r}: there is no such file; give the path of a picture, "
            "sound or video"
        )
    return part


def load_model(name: str, device: str, dtype: str, quiet: bool) -> OmniModel:
    """`ming_core.load`, timed on stderr."""
    from ming_core.api import load

    start = time.perf_counter()
    model = load(name, device=device, dtype=dtype)
    note(f"loaded {name} in {time.perf_counter() - start:.1f} s", quiet)
    return model


def note(message: str, quiet: bool) -> None:
    """Progress for a person who watches: on stderr, and only on a terminal."""
    if not quiet and sys.stderr.isatty():
        print(message, file=sys.stderr)


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
        print(text, end="", flush=True)
    print()
    return answer


def print_reasoning(text: str, quiet: bool) -> None:
    """Reasoning goes to stderr, dimmed on a terminal."""
    if text and not quiet:
        dimmed = f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() else text
        print(dimmed, end="", file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One object on stdout; characters beyond ASCII stay readable."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def entry_rows(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """What a list of registered things tells of each: its name, its package, and a summary."""
    return [
        {"name": entry.name, "package": entry.plugin, "summary": entry.summary} for entry in entries
    ]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells in aligned columns; Chinese characters count as two cells of a terminal."""
    widths = [max(map(_width, column)) for column in zip(*rows)]
    for row in rows:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths)]
        print("  ".join(cells).rstrip())


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def megabytes(count: int) -> str:
    """Bytes as `12.3 MB` (10^6 bytes)."""
    return f"{count / 1e6:.1f} MB"
