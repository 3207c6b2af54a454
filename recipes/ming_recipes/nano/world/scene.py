"""What is in a picture: objects, background, written text; and how it is drawn by lot."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from ming_core.errors import BadConfig, UnknownName
from ming_recipes.nano.world.lettering import lettering
from ming_recipes.nano.world.vocabulary import (
    CANVAS,
    COLORS,
    HELD_OUT,
    HUES,
    SHAPES,
    SIZE_RADIUS,
    SIZES,
    TEXT_DIGITS,
    TEXT_LETTERS,
    TEXTURES,
    WORLD,
)

T = TypeVar("T")

MAX_OBJECTS = 5
RELATION_DOMINANCE = 1.4
REACH = 1.1
"""Largest extent of any shape from its centre, in radii (the tips of a star)."""

COUNT_WEIGHTS = (0.15, 0.25, 0.25, 0.20, 0.15)
SIZE_WEIGHTS = (0.35, 0.40, 0.25)
MIN_DISTANCE = 0.88  # of r1 + r2: at most slight occlusion
TRIES = 200  # of a place, for all objects of a scene
TEXT_PROBABILITY = 0.3
JITTER = 7  # spread of the RGB of an object around its colour
TILT = 0.2  # rad, at most
# An object repeats an earlier colour (shape) this often, so that counts above one are not rare.
REPEAT_PROBABILITY = 0.2

SPLITS: dict[str, range] = {
    "train": range(2**31),
    "val": range(2**31, 2**31 + 1_000_000),
    "test": range(2**31 + 1_000_000, 2**31 + 2_000_000),
    "compositional": range(2**31 + 2_000_000, 2**31 + 3_000_000),
}
"""Seeds of each split; an index counts from the start of its split."""

SCENE_STREAM, QUESTION_STREAM, TEXTURE_STREAM, NOISE_STREAM, MOTION_STREAM = range(5)
"""Independent random streams of one seed."""

STREAMS = 16
"""Distance of the streams of one frame of a video from those of the next."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object. r, x, y in px, rot in rad, jitter is added to the RGB centre of the colour,
    shade is the direction in rad in which the colour brightens."""

    shape: str
    color: str
    size: str
    r: float
    x: float
    y: float
    rot: float
    jitter: tuple[float, float, float]
    shade: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the disc of radius r, inclusive px clipped to the canvas."""
        last = CANVAS - 1
        x0, y0 = math.floor(self.x - self.r + 0.5), math.floor(self.y - self.r + 0.5)
        x1, y1 = math.floor(self.x + self.r + 0.5), math.floor(self.y + self.r + 0.5)
        return max(x0, 0), max(y0, 0), min(x1, last), min(y1, last)

    @property
    def row(self) -> int:
        """Third of the canvas, 0 at the top."""
        return _third(self.y)

    @property
    def column(self) -> int:
        """Third of the canvas, 0 at the left."""
        return _third(self.x)

    @property
    def grid(self) -> int:
        """Index into `vocabulary.GRID`."""
        return 3 * self.row + self.column


@dataclass(frozen=True, slots=True)
class Background:
    """Hue and texture; seed fixes the texture, its jitter and the sensor noise."""

    hue: str
    texture: str
    seed: int


@dataclass(frozen=True, slots=True)
class RenderedText:
    """A written string; x, y: top left px of its ink."""

    value: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture; objects in drawing order, later ones nearer."""

    objects: tuple[SceneObject, ...]
    background: Background
    text: RenderedText | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` restores an equal scene."""
        record = asdict(self)
        record["objects"] = [{**item, "jitter": list(item["jitter"])} for item in record["objects"]]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Scene:
        """Raises BadConfig if a field is missing or unknown."""
        try:
            objects = tuple(
                SceneObject(**{**item, "jitter": tuple(item["jitter"])})
                for item in record["objects"]
            )
            text = record.get("text")
            return cls(
                objects,
                Background(**record["background"]),
                RenderedText(**text) if text else None,
            )
        except (KeyError, TypeError) as error:
            raise BadConfig(
                f"a scene record cannot be read ({error}); expected the fields objects, "
                f"background and text of {WORLD}; write it with Scene.to_dict"
            ) from error


def relation(a: SceneObject, b: SceneObject) -> str | None:
    """Where a lies seen from b, or None if no axis clearly dominates."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) > RELATION_DOMINANCE * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) > RELATION_DOMINANCE * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def seed_of(split: str, index: int) -> int:
    """The world-wide seed of a record; raises UnknownName or BadConfig outside the splits."""
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    seeds = SPLITS[split]
    if not 0 <= index < len(seeds):
        raise BadConfig(
            f"index {index} lies outside split {split!r}; choose one from 0 to {len(seeds) - 1}"
        )
    return seeds[index]


def generator(seed: int, stream: int) -> np.random.Generator:
    """A fresh counter-based generator: record i is reachable without record i - 1."""
    bits = np.random.Philox(key=[_world_key(), seed], counter=[0, 0, 0, stream])
    return np.random.Generator(bits)


def scene_of(split: str, index: int, max_objects: int = MAX_OBJECTS) -> Scene:
    """The scene of a record."""
    return sample_scene(generator(seed_of(split, index), SCENE_STREAM), split, max_objects)


def sample_scene(
    rng: np.random.Generator,
    split: str = "train",
    max_objects: int = MAX_OBJECTS,
    text_probability: float = TEXT_PROBABILITY,
) -> Scene:
    """Draw a scene. Only "compositional" holds held-out colour-shape pairs, and always one."""
    if not 1 <= max_objects <= MAX_OBJECTS:
        raise BadConfig(f"max_objects is {max_objects}; choose 1 to {MAX_OBJECTS}")
    background = Background(
        hue=pick(rng, _HUES), texture=pick(rng, _TEXTURES), seed=int(rng.random() * 2**48)
    )
    text = _sample_text(rng) if rng.random() < text_probability else None
    count = 1 + weighted(rng, COUNT_WEIGHTS[:max_objects])
    names = _sample_names(rng, count, split == "compositional")
    objects: list[SceneObject] = []
    tries = TRIES
    for color, shape in names:
        placed, tries = _place(rng, color, shape, objects, text, tries)
        if placed is None:
            break
        objects.append(placed)
    return Scene(tuple(objects), background, text)


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """One item, uniformly (much faster than Generator.choice)."""
    return items[int(rng.random() * len(items))]


_SHAPES, _COLORS, _SIZES = tuple(SHAPES), tuple(COLORS), tuple(SIZES)
_HUES, _TEXTURES = tuple(HUES), tuple(TEXTURES)
_HELD_OUT = tuple(sorted(HELD_OUT))


@cache
def _world_key() -> int:
    return int.from_bytes(hashlib.sha256(WORLD.encode()).digest()[:8], "little")


def _third(position: float) -> int:
    return min(max(int((position + 0.5) * 3 / CANVAS), 0), 2)


def weighted(rng: np.random.Generator, weights: Collection[float]) -> int:
    """An index, as often as its weight says."""
    point = rng.random() * sum(weights)
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return len(weights) - 1


def _sample_names(
    rng: np.random.Generator, count: int, compositional: bool
) -> list[tuple[str, str]]:
    """Colour-shape pairs. A compositional list starts with a held-out pair, because the first
    object always finds a place."""
    names: list[tuple[str, str]] = []
    if compositional:
        names.append(pick(rng, _HELD_OUT))
    while len(names) < count:
        color, shape = pick(rng, _COLORS), pick(rng, _SHAPES)
        if names and rng.random() < REPEAT_PROBABILITY:
            color = pick(rng, names)[0]
        if names and rng.random() < REPEAT_PROBABILITY:
            shape = pick(rng, names)[1]
        if compositional or (color, shape) not in HELD_OUT:
            names.append((color, shape))
    return names


def _sample_text(rng: np.random.Generator) -> RenderedText:
    if rng.random() < 0.5:
        value = pick(rng, TEXT_LETTERS) + pick(rng, TEXT_DIGITS)
    else:
        value = str(10 + int(rng.random() * 90))
    height, width = lettering(value).coverage.shape
    x = 1 + int(rng.random() * (CANVAS - 1 - width))
    y = 1 + int(rng.random() * (CANVAS - 1 - height))
    return RenderedText(value, x, y)


def _place(
    rng: np.random.Generator,
    color: str,
    shape: str,
    others: Sequence[SceneObject],
    text: RenderedText | None,
    tries: int,
) -> tuple[SceneObject | None, int]:
    size = _SIZES[weighted(rng, SIZE_WEIGHTS)]
    low, high = SIZE_RADIUS[size]
    r = round(low + rng.random() * (high - low), 2)
    last = CANVAS - 1
    while tries > 0:
        tries -= 1
        x = round(r + rng.random() * (last - 2 * r), 2)
        y = round(r + rng.random() * (last - 2 * r), 2)
        if text is not None and _touches(text, x, y, REACH * r + 1):
            continue
        if any(
            math.hypot(x - other.x, y - other.y) < MIN_DISTANCE * (r + other.r) for other in others
        ):
            continue
        jitter = rng.standard_normal(3) * JITTER
        return SceneObject(
            shape=shape,
            color=color,
            size=size,
            r=r,
            x=x,
            y=y,
            rot=round(rng.random() * 2 * TILT - TILT, 3),
            jitter=(round(jitter[0], 1), round(jitter[1], 1), round(jitter[2], 1)),
            shade=round(rng.random() * 2 * math.pi, 3),
        ), tries
    return None, 0


def _touches(text: RenderedText, x: float, y: float, reach: float) -> bool:
    height, width = lettering(text.value).coverage.shape
    dx = max(text.x - x, 0.0, x - (text.x + width - 1))
    dy = max(text.y - y, 0.0, y - (text.y + height - 1))
    return dx * dx + dy * dy < reach * reach
