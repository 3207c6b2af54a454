"""Which videos with fewer frames are proposed where a prompt is too long."""

from __future__ import annotations

import torch

from ming_core.media import Frames, Image, Media, Video
from ming_core.model.encoder import Features, Taken
from ming_vision import VideoSampling
from ming_vision.shrinking import fewer_frames, with_max_frames


def taken(part: Media, patches: int, tokens: int, step: int | None = None) -> Taken:
    seconds = [tuple(float(t) for t in range(patches))] if patches else []
    grid = torch.tensor([[max(patches, 1), 2, 2]])
    return Taken(part, Features("image", {}, grid, [tokens], seconds, 2), step)


def test_limits_of_frames_only_get_narrower() -> None:
    given_to = [
        None,
        VideoSampling(fps=1.0),
        VideoSampling(max_frames=3),
        VideoSampling(frames=9, method="uniform"),
    ]
    limited = [with_max_frames(Video("a.mp4", sampling), 5) for sampling in given_to]
    assert [part.sampling for part in limited if isinstance(part, Video)] == [
        VideoSampling(max_frames=5),
        VideoSampling(fps=1.0, max_frames=5),
        VideoSampling(max_frames=3),
        VideoSampling(max_frames=5, frames=5, method="uniform"),
    ]


def test_pictures_cannot_be_smaller() -> None:
    assert fewer_frames([taken(Image("a.png"), 0, 50)], surplus=10) is None


def test_the_longest_video_loses_first() -> None:
    long, short = Video("long.mp4"), Video("short.mp4")
    found = fewer_frames([taken(long, 10, 100), taken(short, 4, 40)], surplus=35)
    assert found is not None
    limits = {old: new.sampling for old, new in found.parts.items() if isinstance(new, Video)}
    assert limits == {long: VideoSampling(max_frames=12), short: VideoSampling(max_frames=12)}
    assert "VideoSampling(max_frames=12) or --max-frames 12" in found.advice


def test_timestamps_between_patches_are_left_out_with_them() -> None:
    clip = Video("a.mp4")
    found = fewer_frames([taken(clip, 10, 100, step=20)], surplus=35)
    assert found is not None
    assert "16 frames of its video fit" in found.advice


def test_what_cannot_be_thinned_out_enough_is_not_proposed() -> None:
    chosen = Video(Frames([0] * 20, list(range(20))))
    for part, surplus in ((chosen, 20), (Video("a.mp4"), 101)):
        found = fewer_frames([taken(part, 10, 100)], surplus)
        assert found is not None
        assert not found.parts
        assert found.otherwise.startswith("take fewer frames of the video")
