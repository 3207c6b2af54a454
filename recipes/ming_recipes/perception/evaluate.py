"""Scores of a model on held-out scenes, by generating and comparing whole answers.

Each slice is scored in English and Chinese:
test: new scenes, known phrasings. compositional: scenes that hold a colour-shape pair which
training neither drew nor named. unseen pair: of those, only the questions that name such a pair or
are answered by it. paraphrase: phrasings kept from training. conversation: the questions of `test`,
each asked after two others and the model's own answers to them. follow-up: a second question about
"it". thinking: answers after a thought. video: what moves, and where.

Of a model that hears, also: asked aloud: a spoken question about a picture, in a voice that
training never heard. asked in writing: the same questions, for comparison. about a sound: what
colour, shape or person an utterance names. And the error rates of `hearing.hearing_scores`.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from ming_core.api import OmniModel
from ming_core.benchmarks import Track, untracked
from ming_core.chat.thinking import parse_thinking
from ming_core.media import Audio, Frames, Image, Message, Part, Video, assistant, user
from ming_recipes.perception.hearing import (
    LANGUAGES,
    hearing_draws,
    hearing_scores,
    spoken,
    utterances,
    why_unheard,
)
from ming_recipes.world.batch import THINKING_KINDS
from ming_recipes.world.language import Question, follow_up, questions
from ming_recipes.world.motion import FPS, clip_of
from ming_recipes.world.render import render
from ming_recipes.world.scene import QUESTION_STREAM, Scene, generator, scene_of, seed_of
from ming_recipes.world.speech import Utterance, heard_question
from ming_recipes.world.vocabulary import CANVAS, HELD_OUT, Language

CAPTION = "describe"
BATCH = 64
LONGEST = 128  # tokens; the longest description or thought has about 60
CLICK_RADIUS = 5.0  # px; a click this near to its centre hits the smallest object


@dataclass(frozen=True)
class Asked:
    """Questions about media in one conversation, of which the last is scored.

    aloud: the first question is not written down, since the last medium is a sound that asks it.
    """

    media: tuple[Part, ...]
    questions: tuple[Question, ...]
    think: bool = False
    aloud: bool = False

    def turn(self, number: int) -> Message:
        """What the user says there."""
        media = self.media if number == 0 else ()
        written = () if self.aloud and number == 0 else (self.questions[number].question,)
        return user(*media, *written)

    @property
    def scored(self) -> Question:
        return self.questions[-1]


def _stills(
    language: Language, images: int, split: str = "test", held_out_phrasing: bool = False
) -> Iterator[Asked]:
    """One question of every kind that a scene allows, for the first `images` scenes."""
    for picture, _, asked in _scenes(language, images, split, held_out_phrasing):
        yield from (Asked((picture,), (question,)) for question in asked)


def _unseen_pairs(language: Language, images: int) -> Iterator[Asked]:
    for picture, scene, asked in _scenes(language, images, "compositional"):
        for question in asked:
            items = (scene.objects[i] for i in question.objects)
            if any((item.color, item.shape) in HELD_OUT for item in items):
                yield Asked((picture,), (question,))


def _conversations(language: Language, images: int) -> Iterator[Asked]:
    for picture, _, asked in _scenes(language, images, "test"):
        for i, question in enumerate(asked):
            yield Asked((picture,), (asked[i - 2], asked[i - 1], question))


def _follow_ups(language: Language, images: int) -> Iterator[Asked]:
    for picture, scene, asked in _scenes(language, images, "test"):
        rng = generator(scene.background.seed, QUESTION_STREAM)
        for first in asked:
            second = follow_up(scene, first, rng)
            if second is not None:
                yield Asked((picture,), (first, second))


def _thoughts(language: Language, images: int) -> Iterator[Asked]:
    for picture, _, asked in _scenes(language, images, "test"):
        about = (question for question in asked if question.kind in THINKING_KINDS)
        yield from (Asked((picture,), (question,), think=True) for question in about)


def _videos(language: Language, images: int) -> Iterator[Asked]:
    for index in range(images):
        clip = clip_of("test", index)
        seconds = [frame / FPS for frame in range(clip.frames)]
        video = Video(Frames(list(clip.pictures()), seconds))
        rng = generator(seed_of("test", index), QUESTION_STREAM)
        for question in questions(clip.scene, rng, language, motion=clip.motion):
            yield Asked((video,), (question,))


def _scenes(
    language: Language, images: int, split: str, held_out_phrasing: bool = False
) -> Iterator[tuple[Image, Scene, list[Question]]]:
    for index in range(images):
        scene = scene_of(split, index)
        rng = generator(seed_of(split, index), QUESTION_STREAM)
        yield Image(render(scene)), scene, questions(scene, rng, language, held_out_phrasing)


def _aloud(language: Language, count: int) -> Iterator[Asked]:
    for one in spoken(_questions_aloud(language, count)):
        assert one.said.question is not None
        yield Asked((_picture(one.index), Audio(one.sound)), (one.said.question,), aloud=True)


def _in_writing(language: Language, count: int) -> Iterator[Asked]:
    for index, said in _questions_aloud(language, count):
        assert said.question is not None
        yield Asked((_picture(index),), (said.question,))


def _questions_aloud(language: Language, count: int) -> Iterator[tuple[int, Utterance]]:
    asking = ((index, said) for index, said in utterances(language) if said.question is not None)
    return islice(asking, count)


def _picture(index: int) -> Image:
    return Image(render(scene_of("test", index)))


def _about_sounds(language: Language, count: int) -> Iterator[Asked]:
    found = (
        (index, said, question)
        for index, said in utterances(language)
        if (question := heard_question(said, hearing_draws(index))) is not None
    )
    for index, said, question in islice(found, count):
        (one,) = spoken([(index, said)])
        yield Asked((Audio(one.sound),), (question,))


Slices = Mapping[str, Callable[[Language, int], Iterator[Asked]]]

SLICES: Slices = {
    "test": _stills,
    "compositional": partial(_stills, split="compositional"),
    "unseen pair": _unseen_pairs,
    "paraphrase": partial(_stills, held_out_phrasing=True),
    "conversation": _conversations,
    "follow-up": _follow_ups,
    "thinking": _thoughts,
    "video": _videos,
}
SOUND_SLICES: Slices = {
    "asked aloud": _aloud,
    "asked in writing": _in_writing,
    "about a sound": _about_sounds,
}
"""For models that hear."""


def is_right(question: Question, answer: str) -> bool:
    """Whether the whole answer is right.

    A box counts from an overlap (IoU) of one half, a click up to CLICK_RADIUS from the centre.
    """
    if question.kind == "locate":
        return box_iou(answer, question.answer) >= 0.5
    if question.kind == "click":
        return click_distance(answer, question.answer) <= CLICK_RADIUS
    return answer == question.answer


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


def click_distance(first: str, second: str) -> float:
    """Distance in px between two answers `click(x=0.38,y=0.52)`; infinite for an unreadable one."""
    a, b = (_CLICK.fullmatch(text) for text in (first, second))
    if a is None or b is None:
        return float("inf")
    across, down = (CANVAS * (float(a[i]) - float(b[i])) for i in (1, 2))
    return float((across**2 + down**2) ** 0.5)


_CLICK = re.compile(r"click\(x=(\d\.\d+),y=(\d\.\d+)\)")


def evaluate(
    model: OmniModel, images: int, track: Track = untracked
) -> dict[str, dict[str, float]]:
    """Share of right answers per slice and language ("test en", …), by kind; and error rates.

    `vqa` is the mean over the kinds of question, `caption` the exactly right full descriptions.
    images: how many pictures or utterances each slice has. What is about sounds is left out, with a
    note on stderr, if the model has no ears or the programs that speak are not installed.
    """
    scores = slice_scores(model, SLICES, images, track)
    reason = why_unheard(model)
    if reason is not None:
        print(f"hearing is not scored: {reason}", file=sys.stderr)
        return scores
    scores |= slice_scores(model, SOUND_SLICES, images, track)
    return scores | hearing_scores(model, images, track)


def slice_scores(
    model: OmniModel, slices: Slices, images: int, track: Track = untracked
) -> dict[str, dict[str, float]]:
    """Share of right answers per slice and language, by kind."""
    return {
        (title := f"{name} {language}"): _score(model, asks(language, images), title, track)
        for name, asks in slices.items()
        for language in LANGUAGES
    }


def _score(
    model: OmniModel, questions: Iterable[Asked], title: str, track: Track
) -> dict[str, float]:
    hits: dict[str, list[bool]] = defaultdict(list)
    # Similar lengths together: a batch runs until its longest answer has ended.
    asked = sorted(questions, key=lambda item: len(item.scored.answer))
    for start in track(range(0, len(asked), BATCH), title):
        batch = asked[start : start + BATCH]
        for item, answer in zip(batch, _last_answers(model, batch), strict=True):
            hits[item.scored.kind].append(is_right(item.scored, answer))
    kinds = {kind: sum(right) / len(right) for kind, right in sorted(hits.items())}
    captions = kinds.pop(CAPTION, None)
    scores = {"vqa": sum(kinds.values()) / len(kinds) if kinds else 0.0}
    if captions is not None:
        scores["caption"] = captions
    return {**scores, **kinds}


def _last_answers(model: OmniModel, batch: list[Asked]) -> list[str]:
    """The answers to the last questions, after the model's own to those before."""
    conversations: list[list[Message]] = [[] for _ in batch]
    answers = [""] * len(batch)
    for turn in range(len(batch[0].questions)):
        for item, messages, answer in zip(batch, conversations, answers, strict=True):
            if turn:
                messages.append(assistant(answer))
            messages.append(item.turn(turn))
        said = model.answer_batch(conversations, think=batch[0].think, max_new_tokens=LONGEST)
        answers = [parse_thinking(one.text).answer for one in said]
    return answers
