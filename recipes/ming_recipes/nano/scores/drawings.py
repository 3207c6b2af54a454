"""Drawings of any size in nano's shapes, and how often nano is right about them.

    python -m ming_recipes.nano.scores.drawings [DRAWINGS]

prints the shares for several sizes of pictures. The objects of a drawing are as large, against its
longer side, as those of the pictures that nano was taught (docs/nano.md).
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ming_core.api import OmniModel, load
from ming_core.media import Image, Message, Video, user
from ming_recipes.nano.world import render
from ming_recipes.nano.world.vocabulary import CANVAS, COLOR_RGB, HELD_OUT, HUE_RGB, SHAPES
from ming_vision.clicks import Action
from ming_vision.grounding import Box, Grounding

SIZES = ((64, 64), (1024, 1024), (640, 480), (1920, 1080), (480, 1280))
RADIUS = 5 / CANVAS, 12 / CANVAS
"""Least and largest radius of an object in shares of the longer side."""


@dataclass(frozen=True)
class Drawn:
    """An object: its centre and radius in px."""

    color: str
    shape: str
    x: float
    y: float
    r: float

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    @property
    def box(self) -> Box:
        return Box(self.x - self.r, self.y - self.r, self.x + self.r, self.y + self.r)


def drawing(rng: np.random.Generator, width: int, height: int) -> tuple[list[Drawn], np.ndarray]:
    """Two or three objects of different colours and shapes, and the picture [H, W, 3] uint8."""
    objects: list[Drawn] = []
    count = 2 + int(rng.integers(2))
    while len(objects) < count:
        color, shape = (str(rng.choice(list(names))) for names in (COLOR_RGB, SHAPES))
        largest = min(RADIUS[1] * max(width, height), 0.3 * min(width, height))
        r = float(rng.uniform(RADIUS[0] * max(width, height), largest))
        x, y = (float(rng.uniform(1.1 * r, side - 1.1 * r)) for side in (width, height))
        apart = all(math.hypot(x - o.x, y - o.y) > 1.1 * (r + o.r) for o in objects)
        other = all(color != o.color and shape != o.shape for o in objects)
        if apart and other and (color, shape) not in HELD_OUT:
            objects.append(Drawn(color, shape, x, y, r))
    hue = HUE_RGB[str(rng.choice(list(HUE_RGB)))]
    return objects, painted(objects, width, height, hue)


def painted(objects: list[Drawn], width: int, height: int, hue: tuple[int, int, int]) -> np.ndarray:
    picture = np.empty((height, width, 3), dtype=np.float32)
    picture[:] = hue
    for item in objects:
        x0, x1 = (min(max(int(item.x + s * 1.2 * item.r), 0), width) for s in (-1, 1))
        y0, y1 = (min(max(int(item.y + s * 1.2 * item.r), 0), height) for s in (-1, 1))
        across = (np.arange(x0, x1, dtype=np.float32) - item.x) / np.float32(item.r)
        down = (np.arange(y0, y1, dtype=np.float32)[:, None] - item.y) / np.float32(item.r)
        cover = np.clip(0.5 - render.distance(item.shape, across, down) * item.r, 0, 1)[..., None]
        part = picture[y0:y1, x0:x1]
        part += cover * (np.array(COLOR_RGB[item.color], dtype=np.float32) - part)
    return picture.round().clip(0, 255).astype(np.uint8)


def questions(objects: list[Drawn]) -> Iterator[tuple[str, str]]:
    """Questions about a drawing and their answers."""
    yield "how many shapes are there?", str(len(objects))
    for item in objects:
        yield f"what color is the {item.shape}?", item.color
        yield f"what shape is the {item.color} object?", item.shape
        yield f"is there a {item.name}?", "yes"
    first, second = objects[:2]
    across, down = second.x - first.x, second.y - first.y
    if abs(across) > 1.4 * abs(down):
        right = "yes" if across > 0 else "no"
        yield f"is the {first.shape} to the left of the {second.shape}?", right


def scores(model: OmniModel, width: int, height: int, drawings: int) -> Mapping[str, float]:
    """Share of right boxes (half overlap), clicks (on the object) and answers."""
    rng = np.random.default_rng(width * height)
    right: dict[str, list[bool]] = defaultdict(list)
    asked: list[tuple[list[Message], str]] = []
    for _ in range(drawings):
        objects, picture = drawing(rng, width, height)
        one = objects[0]
        found: Grounding = model.ground(picture, one.name)
        right["boxes"].append(any(box.iou(one.box) >= 0.5 for box in found.boxes))
        action: Action = model.click(picture, one.name)
        place = (
            (math.inf, math.inf) if action.x is None or action.y is None else (action.x, action.y)
        )
        right["clicks"].append(math.dist(place, (one.x, one.y)) <= one.r)
        asked += [([user(Image(picture), question)], a) for question, a in questions(objects)]
    answers = model.answer_batch([messages for messages, _ in asked], max_new_tokens=16)
    for (_, expected), answer in zip(asked, answers, strict=True):
        right["questions"].append(answer.text == expected)
    return {name: sum(hits) / len(hits) for name, hits in right.items()}


def moving(
    rng: np.random.Generator, width: int, height: int
) -> tuple[Video, list[tuple[str, str]]]:
    """A video in which one of the objects moves along the longer side, and what is asked of it."""
    objects, _ = drawing(rng, width, height)
    one, *others = objects
    longer = max(width, height)
    hue = HUE_RGB[str(rng.choice(list(HUE_RGB)))]
    forth = (one.x if width > height else one.y) < longer / 2
    step = (1 if forth else -1) * 3.5 * longer / CANVAS
    frames = []
    for number in range(6):
        dx, dy = (step * number, 0) if width > height else (0, step * number)
        moved = Drawn(one.color, one.shape, one.x + dx, one.y + dy, one.r)
        frames.append(painted([*others, moved], width, height, hue))
    names = ("right", "left") if width > height else ("down", "up")
    way = names[0 if forth else 1]
    asked = [("what moves?", one.name), (f"which way does the {one.name} move?", way)]
    return Video(frames), asked


def video_scores(model: OmniModel, width: int, height: int, videos: int) -> float:
    """Share of right answers to what moves and which way."""
    rng = np.random.default_rng(width * height)
    clips = [moving(rng, width, height) for _ in range(videos)]
    asked = [(user(clip, question), a) for clip, pairs in clips for question, a in pairs]
    answers = model.answer_batch([[message] for message, _ in asked], max_new_tokens=16)
    return float(np.mean([answer.text == a for answer, (_, a) in zip(answers, asked, strict=True)]))


if __name__ == "__main__":
    nano = load("nano")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    for wide, high in SIZES:
        shares = dict(scores(nano, wide, high, count))
        shares["videos"] = video_scores(nano, wide, high, count // 2)
        shown = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        print(f"{wide} x {high}: {shown}", flush=True)
