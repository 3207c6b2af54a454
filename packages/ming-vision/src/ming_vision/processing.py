"""Pictures and videos to patches: resizing as released, normalisation, patch order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from PIL import Image as pil
from torch.nn import functional as F

from ming_core import media
from ming_core.errors import BadConfig, BadMedia
from ming_core.fields import MERGE, Section
from ming_core.model.encoder import Features, Smaller, Taken
from ming_vision.config import PATCH
from ming_vision.image import check_aspect, open_image
from ming_vision.options import sampling_of
from ming_vision.sampling import FLASH, LITE, MAX_SAMPLED, VideoRule, patch_times
from ming_vision.shrinking import fewer_frames
from ming_vision.square import WHOLE, Place, Square, filled_up
from ming_vision.video import read_video

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

ENLARGED = 2**24
"""Most pixels to which a small picture may be enlarged."""

MOST_PIXELS = 2**40
"""Largest limit that may be set; pictures themselves are limited when they are opened."""


@dataclass(frozen=True)
class Release:
    """What differs between the released image processors besides the numbers in their file.

    fetch_tokens: fewest and most tokens after the first resize.
    rounds_up: the second resize never rounds a shrunk side to nothing (Flash); Lite instead
    refuses a side below one token.
    min_pixels, max_pixels: limits of the second resize where the file gives none.
    video: how videos are sampled and sized.
    refits_video: frames get a second resize, too, and the first one smooths (Lite).
    """

    fetch_tokens: tuple[int, int]
    rounds_up: bool
    min_pixels: int
    max_pixels: int
    video: VideoRule
    refits_video: bool


RELEASES = {
    "BailingMMImageProcessor": Release((4, 1024), False, 3136, 1003520, LITE, True),
    "BailingMM2ImageProcessor": Release((4, 16384), True, 4096, 1310720, FLASH, False),
}
"""By `image_processor_type` of preprocessor_config.json: Lite 1.0/1.5, and Flash."""


@dataclass(frozen=True)
class ImageProcessor:
    """Opens pictures and videos, resizes them twice, normalises them and cuts them into patches.

    Sides become multiples of `factor` = patch_size * merge_size pixels. The first resize brings the
    area between fetch_min_pixels and fetch_max_pixels, the second between min_pixels and
    max_pixels. Both are needed, because the models were trained on pictures that were resized
    twice. Frames of a video have limits that depend on their number (`video`). With `refits_video`
    they are resized twice, too: the first resize smooths, the second keeps video_refit_pixels.
    square: how a picture becomes a square, for a model that knows only square pictures.
    """

    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    min_pixels: int = 78400
    max_pixels: int = 802816
    fetch_min_pixels: int = 3136
    fetch_max_pixels: int = 802816
    rounds_up: bool = False
    video: VideoRule = LITE
    refits_video: bool = True
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    rescale_factor: float = 1 / 255
    square: Square | None = None

    @classmethod
    def from_config(
        cls, vision: Mapping[str, Any] | Section, preprocessor: Mapping[str, Any]
    ) -> Self:
        """From a released `vision_config` and preprocessor_config.json (or {}).

        Raises BadConfig for another image processor, or for patches that do not fit the tower.
        """
        if not isinstance(vision, Section):
            vision = Section(vision, "vision_config")
        own = Section(preprocessor, "preprocessor_config.json")
        kind = own.choice("image_processor_type", "BailingMMImageProcessor", RELEASES)
        release = RELEASES[kind]
        sizes = {}
        for name, section_name, most in (
            ("patch_size", "patch_size", PATCH),
            ("merge_size", "spatial_merge_size", MERGE),
            ("temporal_patch_size", "temporal_patch_size", PATCH),
        ):
            of_tower = vision.whole(section_name, getattr(cls, name), most=most)
            sizes[name] = own.whole(name, of_tower, most=most)
            if sizes[name] != of_tower:
                raise BadConfig(
                    f"preprocessor_config.json says {name} {sizes[name]} and vision_config says "
                    f"{of_tower}; they must be equal"
                )
        vision.fixed("in_channels", 3)
        token = (sizes["patch_size"] * sizes["merge_size"]) ** 2
        most = own.whole("max_pixels", release.max_pixels, least=token, most=MOST_PIXELS)
        return cls(
            **sizes,
            min_pixels=own.whole("min_pixels", release.min_pixels, most=min(most, ENLARGED)),
            max_pixels=most,
            fetch_min_pixels=release.fetch_tokens[0] * token,
            fetch_max_pixels=release.fetch_tokens[1] * token,
            rounds_up=release.rounds_up,
            video=_video_rule(own, release.video),
            refits_video=release.refits_video,
            mean=own.numbers("image_mean", CLIP_MEAN, count=3, least=-1000, most=1000),
            std=own.numbers("image_std", CLIP_STD, count=3, least=1e-6, most=1000),
            rescale_factor=own.number("rescale_factor", 1 / 255, least=1e-6, most=1000),
            square=_square(own),
        )

    @property
    def factor(self) -> int:
        """Side of one token in pixels."""
        return self.patch_size * self.merge_size

    def __call__(self, parts: Sequence[media.Media]) -> Features:
        """Features of pictures and videos: `pixel_values` [N, C*t*p*p] float32, one item after
        another.

        They include the grids, and the times of the temporal patches of videos. Raises BadMedia.
        """
        rows, grids, seconds = [], [], []
        for part in parts:
            if isinstance(part, media.Image):
                item, grid = self.patches(self.fit(self.fetch(open_image(part.source))))
                times: tuple[float, ...] = ()
            elif isinstance(part, media.Video):
                item, grid, times = self.video_patches(part)
            else:
                raise BadMedia(f"this encoder reads images and videos, not {part.kind} input")
            rows.append(item)
            grids.append(grid)
            seconds.append(times)
        # A long video is large: the only item is not copied.
        joined = rows[0] if len(rows) == 1 else np.concatenate(rows)
        return Features(
            modality="image",
            tensors={"pixel_values": torch.from_numpy(joined)},
            grid=torch.tensor(grids, device="cpu"),
            tokens=[t * h * w // self.merge_size**2 for t, h, w in grids],
            seconds=seconds,
            frames_per_patch=self.temporal_patch_size,
        )

    def dummy(self, given: Features | None) -> Features | None:
        """One grey token, if no picture or video is given."""
        if given is not None:
            return None
        side = self.merge_size
        width = 3 * self.temporal_patch_size * self.patch_size**2
        grey = torch.zeros(side**2, width, dtype=torch.float32, device="cpu")
        grid = torch.tensor([[1, side, side]], device="cpu")
        return Features("image", {"pixel_values": grey}, grid, [1])

    def smaller(self, media: Sequence[Taken], surplus: int) -> Smaller | None:
        """Videos with fewer frames, which use `surplus` tokens less. None without a video."""
        return fewer_frames(media, surplus)

    def with_limits(self, min_pixels: int, max_pixels: int) -> Self:
        """The same processor with another pixel budget in stage 2."""
        return replace(self, min_pixels=min_pixels, max_pixels=max_pixels)

    def fetch_size(self, height: int, width: int) -> tuple[int, int]:
        """Stage 1: height and width after the first resize."""
        limits = self.fetch_min_pixels, self.fetch_max_pixels
        height, width = self._canvas(height, width)
        return smart_resize(height, width, self.factor, *limits, at_least_one=True)

    def fit_size(self, height: int, width: int) -> tuple[int, int]:
        """Stage 2: height and width after the second resize."""
        if not self.rounds_up and min(height, width) < self.factor:
            raise BadMedia(
                f"an image side of {min(height, width)} pixels is below the {self.factor} of one "
                "token; enlarge the image first"
            )
        limits = self.min_pixels, self.max_pixels
        return smart_resize(height, width, self.factor, *limits, shrink_to_one=self.rounds_up)

    def fetch(self, image: pil.Image) -> pil.Image:
        """Stage 1 on a picture."""
        size = self.fetch_size(image.height, image.width)
        if self.square is None:
            return _resize(image, size)
        inner = self.square.size(image.height, image.width, size[0])
        return _on_canvas(_resize(image, inner), size)

    def place(self, height: int, width: int) -> Place:
        """Where a picture of this size lies on what the model sees."""
        if self.square is None:
            return WHOLE
        return self.square.place(height, width, self.fetch_size(height, width)[0])

    def fit(self, image: pil.Image) -> pil.Image:
        """Stage 2 on a picture."""
        return _resize(image, self.fit_size(image.height, image.width))

    def _canvas(self, height: int, width: int) -> tuple[int, int]:
        """The size of a picture once it is square, if it has to be. Raises BadMedia."""
        if self.square is None:
            return height, width
        check_aspect(width, height)
        return max(height, width), max(height, width)

    def frame_fetch_size(self, height: int, width: int, count: int) -> tuple[int, int]:
        """Height and width of each of `count` frames of a video after their first resize."""
        height, width = self._canvas(height, width)
        return smart_resize(
            height, width, self.factor, *self.video.pixels(count), at_least_one=True
        )

    def frame_fit_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the second resize of the frames, if the release has one."""
        if not self.refits_video:
            return height, width
        limits = self.video.min_pixels, self.video.max_pixels
        return smart_resize(height, width, self.factor, *limits)

    def resize_frame(self, frame: pil.Image, size: tuple[int, int]) -> pil.Image:
        """A frame of a video at height and width `size`, which is the result of the two above.

        Lite smooths while it shrinks (torchvision), Flash does not (OpenCV). In float32, as the
        references: torch's kernel for uint8 rounds between the axes and is 17 grey levels off.
        """
        if self.square is not None:
            inner = self.square.size(frame.height, frame.width, size[0])
            return _on_canvas(self._resize_frame(frame, inner), size)
        return self._resize_frame(frame, size)

    def _resize_frame(self, frame: pil.Image, size: tuple[int, int]) -> pil.Image:
        if (frame.height, frame.width) == size:
            return frame
        pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None].float()
        resized = F.interpolate(pixels, size, mode="bicubic", antialias=self.refits_video)
        resized = resized.round_().clamp_(0, 255).to(torch.uint8)
        return pil.fromarray(resized[0].permute(1, 2, 0).contiguous().numpy())

    def video_patches(
        self, video: media.Video
    ) -> tuple[np.ndarray, tuple[int, int, int], tuple[float, ...]]:
        """Rows [t*h*w, 3*T*p*p] float32, grid (t, h, w) and t times of one video.

        All frames get the size that the first one asks for; the last is repeated until they fill
        the last temporal patch. Frames are read, resized and let go one temporal patch at a time.
        The time of a patch is the mean of its frames'. Raises BadMedia.
        """
        frames = read_video(video.source, self.video, sampling_of(video))
        count, depth = len(frames.seconds), self.temporal_patch_size
        padding = -count % depth
        first = next(frames.pictures)
        size = self.frame_fetch_size(first.height, first.width, count)
        final = self.frame_fit_size(*size)
        pictures = chain([first], frames.pictures)

        rows, grid, pair = None, (0, 0, 0), []
        for number, picture in enumerate(pictures, 1):
            resized = _resize(self.resize_frame(picture, size), final)
            pair += [np.asarray(resized)] * (1 + padding if number == count else 1)
            if len(pair) < depth:
                continue
            part, (_, high, wide) = self._temporal_patch(pair)
            if rows is None:
                grid = (count + padding) // depth, high, wide
                rows = np.empty((grid[0], *part.shape), dtype=np.float32)
            rows[(number - 1) // depth] = part
            pair = []
        assert rows is not None
        return rows.reshape(-1, rows.shape[-1]), grid, tuple(patch_times(frames.seconds, depth))

    @cached_property
    def _levels(self) -> np.ndarray:
        """Normalised value of each grey level, [3, 256] float32, rounded like the reference."""
        level = (np.arange(256) * self.rescale_factor).astype(np.float32)
        mean, std = (np.array(x, dtype=np.float32)[:, None] for x in (self.mean, self.std))
        return (level - mean) / std

    def patches(self, image: pil.Image) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Rows [h*w, 3*t*p*p] float32 of one still picture and its grid (1, h, w)."""
        return self._temporal_patch([np.asarray(image)])

    def _temporal_patch(
        self, frames: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Rows of the frames [H, W, 3] uint8 of one temporal patch; one frame fills all of it."""
        count, depth = len(frames), self.temporal_patch_size
        grid, normal = (0, 0, 0), np.empty(0)
        for t, frame in enumerate(frames):
            # Cut while it is uint8, and look each grey level up once: far less memory to move.
            rows, grid = patchify(frame.transpose(2, 0, 1)[None], self.patch_size, self.merge_size)
            rows = rows.reshape(len(rows), 3, self.patch_size**2)
            if not t:
                normal = np.empty((len(rows), 3, depth, rows.shape[-1]), dtype=np.float32)
            times = slice(None) if count == 1 else slice(t, t + 1)
            for c in range(3):  # "clip" spares numpy a check and a copy
                normal[:, c, times] = np.take(self._levels[c], rows[:, c], mode="clip")[:, None]
        return normal.reshape(len(normal), -1), grid


def _square(own: Section) -> Square | None:
    """How pictures become square, if preprocessor_config.json asks for it."""
    if "square_stretch" not in own:
        return None
    return Square(own.number("square_stretch", least=0, most=1))


def _video_rule(own: Section, rule: VideoRule) -> VideoRule:
    """The rule of a release with what preprocessor_config.json says otherwise."""
    changed: dict[str, Any] = {}
    if "video_fps" in own:
        changed["fps"] = own.number("video_fps", least=0.001, most=1000)
    if "video_max_frames" in own:
        changed["max_frames"] = own.whole("video_max_frames", most=MAX_SAMPLED)
        changed["max_listed"] = changed["max_frames"]
    if "video_max_pixels" in own:
        changed["max_pixels"] = own.whole("video_max_pixels", most=MOST_PIXELS)
        changed["bounded"] = True
    if "video_min_pixels" in own:
        changed["min_pixels"] = own.whole("video_min_pixels", most=ENLARGED)
    return replace(rule, **changed)


def patchify(
    frames: np.ndarray, patch: int, merge: int, temporal: int = 1
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Frames [T, C, H, W] -> rows [t*h*w, C*temporal*patch*patch] and the grid (t, h, w).

    T must be a multiple of `temporal`, H and W of patch * merge. Rows run over (t, block row, block
    column, row in block, column in block), so that merge*merge consecutive rows are one token;
    columns over (channel, time in patch, y, x).
    """
    time, channels, height, width = frames.shape
    grid = time // temporal, height // patch, width // patch
    blocks = frames.reshape(
        grid[0], temporal, channels, grid[1] // merge, merge, patch, grid[2] // merge, merge, patch
    )
    rows = blocks.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return rows.reshape(math.prod(grid), -1), grid


def smart_resize(
    height: int,
    width: int,
    factor: int,
    min_pixels: int,
    max_pixels: int,
    at_least_one: bool = False,
    shrink_to_one: bool = False,
) -> tuple[int, int]:
    """Height and width as multiples of `factor` with the area within the limits, ratio kept.

    at_least_one: sides are rounded to one factor at least before the area is looked at.
    shrink_to_one: the same when an area that is too large is shrunk.
    Halves round to even, as Python does. Raises BadMedia for ratios above 200.
    """
    check_aspect(width, height)
    least = factor if at_least_one else 0
    high, wide = (max(least, round(side / factor) * factor) for side in (height, width))
    if high * wide > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        least = factor if shrink_to_one else 0
        high, wide = (
            max(least, math.floor(side / shrink / factor) * factor) for side in (height, width)
        )
    elif high * wide < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        high, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    if not high or not wide:
        raise BadMedia(
            f"an image of {width} x {height} pixels does not fit into {max_pixels} pixels at this "
            "ratio; crop it first"
        )
    return high, wide


def _on_canvas(image: pil.Image, size: tuple[int, int]) -> pil.Image:
    return image if (image.height, image.width) == size else filled_up(image, size[0])


def _resize(image: pil.Image, size: tuple[int, int]) -> pil.Image:
    high, wide = size
    if image.size == (wide, high):
        return image
    return image.resize((wide, high), pil.Resampling.BICUBIC)
