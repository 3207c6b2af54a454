"""`ming transcribe`: sounds and videos, or folders of them, to text and subtitles."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    QuietOption,
    load_model,
    note,
    print_json,
)
from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Image, media_from_path

if TYPE_CHECKING:
    from ming_audio.transcripts import Transcript


class Format(StrEnum):
    txt = "txt"
    srt = "srt"
    vtt = "vtt"
    json = "json"


@dataclass(frozen=True)
class Job:
    """A file and where its text goes; None is stdout. name: below the folder that was given."""

    file: str
    name: Path
    target: Path | None = None


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
        typer.Option("--format", "-f", help="By default what the suffix of --out tells, or txt."),
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", "-l", help="As en or zh; else the model tells.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Text that came before, or that this is about.")
    ] = None,
    hotwords: Annotated[
        str | None,
        typer.Option(help="File of names and terms to listen for, one a line.", metavar="FILE"),
    ] = None,
    dialect: Annotated[str | None, typer.Option(help="As 上海.")] = None,
    domain: Annotated[str | None, typer.Option(help="As 'medicine'.")] = None,
    punctuated: Annotated[bool, typer.Option("--punctuated", help="Ask for punctuation.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Do files over whose text lies in the folder already.")
    ] = False,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest text of 30 s of sound in tokens.")
    ] = 512,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write down what is said.

    Of several files, those that cannot be read are reported, and the others are done.
    Example: ming transcribe talk.mp3 -o talk.srt --hotwords names.txt
    """
    words = _hotwords(hotwords)
    if format is None:
        suffix = Path(out or "").suffix.lower().removeprefix(".")
        format = next((known for known in Format if known == suffix), Format.txt)
    jobs = _with_targets(_jobs(files), files, out, format.value)
    # In a folder that is for many texts; one that was named is written again.
    folder = out is not None and Path(out).is_dir()
    done = {job for job in jobs if folder and not again and job.target and job.target.exists()}
    omni = None if len(done) == len(jobs) else load_model(model, device, dtype, quiet)
    watched = sys.stderr.isatty() and not quiet
    results: list[dict[str, Any]] = []
    failed = 0
    for job in jobs:
        about: dict[str, Any] = {"file": job.file}
        if job.target is not None:
            about["out"] = str(job.target)
        if omni is None or job in done:
            note(f"{job.target} is there already", quiet)
            results.append({**about, "skipped": True})
            continue
        start = time.perf_counter()
        try:
            transcript: Transcript = omni.transcribe(
                job.file,
                language,
                context,
                words,
                dialect=dialect,
                domain=domain,
                punctuated=punctuated,
                cut=format in (Format.srt, Format.vtt),
                progress=_show_progress if watched else None,
                max_new_tokens=max_new_tokens,
            )
        except BadMedia as error:
            if len(jobs) == 1:
                raise
            print(f"ming: {error}", file=sys.stderr)
            results.append({**about, "error": str(error)})
            failed += 1
            continue
        finally:
            if watched:
                _show_line("")
        seconds = time.perf_counter() - start
        results.append({**about, **transcript.to_dict()})
        if job.target is not None:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            transcript.save(job.target, format.value)
        elif not as_json:
            _print(transcript.written(format.value), job.file if len(jobs) > 1 else None)
        place = job.target or job.file
        note(f"{place}: {transcript.seconds:.1f} s of sound in {seconds:.1f} s", quiet)
        for remark in transcript.notes:
            print(f"ming: {job.file}: {remark}", file=sys.stderr)
    if as_json:
        print_json({"task": "transcribe", "model": model, "results": results})
    if failed:
        print(f"ming: {failed} of {len(jobs)} files could not be read", file=sys.stderr)
        raise typer.Exit(2)


def _hotwords(path: str | None) -> list[str]:
    """Lines of a UTF-8 file. Raises BadConfig."""
    if path is None:
        return []
    try:
        return Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadConfig(
            f"cannot read the hotwords in {path!r}: {reason}; give a text file with one a line"
        ) from error


def _jobs(files: Sequence[str]) -> list[Job]:
    """Every sound, those of a folder in name order. Raises BadMedia."""
    jobs: dict[str, Job] = {}
    for name in files:
        path = Path(name)
        if path.is_dir():
            found = [Job(str(file), file.relative_to(path)) for file in _sounds(path)]
            if not found:
                raise BadMedia(f"the folder {name!r} has no sound or video; check the path")
        elif path.exists():
            found = [Job(name, Path(path.name))]
        else:
            raise BadMedia(f"there is no sound file {name!r}; check the path")
        for job in found:
            jobs.setdefault(os.path.abspath(job.file), job)
    return list(jobs.values())


def _sounds(folder: Path) -> Iterator[Path]:
    """Files of a folder and those below it whose suffix is that of a sound or a video."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and not isinstance(media_from_path(path), Image):
            yield path


def _with_targets(
    jobs: Sequence[Job], files: Sequence[str], out: str | None, suffix: str
) -> list[Job]:
    """Where each text goes. A folder is made for several, or for what lies in a folder.

    `a.wav` and `a.mp3` keep their suffixes, as `a.wav.txt`. The names do not depend on what is
    there, so that another run finds them. Raises BadConfig.
    """
    if out is None:
        return list(jobs)
    single = len(files) == 1 and not Path(files[0]).is_dir()
    if single and not Path(out).is_dir():
        if not Path(out).parent.is_dir():
            raise BadConfig(f"cannot write {out!r}: there is no folder {str(Path(out).parent)!r}")
        return [Job(jobs[0].file, jobs[0].name, Path(out))]
    if Path(out).is_file() or (Path(out).suffix and not Path(out).is_dir()):
        raise BadConfig(f"{out!r} is one file, and there may be several texts; give a folder")
    Path(out).mkdir(parents=True, exist_ok=True)
    stems = Counter(job.name.with_suffix("") for job in jobs)
    targets: dict[Path, Job] = {}
    for job in jobs:
        shared = stems[job.name.with_suffix("")] > 1
        name = job.name.name if shared else job.name.stem
        target = Path(out) / job.name.with_name(f"{name}.{suffix}")
        if target in targets:
            raise BadConfig(
                f"the texts of {targets[target].file!r} and {job.file!r} would have one name, "
                f"{str(target)!r}; give the folder that holds both, or write them to two folders"
            )
        targets[target] = Job(job.file, job.name, target)
    return list(targets.values())


def _print(text: str, heading: str | None) -> None:
    if heading is not None:
        print(f"==> {heading} <==")
    print(text, end="" if heading is None else "\n", flush=True)


def _show_progress(done: float, total: float | None) -> None:
    of = "" if total is None else f" of {total / 60:.1f}"
    _show_line(f"{done / 60:.1f}{of} min")


def _show_line(text: str) -> None:
    """On stderr, to be written over by what comes next."""
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
