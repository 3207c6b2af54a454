"""`ming transcribe`: sounds and videos, or folders of them, to text and subtitles."""

from __future__ import annotations

import codecs
import time
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ming_audio.options import read_channel
from ming_core.cli.batch import Shown, run_batch
from ming_core.cli.common import (
    BatchOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    QuietOption,
    check_stdin,
    load_model,
)
from ming_core.cli.items import Item, check_format, find_items, with_targets, without_doubles
from ming_core.cli.sampling import Sampled, sampling_options
from ming_core.cli.stdin import stdin_text
from ming_core.errors import BadConfig
from ming_core.media import Audio, Image, Video, media_from_path
from ming_core.media.files import MediaFile

if TYPE_CHECKING:
    from ming_audio.transcripts import Transcript
    from ming_core.api import OmniModel
    from ming_core.tasks import Task

MOST_HOTWORDS = 1 << 22
"""Bytes of a list of them."""


class Format(StrEnum):
    txt = "txt"
    srt = "srt"
    vtt = "vtt"
    json = "json"


@sampling_options("512 for each piece of 30 s")
def transcribe(
    files: Annotated[
        list[str], typer.Argument(help="Sounds, videos, or folders of them.", metavar="FILE...")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Write here; for several files or a folder, a folder."),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="By default the suffix of --out, or txt."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language", "-l", help="Such as en or zh; without it, the model recognises it."
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Text that came before, or that the sound is about.")
    ] = None,
    hotwords: Annotated[
        str | None,
        typer.Option(
            help="File of names and terms that may occur, one on each line; - for stdin.",
            metavar="FILE",
        ),
    ] = None,
    dialect: Annotated[str | None, typer.Option(help="Such as 上海.")] = None,
    domain: Annotated[str | None, typer.Option(help="The topic, such as 'medicine'.")] = None,
    punctuated: Annotated[bool, typer.Option("--punctuated", help="Ask for punctuation.")] = False,
    cut: Annotated[
        bool | None,
        typer.Option(help="Cut short sounds at pauses, too, or never; as subtitles they are cut."),
    ] = None,
    unsure: Annotated[
        bool, typer.Option("--unsure", help="Keep text that the model is not sure of.")
    ] = False,
    channel: Annotated[
        str,
        typer.Option(help="mix, the number of one channel from 0, or each."),
    ] = "mix",
    again: Annotated[
        bool, typer.Option("--again", help="Also do files whose result is in the folder already.")
    ] = False,
    batch: BatchOption = 8,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    *,
    sampling: Sampled,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write down what is said.

    If one of several files cannot be read, it is reported, and the others are done.
    Example: ming transcribe talk.mp3 -o talk.srt --hotwords names.txt
    """
    check_stdin(*files, hotwords or "")
    words = _words(stdin_text()) if hotwords == "-" else _hotwords(hotwords)
    heard = "each" if channel == "each" else read_channel(channel)
    if format is None:
        check_format(out, [f".{known}" for known in Format])
        suffix = Path(out or "").suffix.lower().removeprefix(".")
        format = next((known for known in Format if known == suffix), Format.txt)
    items = without_doubles(find_items(files, (Audio, Video), "sound or video", look=_sound))
    items = with_targets(items, out, f".{format.value}")
    if cut is None and format in (Format.srt, Format.vtt):
        cut = True
    last = time.perf_counter()

    def make(item: Item) -> Task:
        from ming_audio.tasks import Transcribe

        return Transcribe.of(
            item.opened(),
            language,
            context,
            words,
            dialect=dialect,
            domain=domain,
            punctuated=punctuated,
            cut=cut,
            unsure=unsure,
            channel=heard,
            **sampling,
        )

    def start() -> OmniModel:
        nonlocal last
        omni = load_model(model, device, dtype, quiet)
        last = time.perf_counter()
        return omni

    def shown(item: Item, transcript: Transcript) -> Shown:
        nonlocal last
        before, last = last, time.perf_counter()
        return Shown(
            transcript.written(format.value),
            transcript.to_dict(),
            partial(transcript.save, format=format.value),
            transcript.notes,
            f"{transcript.seconds:.1f} s of sound in {last - before:.1f} s",
        )

    run_batch(
        items,
        {"task": "transcribe", "model": model},
        start,
        make,
        shown,
        batch=batch,
        far=_minutes,
        out=out,
        again=again,
        as_json=as_json,
        quiet=quiet,
    )


def _hotwords(path: str | None) -> list[str]:
    """Lines of a text file, UTF-8 or UTF-16 with its mark. Raises BadConfig."""
    if path is None:
        return []
    reason = None
    try:
        uri = path.lower().startswith("file:/")
        place = MediaFile.find(path, "text").path if uri else None
        with (place or Path(path)).open("rb") as file:
            data = file.read(MOST_HOTWORDS + 1)  # a device or a pipe may not end
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig")
        if len(data) > MOST_HOTWORDS:
            reason = f"it has more than {MOST_HOTWORDS >> 20} MB"
        elif "\0" in text:
            reason = "it is no text"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        decoded = isinstance(error, UnicodeDecodeError)
        reason = "it is not UTF-8" if decoded else getattr(error, "strerror", None) or error
        text = ""
    if reason:
        raise BadConfig(
            f"cannot read the hotwords in {path!r}: {reason}; give a text file with one a line"
        )
    return _words(text)


def _words(text: str) -> list[str]:
    """Its lines, without what cannot be seen."""
    return ["".join(filter(str.isprintable, line)) for line in text.expandtabs(1).splitlines()]


def _sound(path: str) -> Image | Audio | Video:
    """What a path names; whatever it looks like, its sound is asked for."""
    part = media_from_path(path)
    file = MediaFile.find(part.source, "sound")
    if not file.folder:
        file.open().close()
    return part


def _minutes(done: float, total: float | None) -> str:
    of = "" if total is None else f" of {total / 60:.1f}"
    return f"{done / 60:.1f}{of} min"
