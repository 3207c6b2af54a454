"""Which sound is heard, as users say it on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ming_core.errors import BadConfig
from ming_core.media import Audio, Channel, Video
from ming_core.media.options import option, refuse


@dataclass(frozen=True)
class Hearing:
    """Which sounds of the media are heard.

    Attributes:
        sound: Also use the sound of videos.
        channel: "mix", or the number of a channel from 0, as text. None is "mix".
    """

    sound: bool = option("Also use the sound of videos.", False)
    channel: str | None = option("Channel of a sound: mix (default), or a number from 0.")

    def put(self, parts: Sequence[Any]) -> list[Any]:
        """The parts with this said in each sound and video. Raises BadConfig without one."""
        if self.sound:
            if not any(isinstance(part, Video) for part in parts):
                refuse("videos", sound=self.sound)
            parts = [replace(p, sound=True) if isinstance(p, Video) else p for p in parts]
        if self.channel is None:
            return list(parts)
        if not any(map(_is_heard, parts)):
            refuse("sounds", channel=self.channel)
        channel = read_channel(self.channel)
        return [replace(p, channel=channel) if _is_heard(p) else p for p in parts]


def read_channel(given: str) -> Channel:
    """What an option says. Raises BadConfig."""
    if given != "mix" and not (given.isascii() and given.isdecimal()):
        raise BadConfig(f"--channel is {given!r}; it must be mix or a number, from 0 for the first")
    return "mix" if given == "mix" else int(given)


def _is_heard(part: Any) -> bool:
    return isinstance(part, Audio) or (isinstance(part, Video) and part.sound)
