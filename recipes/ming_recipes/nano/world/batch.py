"""Training examples: a picture or video, conversations about it, dense labels of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ming_recipes.nano.world.foreign import NOTHING, UNKNOWN, foreign_picture, foreign_question
from ming_recipes.nano.world.frames import cut
from ming_recipes.nano.world.language import Motion, Question, follow_up, sample_questions
from ming_recipes.nano.world.lettering import lettering
from ming_recipes.nano.world.motion import sample_clip
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import (
    MAX_OBJECTS,
    MOTION_STREAM,
    QUESTION_STREAM,
    SCENE_STREAM,
    TEXT_PROBABILITY,
    Scene,
    generator,
    sample_scene,
    seed_of,
)
from ming_recipes.nano.world.vocabulary import (
    CANVAS,
    COLORS,
    SHAPES,
    SIZES,
    TEXT_LETTERS,
)

OTHER_STREAM = 13

THINKING_KINDS = (
    "count_color",
    "count_shape",
    "exist",
    "relation",
    "relation_side",
    "relation_query",
    "position",
)
"""Kinds whose answers may follow a thought."""

CHARACTERS = "0123456789" + TEXT_LETTERS
"""Every character that is written into pictures; labels index into it."""

ATTRIBUTES: tuple[str, ...] = (*SHAPES, *COLORS, *SIZES)
"""Names behind the last axis of `CellLabels.attributes`; each is also its English word."""

_SHAPE_INDEX = {name: index for index, name in enumerate(SHAPES)}
_COLOR_INDEX = {name: index for index, name in enumerate(COLORS)}
_SIZE_INDEX = {name: index for index, name in enumerate(SIZES)}


@dataclass(frozen=True)
class CellLabels:
    """Labels of the [cells, cells] squares of the canvas; -1 where there is nothing.

    index: int64 of the object whose centre lies in the cell (the last one if two do); shape,
    color, size: its int64 indices into the vocabulary tables; offset [cells, cells, 2] float32:
    x, y of that centre within the cell in 0..1, 0 where empty; radius [cells, cells] float32 in px,
    0 where empty; character: int64 index into CHARACTERS of the character centred in the cell;
    attributes [cells, cells, 19] float32: multi-hot ATTRIBUTES of all objects centred in the cell.
    """

    index: np.ndarray
    shape: np.ndarray
    color: np.ndarray
    size: np.ndarray
    offset: np.ndarray
    radius: np.ndarray
    character: np.ndarray
    attributes: np.ndarray


@dataclass(frozen=True)
class Mix:
    """What training examples are made of; shares of 1, drawn independently per example.

    video: share of clips; think: of examples answered after a thought. dialogue: share of
    questions asked after others in one conversation instead of alone. still_clips: videos last
    two frames, so that an image encoder sees one picture with motion in it. more_phrases: share of
    questions that are asked as in `world.loose`. framed: of stills, those that are wide or tall
    (`world.frames`). unknown: of examples, those about something that is not of the world
    (`world.foreign`).
    """

    questions: int = 14
    max_objects: int = MAX_OBJECTS
    text: float = TEXT_PROBABILITY
    video: float = 0.0
    still_clips: bool = False
    think: float = 0.0
    dialogue: float = 0.0
    focus: Mapping[str, float] = field(default_factory=dict)
    more_phrases: float = 0.0
    framed: float = 0.0
    unknown: float = 0.0


@dataclass(frozen=True)
class Example:
    """A picture or video and conversations about it.

    pictures [T, 64, 64, 3] uint8, one for a still, which may be wide or tall; scenes and motions:
    what each temporal patch (the still, or two frames) shows, as it lies on the square; a
    conversation is one or more questions in a row.
    """

    pictures: np.ndarray
    scenes: tuple[Scene, ...]
    motions: tuple[Motion, ...]
    dialogues: list[tuple[Question, ...]]
    think: bool = False

    @property
    def is_video(self) -> bool:
        return len(self.pictures) > 1


def training_example(index: int, mix: Mix, split: str = "train") -> Example:
    """The example of an index: a pure function of the seed and the mix. Languages 70 / 30."""
    seed = seed_of(split, index)
    scene = sample_scene(generator(seed, SCENE_STREAM), split, mix.max_objects, mix.text)
    rng = generator(seed, QUESTION_STREAM)
    # Draws of their own: without these shares, examples are those of the world's version.
    other = generator(seed, OTHER_STREAM)
    if other.random() < mix.unknown:
        return _foreign_example(scene, other, mix)
    if rng.random() < mix.video:
        return _video_example(scene, seed, rng, mix)
    think = rng.random() < mix.think
    kinds = THINKING_KINDS if think else None
    picture = render(scene)
    found = cut(scene, other) if other.random() < mix.framed else None
    if found is not None:
        part, scene = found
        picture = part.of(picture)
    asked = sample_questions(
        scene, rng, mix.questions, kinds=kinds, focus=mix.focus, more_phrases=mix.more_phrases
    )
    dialogues = list(_conversations(scene, asked, rng, 0.0 if think else mix.dialogue))
    return Example(picture[None], (scene,), ((None,) * len(scene.objects),), dialogues, think)


def _foreign_example(scene: Scene, rng: np.random.Generator, mix: Mix) -> Example:
    """A picture of other things with questions of the world, or one of the world with other
    questions: all that can be said is that one does not know."""
    strange = rng.random() < 0.5
    picture = foreign_picture(rng) if strange else render(scene)
    dialogues: list[tuple[Question, ...]] = []
    for usual in sample_questions(scene, rng, mix.questions, more_phrases=mix.more_phrases):
        asked = usual.question if strange else foreign_question(rng, usual.lang)
        answer = UNKNOWN[usual.lang]
        dialogues.append((Question("unknown", usual.lang, asked, answer, 0, ()),))
    shown = NOTHING if strange else scene
    return Example(picture[None], (shown,), ((None,) * len(shown.objects),), dialogues)


def _video_example(scene: Scene, seed: int, rng: np.random.Generator, mix: Mix) -> Example:
    clip = sample_clip(generator(seed, MOTION_STREAM), scene)
    if mix.still_clips:
        clip = clip.shortened(2)
    scenes = tuple(clip.at(first + 0.5) for first in range(0, clip.frames, 2))
    asked = sample_questions(
        scene, rng, mix.questions, motion=clip.motion, more_phrases=mix.more_phrases
    )
    dialogues = list(_conversations(scene, asked, rng, mix.dialogue))
    return Example(clip.pictures(), scenes, (clip.motion,) * len(scenes), dialogues)


def _conversations(
    scene: Scene, asked: Sequence[Question], rng: np.random.Generator, share: float
) -> Iterator[tuple[Question, ...]]:
    """Join some questions into conversations of two or three turns, half of them with an "it"."""
    queue = list(reversed(asked))
    while queue:
        turns = [queue.pop()]
        while queue and len(turns) < 3 and rng.random() < share:
            more = follow_up(scene, turns[-1], rng) if rng.random() < 0.5 else None
            turns.append(more or queue.pop())
        yield tuple(turns)


def cell_labels(scene: Scene, cells: int = 8) -> CellLabels:
    """Dense labels on a cells x cells grid over the canvas."""
    index, shape, color, size, character = np.full((5, cells, cells), -1, dtype=np.int64)
    offset = np.zeros((cells, cells, 2), dtype=np.float32)
    radius = np.zeros((cells, cells), dtype=np.float32)
    attributes = np.zeros((cells, cells, len(ATTRIBUTES)), dtype=np.float32)
    for number, item in enumerate(scene.objects):
        column, row, dx, dy = cell_of(item.x, item.y, cells)
        index[row, column] = number
        shape[row, column] = _SHAPE_INDEX[item.shape]
        color[row, column] = _COLOR_INDEX[item.color]
        size[row, column] = _SIZE_INDEX[item.size]
        offset[row, column] = dx, dy
        radius[row, column] = item.r
        here = attributes[row, column]
        here[_SHAPE_INDEX[item.shape]] = 1
        here[len(SHAPES) + _COLOR_INDEX[item.color]] = 1
        here[len(SHAPES) + len(COLORS) + _SIZE_INDEX[item.size]] = 1
    if scene.text is not None:
        centers = lettering(scene.text.value).centers
        for letter, (x, y) in zip(scene.text.value, centers, strict=True):
            column, row, _, _ = cell_of(scene.text.x + x, scene.text.y + y, cells)
            character[row, column] = CHARACTERS.index(letter)
    return CellLabels(index, shape, color, size, offset, radius, character, attributes)


def cell_of(x: float, y: float, cells: int) -> tuple[int, int, float, float]:
    """Column, row and the position within that cell; the canvas spans -0.5 to 63.5."""
    across, down = (x + 0.5) * cells / CANVAS, (y + 0.5) * cells / CANVAS
    column, row = min(max(int(across), 0), cells - 1), min(max(int(down), 0), cells - 1)
    return column, row, across - column, down - row
