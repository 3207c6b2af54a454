"""Videos that do not fit into the context: how many of their frames would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ming_core.media import Frames, Media, Video
from ming_core.model.encoder import Smaller, Taken, item_seconds
from ming_vision.options import VideoSampling, sampling_of


def fewer_frames(media: Sequence[Taken], surplus: int) -> Smaller | None:
    """Propose videos with fewer frames, which use `surplus` tokens less. None without a video.

    The number of frames is a guess: it takes the tokens of a frame for constant, but fewer frames
    may be read at a higher resolution. `Frames` that the user has chosen stay as they are.
    """
    videos = [item for item in media if any(item_seconds(item.features))]
    if not videos:
        return None
    frames = guess_frames(videos, surplus)
    fewer = {item.part: with_max_frames(item.part, frames) for item in videos} if frames else {}
    return Smaller(
        parts={old: new for old, new in fewer.items() if old is not new},
        advice=f"{frames} frames of its video fit, so ask for fewer with "
        f"VideoSampling(max_frames={frames}) or --max-frames {frames}",
        otherwise="take fewer frames of the video, see VideoSampling(max_frames=...) and "
        "--max-frames",
    )


def guess_frames(videos: Sequence[Taken], surplus: int) -> int:
    """Highest number of frames for each video that saves `surplus` tokens in all; 0 if there is
    none.

    Each temporal patch counts as many tokens as the largest one of its video has now, with its
    timestamp.
    """
    costs: list[tuple[int, int, int]] = []  # temporal patches, frames in each, tokens of each
    for item in videos:
        patches = sum(map(len, item_seconds(item.features)))
        even = -(-sum(item.features.tokens) // patches)
        costs.append((patches, item.features.frames_per_patch, item.step or even))
    for frames in range(max(patches * per for patches, per, _ in costs), 0, -1):
        left_out = sum(max(0, p - -(-frames // per)) * cost for p, per, cost in costs)
        if left_out >= surplus:
            return frames
    return 0


def with_max_frames(part: Media, max_frames: int) -> Media:
    """A video with at most so many frames; `Frames` are chosen already."""
    if not isinstance(part, Video) or isinstance(part.source, Frames):
        return part
    sampling = sampling_of(part) or VideoSampling()
    frames = None if sampling.frames is None else min(sampling.frames, max_frames)
    least = min(max_frames, sampling.max_frames or max_frames)
    return replace(part, sampling=replace(sampling, frames=frames, max_frames=least))
