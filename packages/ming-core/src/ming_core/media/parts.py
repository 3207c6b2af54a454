"""The parts of a message: text, pictures, sounds and videos, not yet decoded.

A part keeps its source as it was given (a path, bytes, an array, a PIL picture, a tensor). Only the
processor of the modality opens it, so this module imports no media library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from ming_core.errors import BadConfig, BadMedia
from ming_core.media.files import MediaFile, MediaSource
from ming_core.modalities import KINDS
from ming_core.text import one_line

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True)
class Text:
    """A piece of plain text."""

    text: str


@dataclass(frozen=True, eq=False)
class Media:
    """Base of all media. `source`: a path, a URI, bytes, an array or a PIL picture.

    Two media are equal only if they are the same object.
    """

    kind: ClassVar[str]
    source: Any

    @property
    def modality(self) -> str:
        """Whose encoder reads it: "image" or "audio"."""
        return KINDS[self.kind].modality

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
        return f"{self.kind} in memory ({type(self.source).__name__})"


class Image(Media):
    """One still picture. `source`: a path, URI, bytes, PIL picture or uint8 array [H, W, 3]."""

    kind = "image"


Channel = int | Literal["mix"]
"""Which channel of a sound is heard: its number, from 0, or "mix" for all channels together."""


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
    """One sound. `source`: a path, a URI, bytes, an array [N] at 16 kHz or a pair (array, rate).

    Attributes:
        purpose: What the model should do with the sound: "listen" (answer questions about it) or
            "transcribe". Some encoders hear a sound differently for each purpose.
        channel: "mix" for all channels together, or the number of one channel, from 0.

    Raises BadConfig for any other channel.
    """

    kind = "audio"
    purpose: str = "listen"
    channel: Channel = "mix"

    def __post_init__(self) -> None:
        checked_channel(self.channel)


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames that you have chosen yourself, with the time of each in seconds. All of them are used.

    Raises ValueError unless there are as many times as pictures.
    """

    pictures: Sequence[Any]
    seconds: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.seconds):
            raise ValueError(f"{len(self.pictures)} frames and {len(self.seconds)} times")


@dataclass(frozen=True, eq=False)
class Video(Media):
    """One video.

    `source`: path of a file or of a folder of frames, bytes, a list of pictures, a uint8 array
    [T, H, W, 3], or `Frames`.

    Attributes:
        sampling: Which frames are used: a `VideoSampling` of the package that reads videos. None is
            the rule of the model's release.
        sound: Also give the sound of the video to the model. Raises BadMedia if the source is not
            a file.
        channel: Channel of this sound, as in `Audio`.
    """

    kind = "video"
    sampling: Any = None
    sound: bool = False
    channel: Channel = "mix"

    def __post_init__(self) -> None:
        checked_channel(self.channel)
        if self.sound and not isinstance(self.source, MediaSource):
            raise BadMedia(f"{self} has no sound; give the path of a video file, or sound=False")

    @cached_property
    def track(self) -> Audio:
        """The sound of this video. It is always the same object, because caches compare objects."""
        return Audio(self.source, channel=self.channel)


Part = Text | Image | Audio | Video


def as_part(value: Any) -> Part:
    """A message part: a `str` becomes Text, and anything else becomes a medium (`as_medium`)."""
    if isinstance(value, str):
        return Text(value)
    return value if isinstance(value, Part) else as_medium(value)


def as_medium(value: Any) -> Image | Audio | Video:
    """Make a picture, sound or video of a value of another type.

    - For a path, a `file://` or `data:` URI, bytes or an open binary file, the content decides.
    - PIL pictures and uint8 arrays [H, W] or [H, W, 1 | 3 | 4] become pictures.
    - Arrays [T, H, W, 3] and lists of pictures become videos.
    - Other arrays [N] and pairs (array, samples per second) become sounds.

    Raises TypeError for anything else, and BadMedia for a web address.
    """
    if isinstance(value, Image | Audio | Video):
        return value
    if isinstance(value, MediaSource):
        return media_from_path(value)
    if isinstance(value, Frames):
        return Video(value)
    if is_sound_pair(value):
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
        "array (of a picture uint8 [height, width, 3]), not "
        f"{type(value).__name__}{list(shape) if shape else ''}"
    )


def is_sound_pair(value: Any) -> bool:
    """Whether it is a sound as a pair (array, samples per second)."""
    pair = isinstance(value, tuple) and len(value) == 2
    return pair and bool(_shape(value[0])) and not _shape(value[1])


def names_medium(text: str) -> bool:
    """Whether a string is a path or an address, and not text.

    It is one if it begins like an address, if such a file exists, or if it is a single word with
    the suffix of a picture, sound or video.
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
    """One turn of a conversation. Parts keep their order; a `str` among them becomes Text."""

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
    """A turn of the user: texts, and everything that `as_medium` takes. A string is always text."""
    return Message("user", tuple(as_part(part) for part in parts))


def assistant(*parts: str | Part) -> Message:
    """A turn of the model: its answer."""
    return Message("assistant", tuple(as_part(part) for part in parts))


def system(text: str) -> Message:
    """Instructions for the whole conversation."""
    return Message("system", (Text(text),))


def with_sound(message: Message) -> Message:
    """Put the sound of each video with `sound=True` behind the video."""
    parts: list[Part] = []
    for part in message.parts:
        parts.append(part)
        if isinstance(part, Video) and part.sound:
            parts.append(part.track)
    return replace(message, parts=tuple(parts))


_CLASSES: dict[str, type[Image] | type[Audio] | type[Video]] = {
    part.kind: part for part in (Image, Audio, Video)
}


def kind_of_name(path: str | Path) -> type[Image] | type[Audio] | type[Video] | None:
    """The class of medium that the suffix of a name stands for; None for an unknown suffix.

    It is for long lists of files, where opening each file would take too long.
    """
    suffix = Path(path).suffix.lower()
    return next((_CLASSES[k.name] for k in KINDS.values() if suffix in k.suffixes), None)


def media_from_path(source: MediaSource) -> Image | Audio | Video:
    """The medium in a file. The content decides whether it is a picture, a sound or a video.

    A folder is a video of its pictures. If the content does not tell, the suffix decides. A file
    without a known suffix is an `Image`. A pipe is read here. Raises BadMedia for a web address,
    and for a pipe that cannot be read or does not end.
    """
    file = MediaFile.find(source, "media")
    if file.folder:
        return Video(source)
    kind = None
    with suppress(BadMedia):  # who opens it to read it explains what is wrong
        kind = file.content()
    found = _CLASSES[kind] if kind else kind_of_name(file.path or "") or Image
    if isinstance(source, bytes | bytearray | memoryview):
        return found(source)
    if file.data is not None:
        return found(file)
    return found(str(file.path) if isinstance(source, str) else file.path)
