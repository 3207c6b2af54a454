"""Which frames of a video a release looks at, when, and within which pixel budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ming_core.errors import BadMedia
from ming_vision.options import VideoSampling

LISTED_FPS = 2.0
"""Frames per second that a folder or a list of frames without times is taken to have."""

MAX_SAMPLED = 2048
"""Most frames of one video that become patches, whatever is asked for."""

Count = Callable[[int, float, float, int], int]
Spread = Callable[[int, int], list[int]]


@dataclass(frozen=True)
class Plan:
    """indices: frames to look at, ascending. seconds: the time that is said of each of them."""

    indices: list[int]
    seconds: list[float]


@dataclass(frozen=True)
class VideoRule:
    """How a release samples a video and sizes its frames.

    count: (frames in all, frames per second, `fps`, `max_frames`) -> how many are looked at.
    spread: which ones, from (frames in all, how many).
    even_times: the k-th frame is said to be at k / (rate of the sampled frames), its own time
    otherwise.
    fps: most frames per second. max_frames, max_listed: most frames of a file, of a list of frames.
    min_pixels, max_pixels, total_pixels: budget of a frame, and of half of all frames together.
    bounded: max_pixels holds however few frames there are.
    """

    count: Count
    spread: Spread
    even_times: bool
    max_frames: int
    max_listed: int
    min_pixels: int
    max_pixels: int
    total_pixels: int
    bounded: bool
    fps: float = 2.0

    def plan(
        self,
        total: int,
        fps: float,
        sampling: VideoSampling | None = None,
        listed: bool = False,
        own_times: bool = False,
    ) -> Plan:
        """What to look at of `total` frames at `fps` per second.

        listed: they are a list of frames and not a file. own_times: say of each frame the time at
        which it is shown even if the release says another one (variable frame rate). Of a video
        shorter than `sampling.frames` all frames are taken. Raises BadMedia for too many frames.
        """
        wish = sampling or VideoSampling()
        most = wish.max_frames or (self.max_listed if listed else self.max_frames)
        if wish.frames is not None:
            count = wish.frames
        elif wish.fps is not None:
            count = int(min(most, total / fps * wish.fps + 0.5))
        elif listed:
            count = min(most, listed_count(total, fps, self.fps, most))
        else:
            count = min(most, self.count(total, fps, self.fps, most))
        count = max(1, min(count, total))
        check_sampled(count)
        uniform = wish.method == "uniform"
        indices = (middles if uniform else self.spread)(total, count)
        if self.even_times and not (uniform or listed or own_times):
            rate = count / total * fps
            return Plan(indices, [k / rate for k in range(count)])
        return Plan(indices, [index / fps for index in indices])

    def pixels(self, count: int) -> tuple[int, int]:
        """Fewest and most pixels of a frame when `count` are looked at."""
        share = self.total_pixels / count * 2
        if self.bounded:
            share = min(self.max_pixels, share)
        return self.min_pixels, int(max(share, int(self.min_pixels * 1.05)))


def check_any(count: int, name: str) -> None:
    """Raises BadMedia for a video of no frames."""
    if not count:
        raise BadMedia(f"{name} has no frames; give at least one")


def check_sampled(count: int) -> None:
    """Raises BadMedia for more frames of one video than MAX_SAMPLED."""
    if count > MAX_SAMPLED:
        raise BadMedia(
            f"{count} frames of one video are more than the {MAX_SAMPLED} allowed; lower fps, "
            "frames or max_frames"
        )


def lite_count(
    total: int,
    fps: float,
    rate: float = 2.0,
    most: int = 128,
    least: int = 4,
    frames: int | None = None,
) -> int:
    """Frames that Lite looks at: even, `rate` per second for clips longer than 5 s, all otherwise.

    frames: this many instead, rounded to even. Clips of fewer than 4 frames, which the release
    refuses, keep what they have.
    """
    if frames is not None:
        return min(total, round(frames / 2) * 2)
    effective = lite_effective_total(total, fps, rate)
    wanted = max(min(effective, most // 2 * 2), math.ceil(least / 2) * 2)
    return min(wanted // 2 * 2, effective)


def lite_effective_total(total: int, fps: float, rate: float = 2.0) -> int:
    """Frames that Lite chooses the number from: `rate` per second of clips longer than 5 s."""
    return int(total / fps * rate) if fps > rate and total / fps > 5 else total


def flash_count(total: int, fps: float, rate: float = 2.0, most: int = 170) -> int:
    """Frames that Flash looks at: `rate` per second, halves rounded up, at least one."""
    return max(1, min(most, int(total / fps * min(rate, fps) + 0.5)))


def listed_count(
    total: int,
    fps: float = LISTED_FPS,
    rate: float = 2.0,
    most: int = 256,
    frames: int | None = None,
) -> int:
    """Frames taken of a list of frames: an even number from 4 on, at most `most` or all of them.

    The release counts so, too, but then uses all frames. Lists of fewer than 4 are kept.
    """
    if frames is not None:
        return min(total, round(frames / 2) * 2)
    most = min(most, total) // 2 * 2
    return min(total, int(min(max(total / fps * rate, 4), max(most, 4))) // 2 * 2)


def ends(total: int, count: int) -> list[int]:
    """`count` evenly spaced indices with the first and the last, truncated to whole ones."""
    if count == 1:
        return [0]
    step = (total - 1) / (count - 1)
    return [int(k * step) for k in range(count - 1)] + [total - 1]


def middles(total: int, count: int) -> list[int]:
    """The middle of each of `count` equal intervals of whole indices."""
    bounds = [int(k * (total / count)) for k in range(count)] + [total]
    return [(low + high - 1) // 2 for low, high in pairwise(bounds)]


def patch_times(seconds: Sequence[float], depth: int) -> list[float]:
    """Time of each temporal patch: the mean of its `depth` frames, the last one repeated."""
    padded = [*seconds, *[seconds[-1]] * (-len(seconds) % depth)]
    return [sum(padded[i : i + depth]) / depth for i in range(0, len(padded), depth)]


LITE = VideoRule(
    count=lite_count,
    spread=middles,
    even_times=False,
    max_frames=128,
    max_listed=128,
    min_pixels=128 * 28 * 28,
    max_pixels=768 * 28 * 28,
    total_pixels=9216 * 28 * 28,
    bounded=True,
)
"""Lite 1.0 and 1.5. Their reader spreads `sequence` unless told `uniform`; their results, and what
their readme asks for, are `uniform`, which is the rule here."""

FLASH = VideoRule(
    count=flash_count,
    spread=ends,
    even_times=True,
    max_frames=170,
    max_listed=256,
    min_pixels=128 * 32 * 32,
    max_pixels=96 * 128 * 32 * 32,
    total_pixels=96 * 128 * 32 * 32,
    bounded=False,
)
"""Flash, first version of its reader (its default)."""
