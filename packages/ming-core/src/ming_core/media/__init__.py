"""Pictures, sounds, videos and messages, and the files that hold them; nothing here decodes."""

from __future__ import annotations

from typing import Any

from ming_core.media.parts import (
    Audio,
    Channel,
    Frames,
    Image,
    Media,
    Message,
    Part,
    Role,
    Text,
    Video,
    as_medium,
    as_part,
    assistant,
    checked_channel,
    is_sound_pair,
    kind_of_name,
    media_from_path,
    names_medium,
    system,
    user,
    with_sound,
)

__all__ = [
    "Audio",
    "Channel",
    "Frames",
    "Image",
    "Media",
    "Message",
    "Part",
    "Role",
    "Text",
    "Video",
    "as_medium",
    "as_part",
    "assistant",
    "checked_channel",
    "is_sound_pair",
    "kind_of_name",
    "media_from_path",
    "names_medium",
    "system",
    "user",
    "with_sound",
]


def __getattr__(name: str) -> Any:
    """Options of media, such as `VideoSampling`, come from the package that reads the media."""
    from ming_core.plugins.directory import find_options

    found = None if name.startswith("_") else find_options(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
