"""Scenes as tensors: painted as one by one, drawn with the same frequencies, and fast."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ming_core.errors import BadConfig
from ming_recipes.nano.world.lots import draw_motion, draw_scenes
from ming_recipes.nano.world.many import WRITINGS, Scenes, paint, patches
from ming_recipes.nano.world.motion import clip_of
from ming_recipes.nano.world.render import noise, render
from ming_recipes.nano.world.scene import RELATION_DOMINANCE, SPLITS, Scene, SceneObject, scene_of
from ming_recipes.nano.world.vocabulary import CANVAS, HELD_OUT, SIZE_RADIUS
from ming_vision.processing import patchify

MANY = 6000
HELD = {"train": False, "compositional": True}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _noise(scenes: list[Scene], frame: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.stack([noise(scene.background, frame) for scene in scenes]))


@pytest.mark.parametrize("split", SPLITS)
def test_pictures_equal_those_of_the_renderer_but_for_rounding(split: str) -> None:
    scenes = [scene_of(split, index) for index in range(150)]
    painted = paint(Scenes.of(scenes), _noise(scenes)).permute(0, 2, 3, 1).numpy()
    drawn = np.stack([render(scene) for scene in scenes])
    apart = np.abs(painted.astype(int) - drawn)
    assert apart.mean() < 1e-3
    assert (apart > 24).mean() < 1e-5


def test_frames_of_a_video_equal_those_of_the_renderer() -> None:
    clips = [clip_of("train", index) for index in range(40)]
    scenes = [clip.scene for clip in clips]
    still = Scenes.of(scenes)
    steps = torch.zeros(2, len(clips), 5)
    for row, clip in enumerate(clips):
        for i, (right, down) in enumerate(clip.steps):
            steps[0, row, i], steps[1, row, i] = right, down
    for frame in range(4):
        moved = still.moved(steps[0] * frame, steps[1] * frame)
        painted = paint(moved, _noise(scenes, frame)).permute(0, 2, 3, 1).numpy()
        drawn = np.stack([clip.pictures()[frame] for clip in clips])
        apart = np.abs(painted.astype(int) - drawn)
        assert apart.mean() < 1e-3
        assert (apart > 24).mean() < 1e-5


def test_scenes_come_back_from_tensors() -> None:
    scenes = draw_scenes(200, _rng())
    again = Scenes.of(scenes.scenes())
    same = "count shape color size hue texture writing writing_x writing_y"
    for name in same.split():
        torch.testing.assert_close(getattr(again, name), getattr(scenes, name))
    for name in ("x", "y", "radius", "rot", "shade", "jitter"):
        torch.testing.assert_close(getattr(again, name), getattr(scenes, name), atol=1e-3, rtol=0)


# What the questions are about, and what the tower has to tell apart.
FREQUENCIES: dict[str, Callable[[Scene], Any]] = {
    "objects": lambda scene: len(scene.objects),
    "written": lambda scene: scene.text is not None,
    "starts with a digit": lambda scene: scene.text and scene.text.value[0].isdigit(),
    "hue": lambda scene: scene.background.hue,
    "texture": lambda scene: scene.background.texture,
    "first shape": lambda scene: scene.objects[0].shape,
    "first color": lambda scene: scene.objects[0].color,
    "last size": lambda scene: scene.objects[-1].size,
    "cell of the last": lambda scene: scene.objects[-1].grid,
    "colors": lambda scene: len({item.color for item in scene.objects}),
    "shapes": lambda scene: len({item.shape for item in scene.objects}),
    "names": lambda scene: len({(item.color, item.shape) for item in scene.objects}),
    "clear pairs": lambda scene: sum(
        abs(math.log((abs(a.x - b.x) + 1e-6) / (abs(a.y - b.y) + 1e-6)))
        > math.log(RELATION_DOMINANCE)
        for a, b in itertools.combinations(scene.objects, 2)
    ),
}
NUMBERS: dict[str, Callable[[SceneObject], float]] = {
    "radius": lambda item: item.r,
    "x": lambda item: item.x,
    "y": lambda item: item.y,
    "rot": lambda item: item.rot,
    "shade": lambda item: item.shade,
    "jitter": lambda item: item.jitter[2],
}


@pytest.mark.parametrize("split", HELD)
def test_frequencies_are_those_of_scenes_drawn_one_by_one(split: str) -> None:
    many = draw_scenes(MANY, _rng(1), split).scenes()
    singly = [scene_of(split, index) for index in range(MANY)]
    for name, of in FREQUENCIES.items():
        here, there = Counter(map(of, many)), Counter(map(of, singly))
        for key in here | there:
            assert here[key] / MANY == pytest.approx(there[key] / MANY, abs=0.03), (name, key)
    for name, read in NUMBERS.items():
        shares = [0.02, 0.25, 0.5, 0.75, 0.98]
        here, there = (
            np.quantile([read(item) for scene in scenes for item in scene.objects], shares)
            for scenes in (many, singly)
        )
        span = there[-1] - there[0]
        np.testing.assert_allclose(here, there, atol=0.03 * span, err_msg=name)


@pytest.mark.parametrize(("split", "held_out"), HELD.items())
def test_held_out_pairs_are_drawn_only_in_the_compositional_split(
    split: str, held_out: bool
) -> None:
    for scene in draw_scenes(MANY, _rng(2), split).scenes():
        unseen = [(item.color, item.shape) in HELD_OUT for item in scene.objects]
        assert any(unseen) == held_out


def test_objects_keep_their_distance_from_each_other_from_the_border_and_from_text() -> None:
    for scene in draw_scenes(1500, _rng(3), text_probability=0.8).scenes():
        assert 1 <= len(scene.objects) <= 5
        for i, a in enumerate(scene.objects):
            low, high = SIZE_RADIUS[a.size]
            assert low - 0.01 <= a.r <= high + 0.01
            for place in (a.x, a.y):
                assert a.r - 0.02 <= place <= CANVAS - 1 - a.r + 0.02
            for b in scene.objects[:i]:
                assert math.hypot(a.x - b.x, a.y - b.y) >= 0.88 * (a.r + b.r) - 0.02
    few = draw_scenes(300, _rng(4), max_objects=2)
    assert set(few.count.tolist()) == {1, 2}
    with pytest.raises(BadConfig, match="max_objects is 6"):
        draw_scenes(1, _rng(), max_objects=6)


def test_writings_lie_on_the_canvas_and_no_object_hides_them() -> None:
    scenes = draw_scenes(400, _rng(5), text_probability=1.0)
    written = {WRITINGS[index] for index in scenes.writing.tolist()}
    assert {len(value) for value in written} == {2}
    assert len(written) > 150
    calm = torch.zeros(400, 3, CANVAS, CANVAS)
    bare = replace(scenes, count=torch.zeros_like(scenes.count))
    blank = replace(bare, writing=torch.full_like(scenes.writing, -1))
    pictures = [paint(one, calm) for one in (scenes, bare, blank)]
    ink, objects = ((pictures[1] != other).any(1) for other in (pictures[2], pictures[0]))
    assert ink.flatten(1).any(1).all()
    assert objects.flatten(1).any(1).all()
    assert (ink & objects).sum() < 10  # the corner of a large square may touch


def test_motion_has_the_frequencies_of_clips_and_stays_on_the_canvas() -> None:
    scenes = draw_scenes(3000, _rng(6))
    right, down, frames = draw_motion(scenes, _rng(7))
    moving = (right != 0) | (down != 0)
    assert not (moving & ~scenes.there).any()
    clips = [clip_of("train", index) for index in range(3000)]
    here = Counter(moving.sum(1).tolist())
    there = Counter(sum(way is not None for way in clip.motion) for clip in clips)
    for key in (0, 1, 2):
        assert here[key] / 3000 == pytest.approx(there[key] / 3000, abs=0.03)
    assert Counter(frames.tolist()).keys() == {4, 6, 8}
    last = (frames - 1)[:, None]
    for start, step in ((scenes.x, right), (scenes.y, down)):
        end = (start + step * last)[moving]
        assert (end >= -1e-3).all()
        assert (end <= CANVAS - 1 + 1e-3).all()
    speed = torch.hypot(right, down)[moving]
    assert speed.min() > 1.98
    assert speed.max() < 5.02
    ways = Counter(zip(right[moving].sign().tolist(), down[moving].sign().tolist(), strict=True))
    assert len(ways) == 8


def test_the_same_seed_draws_the_same_scenes() -> None:
    assert draw_scenes(50, _rng(8)).scenes() == draw_scenes(50, _rng(8)).scenes()
    assert draw_scenes(50, _rng(8)).scenes() != draw_scenes(50, _rng(9)).scenes()


def test_patches_have_the_order_of_the_image_processor() -> None:
    frames = torch.randint(256, (2, 2, 3, 64, 64), dtype=torch.uint8)
    rows = [patchify(clip.numpy(), 8, 2, temporal=2)[0] for clip in frames]
    np.testing.assert_array_equal(patches(frames, 8, 2, 2).numpy(), np.concatenate(rows))
    stills = frames[:, 0]
    doubled = stills[:, None].expand(-1, 2, -1, -1, -1)
    torch.testing.assert_close(patches(stills, 8, 2, 2), patches(doubled, 8, 2, 2))


def test_one_thread_draws_and_paints_fast() -> None:
    """A tenth of what a quiet machine does, so that a busy one passes."""
    draw_scenes(16, _rng())
    start = time.perf_counter()
    scenes = draw_scenes(512, _rng())
    drawn = time.perf_counter() - start
    start = time.perf_counter()
    paint(scenes, torch.randn(512, 3, CANVAS, CANVAS))
    painted = time.perf_counter() - start
    assert 512 / drawn > 1500
    assert 512 / painted > 115
