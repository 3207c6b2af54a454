"""Videos to patches: sizes, padding, order of mixed parts, times and settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pil

from ming_core.errors import BadMedia
from ming_core.media import Audio, Frames, Image, Media, Video
from ming_vision import VideoSampling
from ming_vision.processing import ImageProcessor

LITE = {"image_processor_type": "BailingMMImageProcessor"}
FLASH = {"image_processor_type": "BailingMM2ImageProcessor", "patch_size": 16}
NANO = {
    **FLASH,
    "patch_size": 8,
    "min_pixels": 4096,
    "max_pixels": 4096,
    "video_min_pixels": 4096,
    "video_max_pixels": 4096,
    "video_fps": 2.0,
    "video_max_frames": 8,
}


def noise(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def processor(kind: dict[str, Any]) -> ImageProcessor:
    return ImageProcessor.from_config({"patch_size": kind.get("patch_size", 14)}, kind)


def grid_of(kind: dict[str, Any], source: Any) -> list[int]:
    grid = processor(kind)([Video(source)]).grid
    assert grid is not None
    return grid[0].tolist()


def test_images_and_videos_in_any_order() -> None:
    ours = processor(NANO)
    parts: list[Media] = [
        Video(noise(3, 64, 64)),
        Image(noise(1, 64, 64, 1)[0]),
        Video(Frames([*noise(4, 64, 64, 2)], [0, 1, 5, 6])),
    ]
    joined = ours(parts)
    assert joined.grid is not None
    assert joined.grid.tolist() == [[2, 8, 8], [1, 8, 8], [2, 8, 8]]
    assert joined.tokens == [32, 16, 32]
    assert joined.seconds == [(0.25, 1.0), (), (0.5, 5.5)]
    assert joined.frames_per_patch == 2
    single = torch.cat([ours([part]).tensors["pixel_values"] for part in parts])
    assert torch.equal(joined.tensors["pixel_values"], single)
    assert single.dtype == torch.float32
    assert single.shape == (5 * 64, 3 * 2 * 8 * 8)


def test_patches_of_a_video_hold_its_frames() -> None:
    ours = processor(NANO)
    frames = noise(4, 64, 64)
    video = ours([Video(frames)]).tensors["pixel_values"].view(2, 64, 3, 2, 64)
    for i, frame in enumerate(frames):
        still, _ = ours.patches(pil.fromarray(frame))
        expected = torch.from_numpy(still).view(64, 3, 2, 64)[:, :, 0]
        assert torch.equal(video[i // 2, :, :, i % 2], expected)


def test_an_odd_last_frame_fills_its_patch() -> None:
    ours = processor(NANO)
    frames = noise(3, 64, 64)
    padded = np.concatenate((frames, frames[-1:]))
    expected = ours([Video(padded)]).tensors["pixel_values"]
    assert torch.equal(ours([Video(frames)]).tensors["pixel_values"], expected)


@pytest.mark.parametrize("kind", [LITE, FLASH], ids=["lite", "flash"])
def test_a_video_of_one_frame_is_seen(kind: dict[str, Any]) -> None:
    features = processor(kind)([Video(noise(1, 100, 120))])
    assert features.seconds == [(0.0,)]
    assert features.grid is not None
    assert features.grid[0, 0] == 1


def test_released_sizes_of_frames() -> None:
    assert grid_of(LITE, noise(4, 480, 854)) == [2, 34, 60]  # 476 x 840
    assert grid_of(FLASH, noise(4, 480, 854)) == [2, 30, 54]  # 480 x 864
    lite = processor(LITE)
    assert lite.frame_fetch_size(200, 2000, 128) == (84, 1036)
    assert lite.frame_fit_size(84, 1036) == (112, 1120)  # enlarged again
    flash = processor(FLASH)
    assert flash.frame_fit_size(*flash.frame_fetch_size(480, 854, 256)) == (256, 480)


def test_all_frames_take_the_size_of_the_first() -> None:
    frames = [*noise(2, 64, 128), *noise(2, 300, 90)]
    assert grid_of(FLASH, frames) == [2, 16, 32]
    assert grid_of(FLASH, noise(4, 64, 128)) == [2, 16, 32]


def test_lite_smooths_and_flash_does_not() -> None:
    """One white column in eight: averaged to an even grey, or hit and missed."""
    stripes = np.zeros((2, 1024, 2048, 3), dtype=np.uint8)
    stripes[:, :, ::8] = 255
    spread = {}
    for name, kind in (("lite", LITE), ("flash", FLASH)):
        ours = processor(kind)
        small = ours.resize_frame(pil.fromarray(stripes[0]), (112, 224))
        spread[name] = np.asarray(small).std()
    assert spread["lite"] < 20
    assert spread["flash"] > 50


def test_settings_of_the_file_override_the_release() -> None:
    nano = processor(NANO)
    assert nano([Video(noise(30, 64, 64))]).tokens == [4 * 16]
    half = nano([Video(noise(8, 64, 64), VideoSampling(fps=1))])
    assert half.seconds == [(0.5, 2.75)]  # frames 0, 2, 4 and 7 of 2 per second
    assert processor({**FLASH, "video_max_frames": 4}).video.max_frames == 4
    assert processor(FLASH).video.max_frames == 170
    assert processor(LITE).video.max_frames == 128


def test_sampling_of_the_part_is_heard() -> None:
    features = processor(NANO)([Video(noise(30, 64, 64), VideoSampling(frames=2))])
    assert features.seconds == [(7.25,)]
    assert features.tokens == [16]


def test_strange_shapes_are_refused() -> None:
    with pytest.raises(BadMedia, match="one side may be at most 200 times the other"):
        processor(FLASH)([Video(noise(2, 1, 300))])
    with pytest.raises(BadMedia, match=r"must be uint8 \[frames, height, width, 3\], not \[8, 8"):
        processor(FLASH)([Video(noise(1, 8, 8)[0])])
    with pytest.raises(BadMedia, match="reads images and videos, not audio input"):
        processor(FLASH)([Audio("hello.wav")])
