"""The commands of the vision tasks: `ming describe`, `read`, `ground` and `click`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    FpsOption,
    FramesOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SeedOption,
    load_model,
    note,
    print_json,
    read_media,
    read_text,
)
from ming_core.errors import BadConfig

if TYPE_CHECKING:
    from ming_core.generate import SamplingOptions


class Detail(StrEnum):
    full = "full"
    short = "short"


class Language(StrEnum):
    en = "en"
    zh = "zh"


class Format(StrEnum):
    text = "text"
    markdown = "markdown"
    table = "table"


FilesArgument = Annotated[list[str], typer.Argument(help="Pictures.", metavar="FILE...")]
PictureArgument = Annotated[str, typer.Argument(help="The picture.", metavar="FILE")]
OutOption = Annotated[
    str | None,
    typer.Option("--out", "-o", help="Write the result here; for several files a folder."),
]
DrawnOption = Annotated[
    str | None, typer.Option("--out", "-o", help="Write the marked picture here (or a .json).")
]
LengthOption = Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")]


class Result(Protocol):
    """What the tasks give."""

    def to_dict(self) -> dict[str, Any]: ...

    def save(self, path: str | Path) -> Path: ...


def describe(
    files: Annotated[list[str], typer.Argument(help="Pictures or videos.", metavar="FILE...")],
    detail: Annotated[Detail, typer.Option(help="How much to say.")] = Detail.full,
    language: Annotated[Language, typer.Option("--language", "-l")] = Language.en,
    fps: FpsOption = None,
    max_frames: FramesOption = None,
    out: OutOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = None,
    max_new_tokens: LengthOption = 512,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what pictures and videos show.

    Example: ming describe scene.png --language zh
    """
    media = [read_media(path, fps, max_frames) for path in files]
    targets = _targets(files, out, ".txt")
    omni = load_model(model, device, dtype, quiet)
    sampling: SamplingOptions = {"max_new_tokens": max_new_tokens, "seed": seed}
    results = []
    for path, part, target in zip(files, media, targets, strict=True):
        answer = omni.describe(part, detail=detail.value, language=language.value, **sampling)
        results.append({"file": path, **answer.to_dict()})
        _show(answer, path, len(files) > 1, target, as_json, quiet)
        _warn_if_cut(answer.stopped, path, max_new_tokens)
    if as_json:
        print_json({"task": "describe", "model": model, "results": results})


def read(
    files: FilesArgument,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="By default what the suffix of --out tells, or text."),
    ] = None,
    out: OutOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = None,
    max_new_tokens: LengthOption = 4096,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read text from pictures, as text, markdown or tables (csv).

    Example: ming read page.png -o page.md
    """
    media = [read_media(path) for path in files]
    suffix = Path(out or "").suffix.lower()
    if format is None:
        format = {".md": Format.markdown, ".csv": Format.table}.get(suffix, Format.text)
    endings = {Format.text: ".txt", Format.markdown: ".md", Format.table: ".csv"}
    targets = _targets(files, out, endings[format])
    omni = load_model(model, device, dtype, quiet)
    sampling: SamplingOptions = {"max_new_tokens": max_new_tokens, "seed": seed}
    results = []
    for path, part, target in zip(files, media, targets, strict=True):
        document = omni.read(part, format=format.value, **sampling)
        results.append({"file": path, **document.to_dict()})
        _show(document, path, len(files) > 1, target, as_json, quiet)
        _warn_if_cut(document.complete, path, max_new_tokens)
    if as_json:
        print_json({"task": "read", "model": model, "format": format.value, "results": results})


def ground(
    file: PictureArgument,
    expression: Annotated[
        str | None, typer.Argument(help="What to find; without it, a caption with boxes.")
    ] = None,
    out: DrawnOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = None,
    max_new_tokens: LengthOption = 512,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find what words name, and frame it.

    Prints a box in pixels of the picture a line: left, top, right, bottom. Exits with 1 if the
    answer has no box. Example: ming ground scene.png "red star" -o boxes.png
    """
    part = read_media(file)
    if expression is not None:
        expression = _words(expression, "ground", "red star")
    (target,) = _targets([file], out, ".png")
    omni = load_model(model, device, dtype, quiet)
    found = omni.ground(part, expression, max_new_tokens=max_new_tokens, seed=seed)
    if as_json:
        print_json({"task": "ground", "model": model, "file": file, **found.to_dict()})
    else:
        for box in found.boxes:
            print(*(f"{edge:.1f}" for edge in box.corners), box.label)
    _save(found, target, quiet)
    if not found.boxes:
        _fail(f"the answer has no box that can be read: {found.text!r}")


def click(
    file: PictureArgument,
    instruction: Annotated[str, typer.Argument(help="What to click on; - reads it from stdin.")],
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--after", help="An earlier action, such as 'click(x=0.5,y=0.1)'; repeatable."
        ),
    ] = None,
    out: DrawnOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = None,
    max_new_tokens: LengthOption = 512,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say where to click in a screenshot.

    Prints the action and its pixel. Exits with 1 if the answer has no action.
    Example: ming click page.png "the search bar" -o click.png
    """
    part = read_media(file)
    instruction = _words(read_text(instruction), "click", "the search bar")
    (target,) = _targets([file], out, ".png")
    omni = load_model(model, device, dtype, quiet)
    sampling: SamplingOptions = {"max_new_tokens": max_new_tokens, "seed": seed}
    action = omni.click(part, instruction, history or (), **sampling)
    if as_json:
        print_json({"task": "click", "model": model, "file": file, **action.to_dict()})
    elif action.parsed:
        place = () if action.x is None else (action.x, action.y)
        print(action.kind, *place)
    _save(action, target, quiet)
    if not action.parsed:
        _fail(f"the answer has no action that can be read: {action.text!r}")


def _words(text: str, command: str, example: str) -> str:
    """Refused here already, before a model is loaded for nothing."""
    if not text.strip():
        raise BadConfig(
            f"ming {command} needs words that say what to look for, such as {example!r}"
        )
    return text


def _targets(files: Sequence[str], out: str | None, suffix: str) -> list[Path | None]:
    """Where the result of each file goes; several need a folder, which is made.

    Files of the same name in different folders get a number.
    """
    if out is None:
        return [None] * len(files)
    if len(files) == 1 and not Path(out).is_dir():
        if not Path(out).parent.is_dir():
            raise BadConfig(f"cannot write {out!r}: there is no folder {str(Path(out).parent)!r}")
        return [Path(out)]
    if Path(out).suffix and not Path(out).is_dir():
        raise BadConfig(f"{out!r} is one file, and there are {len(files)} results; give a folder")
    Path(out).mkdir(parents=True, exist_ok=True)
    targets: list[Path | None] = []
    for path in files:
        target, number = Path(out) / f"{Path(path).stem}{suffix}", 1
        while target in targets:
            number += 1
            target = target.with_name(f"{Path(path).stem}-{number}{suffix}")
        targets.append(target)
    return targets


def _show(
    result: Result, path: str, several: bool, target: Path | None, as_json: bool, quiet: bool
) -> None:
    """A result as soon as it is there: in its file, or on stdout under the name of its picture."""
    if target is None and not as_json:
        print(f"==> {path} <==\n{result}\n" if several else result, flush=True)
    _save(result, target, quiet)


def _save(result: Result, target: Path | None, quiet: bool) -> None:
    if target is not None:
        note(f"wrote {result.save(target)}", quiet)


def _warn_if_cut(complete: bool, path: str, budget: int) -> None:
    if not complete:
        print(
            f"ming: the answer about {path!r} was cut off; allow more than --max-new-tokens "
            f"{budget}",
            file=sys.stderr,
        )


def _fail(message: str) -> None:
    """The model's answer is of no use: no error of the user, yet no success either."""
    print(f"ming: {message}", file=sys.stderr)
    raise typer.Exit(1)
