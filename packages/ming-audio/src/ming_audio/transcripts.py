"""What was said and when, and the files that hold it: plain text, subtitles, JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ming_core.errors import BadConfig
from ming_core.output import write_file
from ming_core.text import json_text

TranscriptFormat = Literal["txt", "srt", "vtt", "json"]
FORMATS: tuple[TranscriptFormat, ...] = get_args(TranscriptFormat)


@dataclass(frozen=True)
class Segment:
    """What was said from one second to another. language: as in `Transcript`."""

    start: float
    end: float
    text: str
    language: str | None = None


@dataclass(frozen=True)
class Transcript:
    """What `transcribe` gives.

    language: code such as "en", or the name of a dialect; that of most of the speech; None if the
    model did not tell. seconds: length of the sound. notes: what a reader of the text should know,
    such as that nobody spoke.
    """

    text: str
    language: str | None
    segments: tuple[Segment, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        values = asdict(self)
        for segment in values["segments"]:
            segment.update(start=round(segment["start"], 3), end=round(segment["end"], 3))
        values["seconds"] = round(self.seconds, 3)
        return values

    def to_txt(self) -> str:
        return self.text + "\n"

    def to_srt(self) -> str:
        """SubRip subtitles, a cue for each segment with words."""
        cues = enumerate(self._cues(","), 1)
        return "\n".join(f"{number}\n{times}\n{text}\n" for number, (times, text) in cues)

    def to_vtt(self) -> str:
        """WebVTT subtitles, a cue for each segment with words."""
        cues = [
            f"{times}\n{text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}\n"
            for times, text in self._cues(".")
        ]
        return "\n".join(["WEBVTT\n", *cues])

    def to_json(self) -> str:
        return json_text(self.to_dict()) + "\n"

    def written(self, format: TranscriptFormat) -> str:
        """The content of a file of this format. Raises BadConfig for another one."""
        if format not in FORMATS:
            raise BadConfig(f"format is {format!r}; use {' or '.join(map(repr, FORMATS))}")
        return getattr(self, f"to_{format}")()

    def save(self, path: str | Path, format: TranscriptFormat | None = None) -> Path:
        """Write UTF-8, complete or not at all. Raises CannotWrite.

        format: None is what the suffix of the path tells, text for an unknown one.
        """
        return write_file(path, self.written(format or format_of(path)))

    def _cues(self, point: str) -> Iterator[tuple[str, str]]:
        """Times and text; no line is empty, and nothing looks like times."""
        for segment in self.segments:
            text = " ".join(segment.text.split()).replace("-->", "→")
            if text:
                yield f"{clock(segment.start, point)} --> {clock(segment.end, point)}", text


def format_of(path: str | Path) -> TranscriptFormat:
    """The format that the suffix of a path tells; text for an unknown one."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    known: dict[str, TranscriptFormat] = {format: format for format in FORMATS}
    return known.get(suffix, "txt")


def clock(seconds: float, point: str = ".") -> str:
    """`01:02:03.456`."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{milliseconds:03}"
