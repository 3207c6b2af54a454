"""Position ids of Lite 1.5 and flash against the recorded ones."""

from __future__ import annotations

from collections.abc import Iterator

from ming_core.model.positions import PositionRule, rope_index
from ming_core.testing import Check, GoldenCase


def run(case: GoldenCase) -> Iterator[Check]:
    config, inputs = case.config, case.inputs
    rule = PositionRule(
        kind="video_rope" if config["rope_scaling"]["type"] == "video_rope" else "mrope",
        image_patch=config["image_patch_token"],
        video_patch=config.get("video_patch_token", config["image_patch_token"]),
        image_start=config["image_start_token"],
        video_start=config["video_start_token"],
        merge=config["spatial_merge_size"],
        interleaved=config.get("use_interleaved_frame_timestamp", False),
    )
    positions, deltas = rope_index(rule, **inputs)
    yield Check("position_ids", positions, case.outputs["position_ids"])
    yield Check("rope_deltas", deltas, case.outputs["rope_deltas"])
