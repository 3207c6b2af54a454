"""The result of `transcribe`, and the files that can hold it: plain text, subtitles, JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ming_audio.subtitles import Cue, cues
from ming_core.errors import BadConfig
from ming_core.output import write_file
from ming_core.text import json_text

TranscriptFormat = Literal["txt", "srt", "vtt", "json"]
FORMATS: tuple[TranscriptFormat, ...] = get_args(TranscriptFormat)


@dataclass(frozen=True)
class Segment:
    """A piece of speech.

    Attributes:
        start: Its start in seconds.
        end: Its end in seconds.
        text: What was said.
        language: As in `Transcript`.
        channel: The number of its channel, if each channel was transcribed by itself.
        confidence: Mean probability of the tokens of the answer, 0 to 1.
    """

    start: float
    end: float
    text: str
    language: str | None = None
    channel: int | None = None
    confidence: float = field(default=1.0, compare=False)

    @property
    def line(self) -> str:
        """The text in one line. If there are several channels, the channel stands before it."""
        text = " ".join(self.text.split())
        return f"[{self.channel}] {text}" if text and self.channel is not None else text


@dataclass(frozen=True)
class Transcript:
    """The result of `transcribe`.

    Attributes:
        text: All that was said.
        language: Language of most of the speech, as a code such as "en" or the name of a dialect;
            None if the model did not tell.
        segments: The pieces with their times.
        seconds: Length of the sound.
        notes: What a reader should know, for example that no speech was heard.
    """

    text: str
    language: str | None
    segments: tuple[Segment, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """All fields as values for JSON."""
        values = asdict(self)
        for segment in values["segments"]:
            for key, digits in {"start": 3, "end": 3, "confidence": 4}.items():
                segment[key] = round(segment[key], digits)
            if segment["channel"] is None:
                del segment["channel"]
        values["seconds"] = round(self.seconds, 3)
        return values

    def to_txt(self) -> str:
        return self.text + "\n"

    def to_srt(self) -> str:
        """SubRip subtitles. A segment becomes one cue, or several if it is long."""
        blocks = (
            f"{number}\n{_times(cue, ',')}\n" + "".join(f"{line}\n" for line in cue.lines)
            for number, cue in enumerate(cues(self.segments), 1)
        )
        return "\n".join(blocks)

    def to_vtt(self) -> str:
        """WebVTT subtitles, with the same cues as `to_srt`."""
        blocks = [
            f"{_times(cue, '.')}\n" + "".join(f"{_escaped(line)}\n" for line in cue.lines)
            for cue in cues(self.segments)
        ]
        return "\n".join(["WEBVTT\n", *blocks])

    def to_json(self) -> str:
        return json_text(self.to_dict()) + "\n"

    def written(self, format: TranscriptFormat) -> str:
        """The content of a file in this format. Raises BadConfig for an unknown format."""
        if format not in FORMATS:
            raise BadConfig(f"format is {format!r}; use {' or '.join(map(repr, FORMATS))}")
        return getattr(self, f"to_{format}")()

    def save(self, path: str | Path, format: TranscriptFormat | None = None) -> Path:
        """Write the transcript, completely or not at all. Raises CannotWrite.

        format: None uses the suffix of the path; an unknown suffix means plain text.
        """
        return write_file(path, self.written(format or format_of(path)))


def joined(channels: Sequence[Transcript]) -> Transcript:
    """One transcript of those of each channel, in order of time.

    Its text has a line for each segment.
    """
    found = [
        replace(segment, channel=channel)
        for channel, transcript in enumerate(channels)
        for segment in transcript.segments
    ]
    found.sort(key=lambda segment: segment.start)
    notes = [
        f"{note} in channel {channel}"
        for channel, transcript in enumerate(channels)
        for note in transcript.notes
    ]
    text = "\n".join(segment.line for segment in found if segment.line)
    seconds = max(transcript.seconds for transcript in channels)
    return Transcript(text, main_language(found), tuple(found), seconds, tuple(notes))


def main_language(segments: Iterable[Segment]) -> str | None:
    """That of most of the speech; None if no segment tells one."""
    spoken: Counter[str] = Counter()
    for segment in segments:
        if segment.language is not None and segment.text:
            spoken[segment.language] += round(1000 * (segment.end - segment.start))
    return spoken.most_common(1)[0][0] if spoken else None


def _times(cue: Cue, point: str) -> str:
    return f"{clock(cue.start, point)} --> {clock(cue.end, point)}"


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


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
