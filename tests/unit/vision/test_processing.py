"""Sizes, patches and grids of the two-stage image processing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as pil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Audio, Image
from ming_vision.processing import ImageProcessor, patchify

LITE = {"image_processor_type": "BailingMMImageProcessor"}
FLASH = {"image_processor_type": "BailingMM2ImageProcessor", "patch_size": 16}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def processor(kind: dict, **options: int) -> ImageProcessor:
    return ImageProcessor.from_config(
        {"patch_size": kind.get("patch_size", 14)}, {**kind, **options}
    )


@pytest.mark.parametrize("kind", [LITE, FLASH], ids=["lite", "flash"])
def test_stage_two_equals_transformers_bit_for_bit(kind: dict) -> None:
    ours = processor(kind, min_pixels=6000, max_pixels=40000)
    theirs = Qwen2VLImageProcessorPil(
        patch_size=ours.patch_size,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 6000, "longest_edge": 40000},
        image_mean=list(ours.mean),
        image_std=list(ours.std),
    )
    for seed, (height, width) in enumerate(
        [(64, 64), (300, 170), (33, 900), (100, 101), (420, 56)]
    ):
        array = noise(height, width, seed)
        expected = theirs(images=[array], return_tensors="pt")
        rows, grid = ours.patches(ours.fit(pil.fromarray(array)))
        assert list(grid) == expected["image_grid_thw"][0].tolist()
        assert torch.equal(torch.from_numpy(rows), expected["pixel_values"])


def test_images_are_packed_one_after_another() -> None:
    ours = processor(LITE, min_pixels=3136, max_pixels=802816)
    parts = [Image(noise(56, 84)), Image(noise(100, 60, 1))]
    both = ours(parts)
    one, two = (ours([part]) for part in parts)
    assert both.modality == "image"
    assert both.grid is not None
    assert both.grid.tolist() == [[1, 4, 6], [1, 8, 4]]
    assert both.tokens == [6, 8]
    pixel_values = both.tensors["pixel_values"]
    assert pixel_values.shape == (24 + 32, 3 * 2 * 14 * 14)
    assert pixel_values.dtype == torch.float32
    assert torch.equal(
        pixel_values, torch.cat((one.tensors["pixel_values"], two.tensors["pixel_values"]))
    )


def test_patch_order_puts_the_four_patches_of_a_token_together() -> None:
    y, x = np.indices((8, 8))
    frames = np.stack([np.stack([y * 8 + x + 64 * t] * 3) for t in range(4)])  # [T, C, H, W]
    rows, grid = patchify(frames, patch=2, merge=2, temporal=2)
    assert grid == (2, 4, 4)
    assert rows.shape == (32, 3 * 2 * 2 * 2)
    corners = rows[:, 0]
    assert corners[:6].tolist() == [0, 2, 16, 18, 4, 6]
    assert corners[16] == 128  # the second temporal patch begins with frame 2
    assert rows[0, :8].tolist() == [0, 1, 8, 9, 64, 65, 72, 73]  # (time, y, x) within a channel


def test_released_limits() -> None:
    lite = processor(LITE, min_pixels=78400, max_pixels=802816)
    flash = processor(FLASH, min_pixels=4096, max_pixels=16777216)
    assert lite.fit_size(*lite.fetch_size(1, 1)) == (280, 280)
    assert lite.fetch_size(42, 70) == (56, 56)  # 1.5 and 2.5 tokens: halves round to even
    assert lite.fit_size(56, 56) == (280, 280)
    assert lite.fit_size(*lite.fetch_size(3000, 4000)) == (756, 1008)
    assert flash.fit_size(*flash.fetch_size(1, 1)) == (64, 64)
    assert flash.fit_size(*flash.fetch_size(3000, 4000)) == (3008, 4000)
    drawing = lite.with_limits(451584, 451584)
    assert drawing.fit_size(*drawing.fetch_size(512, 512)) == (672, 672)


def test_the_file_may_leave_everything_to_the_release() -> None:
    lite = ImageProcessor.from_config({}, {})
    flash = processor(FLASH)
    assert (lite.factor, lite.min_pixels, lite.max_pixels) == (28, 3136, 1003520)
    assert (lite.fetch_min_pixels, lite.fetch_max_pixels) == (3136, 802816)
    assert (flash.factor, flash.min_pixels, flash.max_pixels) == (32, 4096, 1310720)
    assert (flash.fetch_min_pixels, flash.fetch_max_pixels) == (4096, 16777216)


@pytest.mark.parametrize("size", [(20000, 1), (1, 20000), (201, 1)])
def test_long_strips_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadMedia, match=r"one side may be at most 200 times the other, so crop it"):
        processor(LITE)([Image(np.zeros((*size, 3), dtype=np.uint8))])


def test_a_strip_that_the_budget_cannot_hold_is_refused() -> None:
    with pytest.raises(BadMedia, match="5600 x 28 pixels does not fit into 1568 pixels"):
        processor(LITE, min_pixels=784, max_pixels=1568).fit_size(28, 5600)
    assert processor(FLASH, min_pixels=1024, max_pixels=2048).fit_size(32, 6400) == (32, 640)


def test_stage_two_of_lite_refuses_a_side_below_one_token() -> None:
    with pytest.raises(BadMedia, match="side of 27 pixels is below the 28 of one token"):
        processor(LITE).fit_size(27, 200)


def test_sound_is_not_read() -> None:
    with pytest.raises(BadMedia, match="reads images and videos, not audio input"):
        processor(LITE)([Audio("hello.wav")])


def test_bad_configuration() -> None:
    with pytest.raises(BadConfig, match="unknown image_processor_type 'Other'; known: BailingMM2"):
        ImageProcessor.from_config({}, {"image_processor_type": "Other"})
    with pytest.raises(BadConfig, match="says patch_size 16 and vision_config says 14"):
        ImageProcessor.from_config({"patch_size": 14}, FLASH)
