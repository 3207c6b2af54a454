"""What a message is made of: text, images, sounds and videos, still undecoded.

A source is kept as given (a path, bytes, an array, a PIL picture, a tensor); only the processor
of the modality opens it, so that this module imports no library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ming_core.errors import BadConfig, BadMedia
from ming_core.mediafile import MediaFile, MediaSource
from ming_core.sniffing import Kind
from ming_core.text import one_line

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True)
class Text:
    """A piece of plain text."""

    text: str


@dataclass(frozen=True, eq=False)
class Media:
    """Base of the media parts. `source`: path (str or Path), bytes, array or PIL object.

    Compared by identity, since arrays have no truth value.
    """

    source: Any

    @property
    def path(self) -> Path | None:
        """Where the media lies on disk; None for a source held in memory."""
        return Path(self.source) if isinstance(self.source, str | Path) else None

    def __str__(self) -> str:
        """How messages and errors name it: the path, or what kind of object it is."""
        if isinstance(self.source, MediaFile):
            return self.source.name
        if self.path is not None:
            return one_line(str(self.path))
        return f"{type(self).__name__.lower()} in memory ({type(self.source).__name__})"


class Image(Media):
    """One still picture."""


Channel = int | Literal["mix"]
"""Which channel of a sound is heard: its number from 0, or all of them mixed."""


def checked_channel(channel: Channel) -> Channel:
    """Raises BadConfig unless it is "mix" or a number from 0."""
    number = isinstance(channel, int) and not isinstance(channel, bool) and channel >= 0
    if not number and channel != "mix":
        raise BadConfig(
            f"channel of a sound is {channel!r}; it must be 'mix' or a number, from 0 for the first"
        )
    return channel


@dataclass(frozen=True, eq=False)
class Audio(Media):
    """One sound recording.

    purpose: to "listen" to what it says, or to "transcribe" it; Lite 1.0 has an encoder for each.
    channel: "mix" for all channels, or the number of one, from 0. Raises BadConfig for another.
    """

    purpose: Literal["listen", "transcribe"] = "listen"
    channel: Channel = "mix"

    def __post_init__(self) -> None:
        checked_channel(self.channel)


@dataclass(frozen=True)
class VideoSampling:
    """Which frames of a video are read; None everywhere is the rule of the model's release.

    fps: frames per second to aim at. max_frames: at most so many. frames: exactly so many, whatever
    the length. method: "release" spreads them as the model was trained, "uniform" takes the middle
    of as many equal intervals. Raises BadConfig for numbers that ask for no frame at all.
    """

    fps: float | None = None
    max_frames: int | None = None
    frames: int | None = None
    method: Literal["release", "uniform"] = "release"

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise BadConfig(f"fps of a video is {self.fps}; it must be above 0")
        for name in ("max_frames", "frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadConfig(f"{name} of a video is {value}; it must be at least 1")
        if self.method not in ("release", "uniform"):
            raise BadConfig(f"method of a video is {self.method!r}; known: 'release', 'uniform'")


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames that somebody has chosen already, with the time of each in seconds.

    They are all used. Raises ValueError unless there are as many times as pictures.
    """

    pictures: Sequence[Any]
    seconds: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.seconds):
            raise ValueError(f"{len(self.pictures)} frames and {len(self.seconds)} times")


@dataclass(frozen=True, eq=False)
class Video(Media):
    """One video. `source`: path of a file or of a folder of frames, a sequence of pictures, an
    array [T, H, W, 3] uint8, `Frames`, or what a model has made of it already (`Seen`).

    sampling: which frames; None is the release's own rule. sound: also listen to it, which only a
    file can offer; raises BadMedia otherwise. channel: of that sound, as in `Audio`.
    """

    sampling: VideoSampling | None = None
    sound: bool = False
    channel: Channel = "mix"

    def __post_init__(self) -> None:
        checked_channel(self.channel)
        if self.sound and not isinstance(self.source, MediaSource):
            raise BadMedia(f"{self} has no sound; give the path of a video file, or sound=False")

    @cached_property
    def track(self) -> Audio:
        """Its sound as a medium of its own: always the same object, as memories go by identity."""
        return Audio(self.source, channel=self.channel)


Part = Text | Image | Audio | Video


def as_part(value: Any) -> Part:
    """A plain `str` means text; anything else that is no part yet is a medium (`as_medium`)."""
    if isinstance(value, str):
        return Text(value)
    return value if isinstance(value, Part) else as_medium(value)


def as_medium(value: Any) -> Image | Audio | Video:
    """A picture, sound or video from what people have at hand.

    A path, a `file://` or `data:` URI, bytes and an open binary file are told by what they hold.
    PIL pictures and arrays uint8 [H, W] or [H, W, 1 | 3 | 4] are pictures; arrays [T, H, W, 3] and
    lists of pictures are videos; other arrays [N] and pairs (array, samples per second) are sounds.
    Raises TypeError for anything else, and BadMedia for a web address.
    """
    if isinstance(value, Image | Audio | Video):
        return value
    if isinstance(value, MediaSource):
        return media_from_path(value)
    if isinstance(value, Frames):
        return Video(value)
    if isinstance(value, tuple) and len(value) == 2 and _shape(value[0]) and not _shape(value[1]):
        return Audio(value)
    if isinstance(value, list | tuple) and value and all(map(_is_picture, value)):
        return Video(value)
    if callable(read := getattr(value, "read", None)) and isinstance(data := read(), bytes):
        return media_from_path(data)
    if _is_picture(value):
        return Image(value)
    if len(shape := _shape(value)) in (1, 4):
        return Audio(value) if len(shape) == 1 else Video(value)
    raise TypeError(
        "a message part must be str, Text, Image, Audio or Video, or a path, bytes, PIL picture or "
        f"array, not {type(value).__name__}{list(shape) if shape else ''}"
    )


def names_medium(text: str) -> bool:
    """Whether a text that stands where a medium may stand is a path or an address.

    It is one if it begins like an address, if there is such a file, or if it is a single word that
    ends like the name of a picture, sound or video.
    """
    if "\n" in text or (len(text) > MOST_PATH and text[:5].lower() != "data:"):
        return False
    if text.lower().startswith(_ADDRESSES):
        return True
    try:
        there = bool(text) and os.path.exists(text)
    except ValueError:  # a null byte
        return False
    return there or (kind_of_name(text) is not None and not any(map(str.isspace, text)))


_ADDRESSES = ("data:", "file:/", "http://", "https://")

MOST_PATH = 4096
"""Characters of a path."""


def _shape(value: Any) -> tuple[int, ...]:
    """Of an array or a tensor; () for anything else, without importing their libraries."""
    shape = getattr(value, "shape", None)
    return tuple(shape) if shape is not None and hasattr(value, "dtype") else ()


def _is_picture(value: Any) -> bool:
    if type(value).__module__.startswith("PIL."):
        return hasattr(value, "convert")
    shape = _shape(value)
    whole = "uint8" in str(getattr(value, "dtype", ""))
    return whole and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. Parts keep their order; a plain `str` among them becomes Text."""

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}, not {self.role!r}")
        parts = (self.parts,) if isinstance(self.parts, str) else self.parts
        object.__setattr__(self, "parts", tuple(as_part(part) for part in parts))

    @property
    def text(self) -> str:
        """Its text parts joined without a separator."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    def __str__(self) -> str:
        return self.text


def user(*parts: Any) -> Message:
    """What a person says or shows: texts, and whatever `as_medium` takes but for strings."""
    return Message("user", tuple(as_part(part) for part in parts))


def assistant(*parts: str | Part) -> Message:
    """What the model answered."""
    return Message("assistant", tuple(as_part(part) for part in parts))


def system(text: str) -> Message:
    """Instructions that hold for the whole conversation."""
    return Message("system", (Text(text),))


def with_sound(message: Message) -> Message:
    """The message with the sound of each video that asks for it directly behind the video."""
    parts: list[Part] = []
    for part in message.parts:
        parts.append(part)
        if isinstance(part, Video) and part.sound:
            parts.append(part.track)
    return replace(message, parts=tuple(parts))


def with_max_frames(message: Message, max_frames: int) -> Message:
    """The message with at most so many frames of each video; `Frames` are chosen already."""

    def limited(part: Part) -> Part:
        if not isinstance(part, Video) or isinstance(part.source, Frames):
            return part
        sampling = part.sampling or VideoSampling()
        frames = None if sampling.frames is None else min(sampling.frames, max_frames)
        least = min(max_frames, sampling.max_frames or max_frames)
        return replace(part, sampling=replace(sampling, frames=frames, max_frames=least))

    return replace(message, parts=tuple(limited(part) for part in message.parts))


_SUFFIXES: dict[type[Image] | type[Audio] | type[Video], str] = {
    Image: ".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .tif .tiff .avif .jp2 .ppm .pgm .pbm .pnm",
    Audio: ".wav .flac .mp3 .mp2 .ogg .oga .opus .spx .m4a .m4b .aac .aif .aiff .aifc .wma .amr "
    ".ac3 .eac3 .au .snd .caf .w64 .wv .tta .ape .mka",
    Video: ".mp4 .mkv .mov .webm .avi .m4v .3gp .3g2 .ts .mts .m2ts .mpg .mpeg .vob .wmv .asf .flv "
    ".ogv .ivf .y4m",
}
_KINDS: dict[Kind, type[Image] | type[Audio] | type[Video]] = {
    "image": Image,
    "audio": Audio,
    "video": Video,
}


def kind_of_name(path: str | Path) -> type[Image] | type[Audio] | type[Video] | None:
    """What the suffix of a name says; for lists of files, of which not each can be opened."""
    suffix = Path(path).suffix.lower()
    return next((kind for kind, known in _SUFFIXES.items() if suffix in known.split()), None)


def media_from_path(source: MediaSource) -> Image | Audio | Video:
    """A media part chosen by what the file holds; a folder is a video of its pictures.

    The suffix decides where the content does not tell or cannot be read, and what has no known one
    is tried as a picture. A pipe is read here. Raises BadMedia for a web address and such a pipe.
    """
    file = MediaFile.find(source, "media")
    if file.folder:
        return Video(source)
    kind = None
    with suppress(BadMedia):  # who opens it to read it explains what is wrong
        kind = file.content()
    found = _KINDS[kind] if kind else kind_of_name(file.path or "") or Image
    if isinstance(source, bytes | bytearray | memoryview):
        return found(source)
    if file.data is not None:
        return found(file)
    return found(str(file.path) if isinstance(source, str) else file.path)
