"""Sizes, patches and grids of the two-stage image processing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as pil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Audio, Image, Video
from ming_vision.processing import ImageProcessor, patchify
from ming_vision.square import WHOLE, Place

LITE = {"image_processor_type": "BailingMMImageProcessor"}
FLASH = {"image_processor_type": "BailingMM2ImageProcessor", "patch_size": 16}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def processor(kind: dict, **options: float) -> ImageProcessor:
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


# A square canvas for pictures of any shape

SQUARE = {**FLASH, "patch_size": 8, "min_pixels": 4096, "max_pixels": 4096}


def test_a_square_picture_is_left_as_it_is() -> None:
    plain, square = processor(SQUARE), processor(SQUARE, square_stretch=0.5)
    for side in (20, 64, 100, 1024):
        picture = noise(side, side, side)
        one, two = (p([Image(picture)]).tensors["pixel_values"] for p in (plain, square))
        assert torch.equal(one, two)
        video = [picture, picture]
        one, two = (p([Video(video)]).tensors["pixel_values"] for p in (plain, square))
        assert torch.equal(one, two)
        assert square.place(side, side) == WHOLE


@pytest.mark.parametrize(
    ("height", "width", "stretch", "place"),
    [
        (480, 640, 0, Place(0, 1 / 8, 1, 3 / 4)),
        (640, 480, 0, Place(1 / 8, 0, 3 / 4, 1)),
        (480, 640, 1, WHOLE),
        (160, 640, 0.5, Place(0, 1 / 4, 1, 1 / 2)),
    ],
)
def test_where_a_picture_lies_on_the_canvas(
    height: int, width: int, stretch: float, place: Place
) -> None:
    assert processor(SQUARE, square_stretch=stretch).place(height, width) == place


@pytest.mark.parametrize("size", [(48, 64), (480, 640), (1080, 1920), (1280, 480), (60, 900)])
@pytest.mark.parametrize("stretch", [0, 0.5, 1])
def test_what_is_seen_at_a_place_of_the_canvas_is_there_in_the_picture(
    size: tuple[int, int], stretch: float
) -> None:
    """A picture whose red tells the column and whose green tells the row is read off the canvas."""
    height, width = size
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[..., 0] = (np.arange(width) + 0.5) / width * 255
    picture[..., 1] = ((np.arange(height) + 0.5) / height * 255)[:, None]
    ours = processor(SQUARE, square_stretch=stretch)
    canvas = np.asarray(ours.fit(ours.fetch(pil.fromarray(picture)))).astype(int)
    assert canvas.shape == (64, 64, 3)
    place = ours.place(height, width)
    for row, column in ((32, 10), (32, 50), (31, 32), (10, 32), (50, 32)):
        across, down = place.to_picture((column + 0.5) / 64, (row + 0.5) / 64)
        seen = canvas[row, column, :2] / 255
        assert seen[0] == pytest.approx(min(max(across, 0), 1), abs=0.03)
        assert seen[1] == pytest.approx(min(max(down, 0), 1), abs=0.05)


def test_frames_lie_where_a_picture_would() -> None:
    ours = processor(SQUARE, square_stretch=0.5, video_min_pixels=4096, video_max_pixels=4096)
    frame = np.full((60, 240, 3), 200, dtype=np.uint8)
    frame[:, 110:130] = 0
    features = ours([Video([frame, frame])])
    assert features.grid is not None
    assert features.grid.tolist() == [[1, 8, 8]]
    size = ours.frame_fetch_size(60, 240, 2)
    seen = np.asarray(ours.resize_frame(pil.fromarray(frame), size))
    assert seen.shape == (64, 64, 3)
    assert seen[0, 32].max() < 40  # what is at the border goes on
    assert seen[32, 32].max() < 40
    assert seen[32, 5].min() > 190


def test_a_canvas_refuses_strips_and_nonsense() -> None:
    ours = processor(SQUARE, square_stretch=0.5)
    with pytest.raises(BadMedia, match="one side may be at most 200 times the other"):
        ours.fetch_size(1, 500)
    for wrong in (-1, 2, "half", True, float("nan")):
        with pytest.raises(BadConfig, match=r"square_stretch of preprocessor_config\.json is"):
            processor(SQUARE, square_stretch=wrong)  # type: ignore[arg-type]
