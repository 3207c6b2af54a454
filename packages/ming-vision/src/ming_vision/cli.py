"""The commands of the vision tasks: `ming describe`, `read`, `ground` and `click`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ming_core.cli.batch import Outcome, Result, Tell, Work, run_batch
from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    FpsOption,
    FramesOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SeedOption,
    check_stdin,
    check_video_options,
    load_model,
    read_media,
    read_text,
    told,
)
from ming_core.cli.items import Item, check_format, find_items, with_targets
from ming_core.cli.terminal import note, print_json, said_notes, say, show
from ming_core.errors import BadConfig
from ming_core.media import Image, Video
from ming_core.text import is_blank, one_line

if TYPE_CHECKING:
    from ming_core.engine.sampling import SamplingOptions


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


FilesArgument = Annotated[
    list[str], typer.Argument(help="Pictures, or folders of them.", metavar="FILE...")
]
PictureArgument = Annotated[str, typer.Argument(help="The picture.", metavar="FILE")]
OutOption = Annotated[
    str | None,
    typer.Option("--out", "-o", help="Write the result here; for several files a folder."),
]
DrawnOption = Annotated[
    str | None, typer.Option("--out", "-o", help="Write the marked picture here (or a .json).")
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Also do files whose result is in the folder already.")
]
LengthOption = Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")]


def describe(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, videos, or folders; one of nothing but pictures is a video.",
            metavar="FILE...",
        ),
    ],
    detail: Annotated[Detail, typer.Option(help="How much to say.")] = Detail.full,
    language: Annotated[Language, typer.Option("--language", "-l")] = Language.en,
    fps: FpsOption = None,
    max_frames: FramesOption = None,
    out: OutOption = None,
    again: AgainOption = False,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = None,
    max_new_tokens: LengthOption = 512,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what pictures and videos show.

    If one of several files cannot be read, it is reported, and the others are done.
    Example: ming describe scene.png --language zh
    """
    check_format(out, (".txt", ".md", ".json"))
    items = find_items(files, (Image, Video), "picture or video", frames=True)
    check_video_options((item.kind for item in items), fps=fps, max_frames=max_frames)
    items = with_targets(items, out, ".txt")
    sampling: SamplingOptions = {"max_new_tokens": max_new_tokens, "seed": seed}
    options = {"detail": detail.value, "language": language.value, **sampling}
    header = {"task": "describe", "model": model}

    def start() -> Work:
        omni = load_model(model, device, dtype, quiet)
        header.update(told(omni))

        def work(item: Item, tell: Tell | None) -> Outcome:
            answer = omni.describe(item.opened(fps, max_frames), **options)
            return _outcome(answer, answer.stopped, item, max_new_tokens)

        return work

    run_batch(items, header, start, out=out, again=again, as_json=as_json, quiet=quiet)


def read(
    files: FilesArgument,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="By default from the suffix of --out, or text."),
    ] = None,
    out: OutOption = None,
    again: AgainOption = False,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = None,
    max_new_tokens: LengthOption = 4096,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read text from pictures, as text, markdown or tables (csv).

    If one of several files cannot be read, it is reported, and the others are done.
    Example: ming read page.png -o page.md
    """
    if format is None:
        check_format(out, (".txt", ".md", ".csv", ".json"))
        suffix = Path(out or "").suffix.lower()
        format = {".md": Format.markdown, ".csv": Format.table}.get(suffix, Format.text)
    endings = {Format.text: ".txt", Format.markdown: ".md", Format.table: ".csv"}
    items = with_targets(find_items(files, (Image,), "picture"), out, endings[format])
    options = {"format": format.value, "max_new_tokens": max_new_tokens, "seed": seed}
    header = {"task": "read", "model": model, "format": format.value}

    def start() -> Work:
        omni = load_model(model, device, dtype, quiet)
        header.update(told(omni))

        def work(item: Item, tell: Tell | None) -> Outcome:
            document = omni.read(item.opened(), **options)
            return _outcome(document, document.complete, item, max_new_tokens)

        return work

    run_batch(items, header, start, out=out, again=again, as_json=as_json, quiet=quiet)


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
    """Find things in a picture and frame them.

    Prints a box in pixels of the picture a line: left, top, right, bottom. Exits with 1 if the
    answer has no box. Example: ming ground scene.png "red star" -o boxes.png
    """
    if expression is not None:
        check_stdin(file, expression)
        expression = _words(read_text(expression), "ground", "red star")
    item = _picture(file, out)
    omni = load_model(model, device, dtype, quiet)
    with said_notes(file) as notes:
        found = omni.ground(item.part, expression, max_new_tokens=max_new_tokens, seed=seed)
        if as_json:
            _print_json("ground", model, file, found, notes, told(omni))
        else:
            for box in found.boxes:
                edges = (f"{edge:.1f}" for edge in box.corners)
                show(" ".join((*edges, one_line(box.label))).rstrip())
    if not found.boxes:
        say(f"the answer has no box that can be read: {found.text!r}")
    _save(found, item.target, bool(found.boxes), quiet)


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
    check_stdin(file, instruction)
    instruction = _words(read_text(instruction), "click", "the search bar")
    item = _picture(file, out)
    omni = load_model(model, device, dtype, quiet)
    sampling: SamplingOptions = {"max_new_tokens": max_new_tokens, "seed": seed}
    with said_notes(file) as notes:
        action = omni.click(item.part, instruction, history or (), **sampling)
        if as_json:
            _print_json("click", model, file, action, notes, told(omni))
        elif action.parsed:
            place = () if action.x is None else (action.x, action.y)
            show(" ".join(map(str, (action.kind, *place))))
    if not action.parsed:
        say(f"the answer has no action that can be read: {action.text!r}")
    _save(action, item.target, action.parsed, quiet)


def _words(text: str, command: str, example: str) -> str:
    """Refused here already, before a model is loaded for nothing."""
    if is_blank(text):
        raise BadConfig(
            f"ming {command} needs words that say what to look for, such as {example!r}"
        )
    return text


def _picture(file: str, out: str | None) -> Item:
    """The picture, and where the marked one goes. Raises before a model is loaded for nothing."""
    part = read_media(file)
    name = part.path.name if part.path else "picture"
    (item,) = with_targets([Item(file, Path(name), part=part)], out, ".png")
    if item.target is not None:
        from ming_vision.drawing import check_picture_name

        check_picture_name(item.target)
    return item


def _outcome(result: Result, complete: bool, item: Item, budget: int) -> Outcome:
    cut = f"the answer about {item.source!r} was cut off; allow more than --max-new-tokens {budget}"
    values = result.to_dict()
    notes = () if complete or values.get("repeated") else (cut,)  # of a loop there is a note
    return Outcome(f"{result}\n", values, result.save, notes)


def _print_json(
    task: str, model: str, file: str, result: Result, notes: list[str], knows: dict[str, str]
) -> None:
    remarks = {"notes": notes} if notes else {}
    about = {"task": task, "model": model, **knows, "file": file}
    print_json({**about, **result.to_dict(), **remarks})


def _save(result: Result, target: Path | None, useful: bool, quiet: bool) -> None:
    """Write the marked picture. Raises Exit with code 1 for an answer of no use.

    That is no error of the user, yet no success either.
    """
    if target is not None:
        note(f"wrote {result.save(target)}", quiet)
    if not useful:
        raise typer.Exit(1)
