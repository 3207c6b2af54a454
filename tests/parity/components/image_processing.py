"""Resize tables, resized pictures, patches and grids of still images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ming_core.errors import BadMedia
from ming_core.media import Image
from ming_core.testing import Check, GoldenCase, Unsupported
from ming_vision.image import open_image
from ming_vision.processing import RELEASES, ImageProcessor

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
        raise Unsupported("output sizes and quoted text belong to image generation")
    raise Unsupported("video comes with the vision issue")


def _processor(case: GoldenCase) -> ImageProcessor:
    config = case.config
    names = {field.name for field in fields(ImageProcessor)}
    values: dict[str, Any] = {name: value for name, value in config.items() if name in names}
    if "factor" in config:  # the tables give the side of a token instead of a patch
        values["patch_size"] = config["factor"] // ImageProcessor.merge_size
    for name in ("mean", "std"):
        if f"image_{name}" in config:
            values[name] = tuple(config[f"image_{name}"])
    return ImageProcessor(**values, rounds_up=RELEASE[config["family"]].rounds_up)


def _tables(case: GoldenCase) -> Iterator[Check]:
    """Sizes under the limits; (-1, -1) stands for a refusal. Video rows are left out."""
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


def _apply(steps: list[Size], height: int, width: int) -> tuple[int, int]:
    try:
        for step in steps:
            height, width = step(height, width)
    except BadMedia:
        return -1, -1
    return height, width


def _images(case: GoldenCase) -> Iterator[Check]:
    processor = _processor(case)
    arrays = [case.inputs[f"image_{i}"] for i in range(len(case.inputs))]
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
