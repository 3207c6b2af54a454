"""A video that does not fit into the context: how many of its frames would."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from ming_core.chat.prompt import Prompt
from ming_core.errors import MingError
from ming_core.media import Message, with_max_frames
from ming_core.model.seen import Seen, SeenMedia

TRIES = 5
"""How often a video is read again to find out."""


class Prepare(Protocol):
    """Makes the prompt of a conversation and opens the media that are not known yet."""

    def __call__(
        self, messages: Sequence[Message], *, known: SeenMedia
    ) -> tuple[Prompt, list[Seen]]: ...


def thin_out(
    messages: Sequence[Message],
    prompt: Prompt,
    seen: Sequence[Seen],
    limit: int,
    prepare: Prepare,
) -> str:
    """What to do about a prompt of more than `limit` tokens that holds a video, for the error."""
    frames = fitting_frames(messages, prompt, seen, limit, prepare)
    if frames is None:
        return "take fewer frames of the video, see VideoSampling(max_frames=...) and --max-frames"
    return (
        f"{frames} frames of its video fit, so ask for fewer with "
        f"VideoSampling(max_frames={frames}) or --max-frames {frames}"
    )


def fitting_frames(
    messages: Sequence[Message],
    prompt: Prompt,
    seen: Sequence[Seen],
    limit: int,
    prepare: Prepare,
) -> int | None:
    """A number of frames of each video with which the prompt has at most `limit` tokens.

    Fewer frames may be read at a higher resolution. So a guess, which takes the tokens of a frame
    for constant, is tried out and mended. None if no number was found, and for frames that the
    caller has chosen.
    """
    known = SeenMedia()
    known.keep(prompt.media, seen)
    for _ in range(TRIES):
        frames = guess_frames(prompt, seen, limit)
        if not frames:
            return None
        fewer = [with_max_frames(message, frames) for message in messages]
        if fewer == list(messages):
            return None
        try:
            prompt, seen = prepare(fewer, known=known)
        except MingError:  # the release cannot do with so few
            return None
        if len(prompt.input_ids) <= limit:
            return frames
    return None


def guess_frames(prompt: Prompt, seen: Sequence[Seen], limit: int) -> int:
    """Most frames of each video with which a prompt too long has at most `limit` tokens, or 0.

    Every temporal patch is taken to cost what the dearest one of its video costs now, its
    timestamp included.
    """
    videos: list[tuple[int, int, int]] = []  # temporal patches, frames in each, tokens of each
    for i, item in enumerate(seen):
        if item.seconds:
            starts = [run.start for run in prompt.runs if run.index == i]
            even = -(-item.tokens // len(item.seconds))
            cost = max((b - a for a, b in pairwise(starts)), default=even)
            videos.append((len(item.seconds), item.features.frames_per_patch, cost))
    surplus = len(prompt.input_ids) - limit
    for frames in range(max(patches * per for patches, per, _ in videos), 0, -1):
        left_out = sum(max(0, p - -(-frames // per)) * cost for p, per, cost in videos)
        if left_out >= surplus:
            return frames
    return 0
