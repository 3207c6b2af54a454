"""Videos: a scene in which one or two objects move at constant velocity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ming_recipes.nano.world.language import Motion
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import MOTION_STREAM, Scene, generator, pick, scene_of, seed_of
from ming_recipes.nano.world.vocabulary import CANVAS, DIRECTIONS

FPS = 2.0
"""Frames per second of a clip, the rate at which the released models look at a video."""

FRAMES = (4, 6, 8)
SPEED = (2.0, 5.0)  # px per frame
MOVERS = (0.15, 0.50, 0.35)  # probability of none, one, two
TRIES = 12


@dataclass(frozen=True)
class Clip:
    """A video. scene: its first frame; steps: px to the right and down per frame, per object."""

    scene: Scene
    steps: tuple[tuple[float, float], ...]
    frames: int

    def at(self, frame: float) -> Scene:
        """The scene at a frame; halves lie between two frames."""
        moved = (
            replace(item, x=item.x + dx * frame, y=item.y + dy * frame)
            for item, (dx, dy) in zip(self.scene.objects, self.steps, strict=True)
        )
        return replace(self.scene, objects=tuple(moved))

    @cached_property
    def motion(self) -> Motion:
        """Direction of each object, None at rest."""
        return tuple(
            (int(np.sign(dx)), int(np.sign(dy))) if dx or dy else None for dx, dy in self.steps
        )

    def shortened(self, frames: int) -> Clip:
        """Its beginning."""
        return replace(self, frames=min(frames, self.frames))

    def pictures(self) -> np.ndarray:
        """Its frames [T, 64, 64, 3] uint8."""
        return np.stack([render(self.at(frame), frame) for frame in range(self.frames)])


def clip_of(split: str, index: int) -> Clip:
    """The video of a record; its first frame is the scene of the same index."""
    rng = generator(seed_of(split, index), MOTION_STREAM)
    return sample_clip(rng, scene_of(split, index))


def sample_clip(rng: np.random.Generator, scene: Scene) -> Clip:
    """Set up to two objects of a scene in motion; their centres stay on the canvas."""
    frames = pick(rng, FRAMES)
    point = rng.random()
    movers = 0 if point < MOVERS[0] else 1 if point < MOVERS[0] + MOVERS[1] else 2
    steps = [(0.0, 0.0)] * len(scene.objects)
    order = rng.permutation(len(scene.objects))
    for index in order[:movers]:
        item = scene.objects[index]
        for _ in range(TRIES):
            across, down = pick(rng, _DIRECTIONS)
            speed = SPEED[0] + rng.random() * (SPEED[1] - SPEED[0])
            speed = round(speed / float(np.hypot(across, down)), 2)
            x, y = (
                start + step * speed * (frames - 1)
                for start, step in ((item.x, across), (item.y, down))
            )
            if min(x, y) >= 0 and max(x, y) <= CANVAS - 1:
                steps[index] = (across * speed, down * speed)
                break
    return Clip(scene, tuple(steps), frames)


_DIRECTIONS = tuple(DIRECTIONS)
