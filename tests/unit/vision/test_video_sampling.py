"""Which frames are looked at, how many, and the times that are said of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ming_core.media
from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Video
from ming_vision import VideoSampling
from ming_vision.processing import ImageProcessor
from ming_vision.sampling import (
    FLASH,
    LITE,
    MAX_SAMPLED,
    VideoRule,
    ends,
    flash_count,
    listed_count,
    lite_count,
    middles,
    patch_times,
)

RULES = st.sampled_from([LITE, FLASH])
SAMPLINGS = st.builds(
    VideoSampling,
    fps=st.none() | st.floats(0.01, 100),
    max_frames=st.none() | st.integers(1, 500),
    frames=st.none() | st.integers(1, 500),
    method=st.sampled_from(["release", "uniform"]),
)


def test_spreads() -> None:
    assert ends(300, 4) == [0, 99, 199, 299]
    assert middles(300, 4) == [37, 112, 187, 262]
    assert ends(5, 5) == middles(5, 5) == [0, 1, 2, 3, 4]
    assert ends(10, 1) == [0]
    assert middles(10, 1) == [4]


def test_lite_takes_two_per_second_of_clips_longer_than_five_seconds() -> None:
    assert lite_count(300, 30.0) == 20
    assert lite_count(150, 30.0) == 128  # 5 s: every frame, up to the limit
    assert lite_count(9000, 25.0) == 128
    assert lite_count(9000, 25.0, most=7) == 6  # even
    assert lite_count(7, 1.0) == 6
    assert [lite_count(total, 25.0) for total in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_flash_takes_two_per_second_with_halves_up() -> None:
    assert flash_count(300, 30.0) == 20
    assert flash_count(45, 30.0) == 3
    assert flash_count(6, 24.0) == 1
    assert flash_count(1, 30.0) == 1
    assert flash_count(10, 1.0) == 10
    assert flash_count(10**6, 25.0) == 170


def test_lists_give_an_even_number_and_short_ones_everything() -> None:
    assert listed_count(10) == 10
    assert listed_count(11) == 10
    assert listed_count(300) == 256
    assert listed_count(300, frames=9) == 8
    assert [listed_count(total) for total in (1, 2, 3)] == [1, 2, 3]


def test_released_rules() -> None:
    lite, flash = (rule.plan(3000, 30.0) for rule in (LITE, FLASH))
    assert len(lite.indices) == 128
    assert lite.indices[:3] == [11, 34, 57]
    assert lite.seconds[1] == pytest.approx(34 / 30)
    assert len(flash.indices) == 170
    assert flash.indices[:3] == [0, 17, 35]
    assert flash.indices[-1] == 2999
    assert flash.seconds[-1] == pytest.approx(169 / 170 * 100)  # k-th of even ones, as released


@pytest.mark.parametrize(
    ("wish", "indices"),
    [
        (VideoSampling(frames=3), [0, 149, 299]),
        (VideoSampling(frames=3, method="uniform"), [49, 149, 249]),
        (VideoSampling(fps=0.5), [0, 74, 149, 224, 299]),
        (VideoSampling(fps=0.5, max_frames=2), [0, 299]),
        (VideoSampling(fps=1e308, max_frames=2), [0, 299]),
        (VideoSampling(max_frames=2), [0, 299]),
        (VideoSampling(max_frames=1), [0]),
        (VideoSampling(frames=1, method="uniform"), [149]),
    ],
)
def test_wishes_override_the_release(wish: VideoSampling, indices: list[int]) -> None:
    assert FLASH.plan(300, 30.0, wish).indices == indices


def test_uniform_frames_have_their_own_times() -> None:
    plan = FLASH.plan(300, 30.0, VideoSampling(frames=2, method="uniform"))
    assert plan.seconds == pytest.approx([74 / 30, 224 / 30])
    assert FLASH.plan(300, 30.0, own_times=True).seconds[-1] == pytest.approx(299 / 30)


def test_a_list_of_frames_has_a_limit_of_its_own() -> None:
    assert len(FLASH.plan(400, 2.0, listed=True).indices) == 256
    assert FLASH.plan(4, 2.0, listed=True).seconds == [0.0, 0.5, 1.0, 1.5]
    assert LITE.plan(400, 2.0, listed=True).indices[:2] == [1, 4]


@given(RULES, st.integers(1, 20000), st.floats(0.1, 240), st.none() | SAMPLINGS, st.booleans())
def test_plans_are_ascending_and_within_the_video(
    rule: VideoRule, total: int, fps: float, wish: VideoSampling | None, listed: bool
) -> None:
    plan = rule.plan(total, fps, wish, listed=listed)
    assert len(plan.indices) == len(plan.seconds) >= 1
    assert plan.indices[0] >= 0
    assert plan.indices[-1] < total
    assert all(a < b for a, b in zip(plan.indices, plan.indices[1:]))
    assert all(a < b for a, b in zip(plan.seconds, plan.seconds[1:]))
    assert plan.seconds[-1] <= total / fps + 1e-6
    if wish and wish.frames:
        assert len(plan.indices) == min(wish.frames, total)
    elif wish and wish.max_frames:
        assert len(plan.indices) <= wish.max_frames


def test_more_frames_than_memory_should_hold_are_refused() -> None:
    with pytest.raises(BadMedia, match=r"5000 frames of one video are more than the 2048 allowed"):
        FLASH.plan(10**6, 30.0, VideoSampling(frames=5000))
    assert len(FLASH.plan(10**6, 30.0, VideoSampling(frames=MAX_SAMPLED)).indices) == MAX_SAMPLED


def test_pixels_shrink_with_the_number_of_frames() -> None:
    assert LITE.pixels(4) == (100352, 602112)
    assert LITE.pixels(128) == (100352, 112896)
    assert FLASH.pixels(4) == (131072, 6291456)
    assert FLASH.pixels(170) == (131072, 148034)


def test_time_of_a_patch_is_the_mean_of_its_frames() -> None:
    assert patch_times([0.0, 0.5, 1.0, 1.5], 2) == [0.25, 1.25]
    assert patch_times([0.0, 0.5, 1.0], 2) == [0.25, 1.0]
    assert patch_times([3.0], 2) == [3.0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fps": 0.0}, "fps of a video is 0.0; it must be above 0"),
        ({"fps": math.nan}, "fps of a video is nan"),
        ({"max_frames": 0}, "max_frames of a video is 0; it must be at least 1"),
        ({"frames": -2}, "frames of a video is -2"),
        ({"method": "random"}, "method of a video is 'random'; known: 'release', 'uniform'"),
    ],
)
def test_samplings_that_ask_for_nothing(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadConfig, match=sentence):
        VideoSampling(**options)


def test_a_sampling_of_another_kind_is_refused() -> None:
    with pytest.raises(BadConfig, match="sampling of a video is 8; give a VideoSampling, such as"):
        ImageProcessor()([Video(np.zeros((4, 56, 56, 3), np.uint8), 8)])


def test_the_core_hands_on_what_the_package_brings() -> None:
    assert ming_core.VideoSampling is ming_core.media.VideoSampling is VideoSampling
