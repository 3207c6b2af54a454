"""Training examples: a picture, many questions about it, and dense labels of its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ming_recipes.world.language import Question, draw_language, sample_questions
from ming_recipes.world.lettering import lettering
from ming_recipes.world.render import render
from ming_recipes.world.scene import (
    MAX_OBJECTS,
    QUESTION_STREAM,
    SCENE_STREAM,
    TEXT_PROBABILITY,
    Scene,
    generator,
    sample_scene,
    seed_of,
)
from ming_recipes.world.vocabulary import (
    CANVAS,
    COLORS,
    SHAPES,
    SIZES,
    TEXT_LETTERS,
    Language,
)

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

    shape, color, size: int64 index into the vocabulary tables of the object whose centre lies in
    the cell (the nearest one if two do); offset [cells, cells, 2] float32: x, y of that centre
    within the cell in 0..1, 0 where empty; radius [cells, cells] float32 in px, 0 where empty;
    character: int64 index into CHARACTERS of the character centred in the cell;
    attributes [cells, cells, 19] float32: multi-hot ATTRIBUTES of all objects centred in the cell.
    """

    shape: np.ndarray
    color: np.ndarray
    size: np.ndarray
    offset: np.ndarray
    radius: np.ndarray
    character: np.ndarray
    attributes: np.ndarray


def training_example(
    index: int,
    language: Language | Literal["mixed"] | None = None,
    n_questions: int = 16,
    max_objects: int = MAX_OBJECTS,
    split: str = "train",
    text_probability: float = TEXT_PROBABILITY,
    focus: Mapping[str, float] | None = None,
) -> tuple[np.ndarray, Scene, list[Question]]:
    """Image [64, 64, 3] uint8, its scene and up to n_questions questions.

    language None draws one per image (70 % English), "mixed" one per question.
    """
    seed = seed_of(split, index)
    scene = sample_scene(generator(seed, SCENE_STREAM), split, max_objects, text_probability)
    rng = generator(seed, QUESTION_STREAM)
    if language is None:
        language = draw_language(rng)
    mixed = None if language == "mixed" else language
    asked = sample_questions(scene, rng, n_questions, mixed, focus=focus)
    return render(scene), scene, asked


def cell_labels(scene: Scene, cells: int = 8) -> CellLabels:
    """Dense labels on a cells x cells grid over the canvas."""
    shape, color, size, character = np.full((4, cells, cells), -1, dtype=np.int64)
    offset = np.zeros((cells, cells, 2), dtype=np.float32)
    radius = np.zeros((cells, cells), dtype=np.float32)
    attributes = np.zeros((cells, cells, len(ATTRIBUTES)), dtype=np.float32)
    for item in scene.objects:
        column, row, dx, dy = _cell(item.x, item.y, cells)
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
            column, row, _, _ = _cell(scene.text.x + x, scene.text.y + y, cells)
            character[row, column] = CHARACTERS.index(letter)
    return CellLabels(shape, color, size, offset, radius, character, attributes)


def _cell(x: float, y: float, cells: int) -> tuple[int, int, float, float]:
    """Column, row and the position within that cell; the canvas spans -0.5 to 63.5."""
    across, down = (x + 0.5) * cells / CANVAS, (y + 0.5) * cells / CANVAS
    column, row = min(max(int(across), 0), cells - 1), min(max(int(down), 0), cells - 1)
    return column, row, across - column, down - row
