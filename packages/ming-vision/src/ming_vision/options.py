"""Which frames of a video are used, as users say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal

from ming_core.errors import BadConfig
from ming_core.media import Video
from ming_core.media.options import option, refuse

FPS = "Frames per second of a video."
MAX_FRAMES = "Highest number of frames of a video."


@dataclass(frozen=True)
class VideoSampling:
    """Which frames of a video are used. None always means the rule of the model's release.

    Attributes:
        fps: Frames per second.
        max_frames: Highest number of frames.
        frames: Exact number of frames.
        method: "release" spreads the frames as in the training of the model. "uniform" cuts the
            video into equal intervals and takes the middle frame of each.

    Raises BadConfig for values that give no frame.
    """

    fps: float | None = option(FPS, least=0.001)
    max_frames: int | None = option(MAX_FRAMES, least=1)
    frames: int | None = None
    method: Literal["release", "uniform"] = "release"

    def __post_init__(self) -> None:
        rate = self.fps
        if rate is not None and not (isinstance(rate, Real) and 0 < float(rate) < float("inf")):
            raise BadConfig(f"fps of a video is {rate!r}; it must be above 0")
        for name in ("max_frames", "frames"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Integral) and int(value) >= 1):
                raise BadConfig(f"{name} of a video is {value!r}; it must be at least 1")
        if self.method not in ("release", "uniform"):
            raise BadConfig(f"method of a video is {self.method!r}; known: 'release', 'uniform'")

    def put(self, parts: Sequence[Any]) -> list[Any]:
        """The parts, each video among them with this sampling. Raises BadConfig without a video."""
        if not any(isinstance(part, Video) for part in parts):
            refuse("videos", fps=self.fps, max_frames=self.max_frames)
        return [replace(part, sampling=self) if isinstance(part, Video) else part for part in parts]


def sampling_of(video: Video) -> VideoSampling | None:
    """What a video says about its frames. Raises BadConfig for anything but a VideoSampling."""
    if video.sampling is None or isinstance(video.sampling, VideoSampling):
        return video.sampling
    raise BadConfig(
        f"sampling of a video is {video.sampling!r}; give a VideoSampling, such as "
        "VideoSampling(max_frames=8)"
    )
