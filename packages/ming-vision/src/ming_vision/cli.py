"""The commands of the vision tasks: `ming describe`, `read`, `ground` and `click`."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ming_core.cli.batch import Shown, run_batch
from ming_core.cli.common import (
    BatchOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    QuietOption,
    ThinkOption,
    check_stdin,
    load_model,
    read_media,
    read_text,
    told,
)
from ming_core.cli.items import Item, check_format, find_items, with_targets
from ming_core.cli.sampling import Sampled, sampling_options
from ming_core.cli.terminal import note, print_json, said_notes, say, show
from ming_core.media import Image, Video
from ming_core.media.options import refuse
from ming_core.text import one_line
from ming_vision.options import FPS, MAX_FRAMES, VideoSampling

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.tasks import Result, Task
    from ming_vision.clicks import Action
    from ming_vision.grounding import Grounding


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
FpsOption = Annotated[float | None, typer.Option("--fps", min=0.001, help=FPS)]
FramesOption = Annotated[int | None, typer.Option("--max-frames", min=1, help=MAX_FRAMES)]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Also do files whose result is in the folder already.")
]


@sampling_options("512, or 8192 with --think")
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
    batch: BatchOption = 8,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    think: ThinkOption = False,
    *,
    sampling: Sampled,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what pictures and videos show.

    If one of several files cannot be read, it is reported, and the others are done.
    Example: ming describe scene.png --language zh
    """
    check_format(out, (".txt", ".md", ".json"))
    items = find_items(files, (Image, Video), "picture or video", frames=True)
    if Video not in (item.kind for item in items):
        refuse("videos", fps=fps, max_frames=max_frames)
    frames = VideoSampling(fps, max_frames) if fps or max_frames else None
    items = with_targets(items, out, ".txt")
    header = {"task": "describe", "model": model}

    def make(item: Item) -> Task:
        from ming_vision.tasks import Describe

        part = item.opened()
        part = replace(part, sampling=frames) if isinstance(part, Video) else part
        options = {"detail": detail.value, "language": language.value, "think": think}
        return Describe.of(part, **options, **sampling)

    run_batch(
        items,
        header,
        partial(load_model, model, device, dtype, quiet),
        make,
        lambda item, answer: _shown(item, answer, answer.stopped),
        batch=batch,
        out=out,
        again=again,
        as_json=as_json,
        quiet=quiet,
    )


@sampling_options("4096 for each page")
def read(
    files: FilesArgument,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="By default from the suffix of --out, or text."),
    ] = None,
    out: OutOption = None,
    again: AgainOption = False,
    batch: BatchOption = 8,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    think: ThinkOption = False,
    *,
    sampling: Sampled,
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
    header = {"task": "read", "model": model, "format": format.value}

    def make(item: Item) -> Task:
        from ming_vision.tasks import Read

        return Read.of(item.opened(), format=format.value, think=think, **sampling)

    run_batch(
        items,
        header,
        partial(load_model, model, device, dtype, quiet),
        make,
        lambda item, document: _shown(item, document, document.complete),
        batch=batch,
        out=out,
        again=again,
        as_json=as_json,
        quiet=quiet,
    )


@sampling_options("512, or 8192 with --think")
def ground(
    file: PictureArgument,
    expression: Annotated[
        str | None, typer.Argument(help="What to find; without it, a caption with boxes.")
    ] = None,
    out: DrawnOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    think: ThinkOption = False,
    *,
    sampling: Sampled,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find things in a picture and frame them.

    Prints one line for each box: left, top, right and bottom edge, in pixels of the picture. Exits
    with 1 if the answer has no box. Example: ming ground scene.png "red star" -o boxes.png
    """
    if expression is not None:
        check_stdin(file, expression)
        expression = read_text(expression)
    item = _picture(file, out)
    from ming_vision.tasks import Ground

    task = Ground.of(item.part, expression, think=think, **sampling)
    omni = load_model(model, device, dtype, quiet)
    found: Grounding = _run(omni, task, "ground", model, file, as_json)
    if not as_json:
        for box in found.boxes:
            edges = (f"{edge:.1f}" for edge in box.corners)
            show(" ".join((*edges, one_line(box.label))).rstrip())
    if not found.boxes:
        say(f"the answer has no box that can be read: {found.text!r}")
    _save(found, item.target, bool(found.boxes), quiet)


@sampling_options("512, or 8192 with --think")
def click(
    file: PictureArgument,
    instruction: Annotated[str, typer.Argument(help="What to click on; - reads it from stdin.")],
    history: Annotated[
        list[str] | None,
        typer.Option(help="An earlier action, such as 'click(x=0.5,y=0.1)'; repeatable."),
    ] = None,
    out: DrawnOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    think: ThinkOption = False,
    *,
    sampling: Sampled,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say where to click in a screenshot.

    Prints the action and its pixel. Exits with 1 if the answer has no action.
    Example: ming click page.png "the search bar" -o click.png
    """
    check_stdin(file, instruction)
    instruction = read_text(instruction)
    item = _picture(file, out)
    from ming_vision.tasks import Click

    task = Click.of(item.part, instruction, history or (), think=think, **sampling)
    omni = load_model(model, device, dtype, quiet)
    action: Action = _run(omni, task, "click", model, file, as_json)
    if action.parsed and not as_json:
        place = () if action.x is None else (action.x, action.y)
        show(" ".join(map(str, (action.kind, *place))))
    if not action.parsed:
        say(f"the answer has no action that can be read: {action.text!r}")
    _save(action, item.target, action.parsed, quiet)


def _run(omni: OmniModel, task: Task, name: str, model: str, file: str, as_json: bool) -> Any:
    """The result of a task about one picture, printed if JSON is wanted."""
    from ming_core.tasks import run

    with said_notes(file) as notes:
        result = run(omni, task)
        if as_json:
            about = {"task": name, "model": model, **told(omni), "file": file}
            remarks = {"notes": notes} if notes else {}
            print_json({**about, **result.to_dict(), **remarks})
    return result


def _picture(file: str, out: str | None) -> Item:
    """The picture, and where the marked one goes. Raises before a model is loaded for nothing."""
    part = read_media(file)
    name = part.path.name if part.path else "picture"
    (item,) = with_targets([Item(file, Path(name), part=part)], out, ".png")
    if item.target is not None:
        from ming_vision.drawing import check_picture_name

        check_picture_name(item.target)
    return item


def _shown(item: Item, result: Result, complete: bool) -> Shown:
    cut = f"the answer about {item.source!r} was cut off; allow more tokens with --max-new-tokens"
    values = result.to_dict()
    notes = () if complete or values.get("repeated") else (cut,)  # of a loop there is a note
    return Shown(f"{result}\n", values, result.save, notes)


def _save(result: Result, target: Path | None, useful: bool, quiet: bool) -> None:
    """Write the marked picture. Raises Exit with code 1 for an answer of no use.

    That is no error of the user, yet no success either.
    """
    if target is not None:
        note(f"wrote {result.save(target)}", quiet)
    if not useful:
        raise typer.Exit(1)
