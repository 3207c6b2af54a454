"""Resize tables, patches and grids of images and videos; sampled frames; sizes of drawings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ming_core.errors import BadMedia
from ming_core.media import Frames, Image, Video
from ming_core.model.positions import frame_grids
from ming_core.testing import Check, GoldenCase
from ming_imagegen.requests import cover_size, nearest_size, quoted_text, size_of_shape
from ming_vision.image import open_image
from ming_vision.processing import RELEASES, ImageProcessor
from ming_vision.sampling import (
    FLASH,
    ends,
    listed_count,
    lite_count,
    lite_effective_total,
    middles,
    patch_times,
)

RELEASE = {
    "lite": RELEASES["BailingMMImageProcessor"],
    "flash": RELEASES["BailingMM2ImageProcessor"],
}
Size = Callable[[int, int], tuple[int, int]]


def run(case: GoldenCase) -> Iterator[Check]:
    if "sizes_hw" in case.inputs:
        return _tables(case)
    if "image_0" in case.inputs:
        return _images(case)
    if "requests_h_w_highres" in case.inputs:
        return _drawings(case)
    if "frames" in case.inputs:
        return _video(case)
    if "fps" in case.inputs:
        return _lite_clips(case) if case.config["family"] == "lite" else _flash_clips(case)
    return _lists(case)


def _processor(case: GoldenCase) -> ImageProcessor:
    config, release = case.config, RELEASE[case.config["family"]]
    names = {field.name for field in fields(ImageProcessor)}
    values: dict[str, Any] = {name: config[name] for name in names if name in config}
    if "factor" in config:  # the tables give the side of a token instead of a patch
        values["patch_size"] = config["factor"] // ImageProcessor.merge_size
    for name in ("mean", "std"):
        if f"image_{name}" in config:
            values[name] = tuple(config[f"image_{name}"])
    limits = {
        name: config[f"video_{name}"]
        for name in ("min_pixels", "max_pixels", "total_pixels")
        if f"video_{name}" in config
    }
    if "target_hw" in config:  # a size instead of limits
        area = math.prod(config["target_hw"])
        limits = {"min_pixels": area, "max_pixels": area, "bounded": True}
    return ImageProcessor(
        **values,
        rounds_up=release.rounds_up,
        video=replace(release.video, **limits),
        refits_video=release.refits_video,
    )


def _tables(case: GoldenCase) -> Iterator[Check]:
    """Sizes under the limits; (-1, -1) stands for a refusal."""
    processor = _processor(case)
    rules: dict[str, list[Size]] = {
        "fetch_hw": [processor.fetch_size],
        "processor_hw": [processor.fit_size],
        "fetch_then_processor_hw": [processor.fetch_size, processor.fit_size],
    }
    if pixels := case.config.get("imagegen_pixels"):
        drawing = processor.with_limits(pixels, pixels)
        rules["fetch_then_imagegen_hw"] = [processor.fetch_size, drawing.fit_size]
    for name, steps in rules.items():
        rows = [_apply(steps, h, w) for h, w in case.inputs["sizes_hw"].tolist()]
        yield Check(name, torch.tensor(rows), case.outputs[name])
    frames = case.inputs["video_hw_nframes"].tolist()
    fetched = [processor.frame_fetch_size(h, w, count) for h, w, count in frames]
    # The second version of Flash's reader (video_fetch_v2_hw) is optional there and absent here.
    first = "video_fetch_hw" if processor.refits_video else "video_fetch_v1_hw"
    yield Check(first, torch.tensor(fetched), case.outputs[first])
    if processor.refits_video:
        fitted = torch.tensor([processor.frame_fit_size(*size) for size in fetched])
        yield Check("video_processor_hw", fitted, case.outputs["video_processor_hw"])


def _apply(steps: list[Size], height: int, width: int) -> tuple[int, int]:
    try:
        for step in steps:
            height, width = step(height, width)
    except BadMedia:
        return -1, -1
    return height, width


def _images(case: GoldenCase) -> Iterator[Check]:
    processor = _processor(case)
    count = sum(name.startswith("image_") for name in case.inputs)
    arrays = [case.inputs[f"image_{i}"] for i in range(count)]
    features = processor([Image(array) for array in arrays])
    pixel_values = features.tensors["pixel_values"]
    actual: dict[str, Tensor | None] = {
        "image_grid_thw": features.grid,
        "pixel_values": pixel_values,
        "row_means": pixel_values.mean(-1),
    }
    for i, array in enumerate(arrays):
        fetched = processor.fetch(open_image(array))
        actual[f"fetched_{i}"] = torch.from_numpy(np.array(fetched))
    if "row_index" in case.outputs:
        actual["row_index"] = case.outputs["row_index"]
        actual["pixel_values_rows"] = pixel_values[case.outputs["row_index"]]
    for name, expected in case.outputs.items():
        yield Check(name, actual[name], expected)


def _lite_clips(case: GoldenCase) -> Iterator[Check]:
    clips = zip(case.inputs["total_frames"].tolist(), case.inputs["fps"].tolist())
    for i, ((total, fps), wish) in enumerate(zip(clips, case.config["requests"])):
        yield Check(
            f"effective_total {i}",
            lite_effective_total(total, fps),
            int(case.outputs["effective_total"][i]),
        )
        count = lite_count(
            total,
            fps,
            most=wish.get("max_frames", case.config["FPS_MAX_FRAMES"]),
            least=wish.get("min_frames", case.config["FPS_MIN_FRAMES"]),
            frames=wish.get("nframes"),
        )
        yield Check(f"num_frames {i}", count, int(case.outputs["num_frames"][i]))
        spread = middles if wish["sample"] == "uniform" else ends
        indices = torch.tensor(spread(total, count))
        yield Check(f"indices_{i}", indices, case.outputs[f"indices_{i}"])


def _flash_clips(case: GoldenCase) -> Iterator[Check]:
    rule = replace(FLASH, fps=case.config["MAX_FPS"], max_frames=case.config["MAX_FRAMES"])
    clips = zip(case.inputs["total_frames"].tolist(), case.inputs["fps"].tolist())
    for i, (total, fps) in enumerate(clips):
        plan = rule.plan(total, fps)
        yield Check(f"num_frames {i}", len(plan.indices), int(case.outputs["num_frames"][i]))
        yield Check(f"indices_{i}", torch.tensor(plan.indices), case.outputs[f"indices_{i}"])
        seconds = plan.seconds + plan.seconds[-1:] * (len(plan.seconds) % 2)
        name = f"frame_seconds_{i}"
        yield Check(name, torch.tensor(seconds), case.outputs[name])
        name = f"grid_seconds_{i}"
        yield Check(name, torch.tensor(patch_times(plan.seconds, 2)), case.outputs[name])


def _lists(case: GoldenCase) -> Iterator[Check]:
    assert case.config["family"] == "flash"
    assert case.config["FPS_MIN_FRAMES"] == 4
    totals = case.inputs["total_frames"].tolist()
    for i, (total, wish) in enumerate(zip(totals, case.config["requests"])):
        count = listed_count(
            total,
            case.config["assumed_fps"],
            rate=wish.get("max_video_fps", FLASH.fps),
            most=wish.get("max_frames", case.config["FPS_MAX_FRAMES"]),
            frames=wish.get("nframes"),
        )
        yield Check(f"num_frames {i}", count, int(case.outputs["num_frames"][i]))
        spread = middles if wish.get("sample") == "uniform" else ends
        indices = torch.tensor(spread(total, count))
        yield Check(f"indices_{i}", indices, case.outputs[f"indices_{i}"])


def _video(case: GoldenCase) -> Iterator[Check]:
    """Frames [T, H, W, 3] of Flash or [T, 3, H, W] of Lite, which are all taken."""
    processor = _processor(case)
    lite = processor.refits_video
    frames = case.inputs["frames"]
    if lite:
        frames = frames.permute(0, 2, 3, 1)
    rule = processor.frame_fetch_size(frames.shape[1], frames.shape[2], len(frames))
    high, wide = case.config.get("target_hw", rule)
    size = high, wide
    resized = _resized(processor, frames, size)
    actual = {"resized_frames": resized.permute(0, 3, 1, 2) if lite else resized}
    if "padded_frames" in case.outputs:
        last = resized[-1:][: len(resized) % 2]
        actual["padded_frames"] = torch.cat([resized, last]).permute(0, 3, 1, 2)
    if "downscale_frames" in case.inputs:
        shrunk = _resized(processor, case.inputs["downscale_frames"], size)
        actual["downscaled_frames"] = shrunk
    for name, levels in actual.items():
        # In units of pixel values: the tolerance is one grey level, as OpenCV is not used here.
        unit = 255 * min(processor.std)
        yield Check(name, levels / unit, case.outputs[name] / unit)
    rate = case.config.get("sampled_fps", 2.0)
    seconds = [k / rate for k in range(len(frames))]
    given = frames if lite else resized  # the target of Flash's case is no size of its rule
    features = processor([Video(Frames([frame.numpy() for frame in given], seconds))])
    yield Check("video_grid_thw", features.grid, case.outputs["video_grid_thw"])
    pixel_values = features.tensors["pixel_values"]
    yield Check("pixel_values_videos", pixel_values, case.outputs["pixel_values_videos"])
    if "frame_seconds" in case.outputs:
        padded = torch.tensor(seconds + seconds[-1:] * (len(seconds) % 2))
        yield Check("frame_seconds", padded, case.outputs["frame_seconds"])
    if "video_grid_thw_per_frame" in case.outputs:
        assert features.grid is not None
        rows = frame_grids(features.grid)
        yield Check("video_grid_thw_per_frame", rows, case.outputs["video_grid_thw_per_frame"])
    if "grid_seconds" in case.outputs:
        times = torch.tensor(features.seconds[0])
        yield Check("grid_seconds", times, case.outputs["grid_seconds"])


def _resized(processor: ImageProcessor, frames: Tensor, size: tuple[int, int]) -> Tensor:
    pictures = [processor.resize_frame(open_image(frame), size) for frame in frames]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


def _drawings(case: GoldenCase) -> Iterator[Check]:
    assert case.config["family"] == "flash"
    tables = {
        resolution: [tuple(row) for row in case.inputs[f"aspect_ratio_{resolution}"].tolist()]
        for resolution in (512, 672, 1024)
    }
    requests = case.inputs["requests_h_w_highres"].tolist()
    nearest = [nearest_size(h, w, resolution, tables) for h, w, resolution in requests]
    cover = [cover_size(h, w, size) for (h, w, _), size in zip(requests, nearest)]
    yield Check("closest_hw", torch.tensor(nearest), case.outputs["closest_hw"])
    yield Check("resize_hw", torch.tensor(cover), case.outputs["resize_hw"])
    shapes = case.inputs["aspect_ratios"].tolist()
    for resolution in (512, 1024):
        name = f"default_hw_{resolution}"
        sizes = [size_of_shape(shape, tables[resolution]) for shape in shapes]
        yield Check(name, torch.tensor(sizes), case.outputs[name])
    yield Check(
        "image_gen_text",
        [quoted_text(prompt) for prompt in case.config["prompts"]],
        case.config["expected_text"],
    )
