"""Clips of the shapes world: how things move, what the frames show and what is asked about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ming_recipes.nano.world.language import VIDEO_KINDS, questions
from ming_recipes.nano.world.motion import clip_of
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import generator
from ming_recipes.nano.world.vocabulary import DIRECTIONS


def test_movers_keep_their_velocity_and_stay_on_the_canvas() -> None:
    movers: Counter[int] = Counter()
    for index in range(400):
        clip = clip_of("train", index)
        assert clip.frames in (4, 6, 8)
        moving = [i for i, direction in enumerate(clip.motion) if direction is not None]
        movers[len(moving)] += 1
        last = clip.at(clip.frames - 1)
        for i, (before, after) in enumerate(zip(clip.scene.objects, last.objects, strict=True)):
            across, down = after.x - before.x, after.y - before.y
            if i not in moving:
                assert before == after
                continue
            assert min(after.x, after.y) >= 0
            assert max(after.x, after.y) <= 63
            speed = np.hypot(across, down) / (clip.frames - 1)
            assert 1.95 < speed < 5.05
            direction = clip.motion[i]
            assert direction == (np.sign(round(across, 6)), np.sign(round(down, 6)))
    assert set(movers) == {0, 1, 2}
    assert movers[1] > movers[0]


def test_frames_of_a_video_share_all_but_noise_and_movers() -> None:
    clip = next(c for c in (clip_of("train", i) for i in range(99)) if any(c.motion))
    pictures = clip.pictures().astype(float)
    assert pictures.shape == (clip.frames, 64, 64, 3)
    np.testing.assert_array_equal(pictures[0], render(clip.scene))
    still = replace(clip, steps=((0.0, 0.0),) * len(clip.steps)).pictures().astype(float)
    assert np.abs(still[1] - still[0]).mean() < 6  # two draws of noise of sigma 3.5
    assert (still[1] != still[0]).mean() > 0.5
    assert np.abs(pictures[-1] - pictures[0]).max() > 40


def test_questions_about_a_video_say_what_moves() -> None:
    checked: Counter[str] = Counter()
    for index in range(600):
        clip = clip_of("val", index)
        moving = [i for i, direction in enumerate(clip.motion) if direction is not None]
        asked = questions(clip.scene, generator(index, 79), "en", motion=clip.motion)
        assert {q.kind for q in asked} <= set(VIDEO_KINDS)
        for q in asked:
            checked[q.kind] += 1
            if q.kind == "video_count":
                assert q.answer == str(len(moving))
            elif q.kind == "video_which":
                item = clip.scene.objects[moving[0]]
                assert (q.answer, len(moving)) == (f"{item.color} {item.shape}", 1)
            elif q.kind == "video_moves":
                assert (q.answer == "yes") == (q.objects[0] in moving)
            else:
                direction = clip.motion[q.objects[0]]
                assert direction is not None
                assert q.answer == DIRECTIONS[direction].en
    assert min(checked[kind] for kind in VIDEO_KINDS) > 100
