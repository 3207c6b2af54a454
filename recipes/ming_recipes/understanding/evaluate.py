"""Scores of a model on held-out scenes, by generating and comparing whole answers.

Slices: `test` (new scenes, known phrasings), `compositional` (scenes that hold a colour-shape pair
which training neither drew nor named), `unseen pair` (of those, only the questions that name such a
pair or are answered by it), `paraphrase` (known kinds, phrasings kept from training); each in
English and Chinese.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from rich.progress import track

from ming_core.api import OmniModel
from ming_core.media import Image, Message, user
from ming_recipes.world.language import Question, questions
from ming_recipes.world.render import render
from ming_recipes.world.scene import QUESTION_STREAM, Scene, generator, scene_of, seed_of
from ming_recipes.world.vocabulary import HELD_OUT, Language


@dataclass(frozen=True)
class Slice:
    """A split, asked in held-out phrasings or not, and whether only about unseen pairs."""

    split: str
    held_out_phrasing: bool = False
    unseen_pairs_only: bool = False


SLICES: dict[str, Slice] = {
    "test": Slice("test"),
    "compositional": Slice("compositional"),
    "unseen pair": Slice("compositional", unseen_pairs_only=True),
    "paraphrase": Slice("test", held_out_phrasing=True),
}

LANGUAGES: tuple[Language, ...] = ("en", "zh")
CAPTION = "describe"
BATCH = 64
LONGEST = 96  # tokens; the longest description has about 60


@dataclass(frozen=True)
class Asked:
    """One question of a slice and the picture it is about."""

    message: Message
    question: Question


def ask_slice(name: str, language: Language, images: int) -> Iterator[Asked]:
    """One question of every kind that a scene allows, for the first `images` scenes of a slice."""
    chosen = SLICES[name]
    for index in range(images):
        scene = scene_of(chosen.split, index)
        picture = Image(render(scene))
        rng = generator(seed_of(chosen.split, index), QUESTION_STREAM)
        for question in questions(scene, rng, language, chosen.held_out_phrasing):
            if not chosen.unseen_pairs_only or _about_unseen(scene, question):
                yield Asked(user(picture, question.question), question)


def _about_unseen(scene: Scene, question: Question) -> bool:
    items = (scene.objects[i] for i in question.objects)
    return any((item.color, item.shape) in HELD_OUT for item in items)


def is_right(question: Question, answer: str) -> bool:
    """Whether the whole answer is right; a box counts from an overlap (IoU) of one half."""
    if question.kind != "locate":
        return answer == question.answer
    return box_iou(answer, question.answer) >= 0.5


def box_iou(first: str, second: str) -> float:
    """Intersection over union of two boxes "x0 y0 x1 y1", inclusive px; 0 for an unreadable one."""
    try:
        a, b = ([int(value) for value in text.split()] for text in (first, second))
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a, b
    except ValueError:
        return 0.0
    width = min(ax1, bx1) - max(ax0, bx0) + 1
    height = min(ay1, by1) - max(ay0, by0) + 1
    if width <= 0 or height <= 0 or ax1 < ax0 or ay1 < ay0:
        return 0.0
    overlap = width * height
    areas = (ax1 - ax0 + 1) * (ay1 - ay0 + 1) + (bx1 - bx0 + 1) * (by1 - by0 + 1)
    return overlap / (areas - overlap)


def evaluate(model: OmniModel, images: int) -> dict[str, dict[str, float]]:
    """Share of right answers per slice and language ("test en", …), by kind.

    `vqa` is the mean over the kinds of question, `caption` the exactly right full descriptions.
    """
    scores = {}
    for name in SLICES:
        for language in LANGUAGES:
            asked = list(ask_slice(name, language, images))
            scores[f"{name} {language}"] = _score(model, asked, f"{name} {language}")
    return scores


def _score(model: OmniModel, asked: list[Asked], title: str) -> dict[str, float]:
    hits: dict[str, list[bool]] = defaultdict(list)
    # Similar lengths together: a batch runs until its longest answer has ended.
    asked = sorted(asked, key=lambda item: len(item.question.answer))
    starts = range(0, len(asked), BATCH)
    for start in track(starts, title, transient=True, disable=len(asked) < BATCH):
        batch = asked[start : start + BATCH]
        answers = model.answer_batch([[item.message] for item in batch], max_new_tokens=LONGEST)
        for item, answer in zip(batch, answers, strict=True):
            hits[item.question.kind].append(is_right(item.question, answer.text))
    kinds = {kind: sum(right) / len(right) for kind, right in sorted(hits.items())}
    captions = kinds.pop(CAPTION, None)
    scores = {"vqa": sum(kinds.values()) / len(kinds) if kinds else 0.0}
    if captions is not None:
        scores["caption"] = captions
    return {**scores, **kinds}
