"""Questions about held-out scenes, and the shares of right answers.

Each slice is scored in English and Chinese:
test: new scenes, known phrasings. compositional: scenes that hold a colour-shape pair which
training neither drew nor named. unseen pair: of those, only the questions that name such a pair or
are answered by it. paraphrase: phrasings kept from training. conversation: the questions of `test`,
each asked after two others and the model's own answers to them. follow-up: a second question about
"it". thinking: answers after a thought. video: what moves, and where.

Of a model that hears, also: asked aloud: a spoken question about a picture, in a voice that
training never heard. asked in writing: the same questions, for comparison. about a sound: what
colour, shape or person an utterance names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ming_core.engine.request import Request
from ming_core.engine.sampling import Sampling
from ming_core.evaluation import Row, Sample, Score, Sums
from ming_core.media import Audio, Frames, Image, Message, Part, Video, assistant, user
from ming_core.tasks import Task, checked
from ming_recipes.nano.scores.hearing import LANGUAGES, hearing_draws, spoken, utterances
from ming_recipes.nano.world.batch import THINKING_KINDS
from ming_recipes.nano.world.language import Question, follow_up, questions
from ming_recipes.nano.world.motion import FPS, clip_of
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import QUESTION_STREAM, Scene, generator, scene_of, seed_of
from ming_recipes.nano.world.speech import Utterance, heard_question
from ming_recipes.nano.world.vocabulary import CANVAS, HELD_OUT, Language

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.engine.answers import Answer

CAPTION = "describe"
BATCH = 64
LONGEST = 128  # tokens; the longest description or thought has about 60
CLICK_RADIUS = 5.0  # px; a click this near to its centre hits the smallest object


@dataclass(frozen=True)
class Asked:
    """Questions about media in one conversation, of which the last is scored.

    scene: the index of the picture, video or utterance. number: of the conversation about it.
    aloud: the first question is not written down, since the last medium is a sound that asks it.
    """

    scene: int
    number: int
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
    for index, picture, _, asked in _scenes(language, images, split, held_out_phrasing):
        for number, question in enumerate(asked):
            yield Asked(index, number, (picture,), (question,))


def _unseen_pairs(language: Language, images: int) -> Iterator[Asked]:
    for index, picture, scene, asked in _scenes(language, images, "compositional"):
        for number, question in enumerate(asked):
            items = (scene.objects[i] for i in question.objects)
            if any((item.color, item.shape) in HELD_OUT for item in items):
                yield Asked(index, number, (picture,), (question,))


def _conversations(language: Language, images: int) -> Iterator[Asked]:
    for index, picture, _, asked in _scenes(language, images, "test"):
        for i, question in enumerate(asked):
            yield Asked(index, i, (picture,), (asked[i - 2], asked[i - 1], question))


def _follow_ups(language: Language, images: int) -> Iterator[Asked]:
    for index, picture, scene, asked in _scenes(language, images, "test"):
        rng = generator(scene.background.seed, QUESTION_STREAM)
        for number, first in enumerate(asked):
            second = follow_up(scene, first, rng)
            if second is not None:
                yield Asked(index, number, (picture,), (first, second))


def _thoughts(language: Language, images: int) -> Iterator[Asked]:
    for index, picture, _, asked in _scenes(language, images, "test"):
        for number, question in enumerate(asked):
            if question.kind in THINKING_KINDS:
                yield Asked(index, number, (picture,), (question,), think=True)


def _videos(language: Language, images: int) -> Iterator[Asked]:
    for index in range(images):
        clip = clip_of("test", index)
        seconds = [frame / FPS for frame in range(clip.frames)]
        video = Video(Frames(list(clip.pictures()), seconds))
        rng = generator(seed_of("test", index), QUESTION_STREAM)
        asked = questions(clip.scene, rng, language, motion=clip.motion)
        for number, question in enumerate(asked):
            yield Asked(index, number, (video,), (question,))


def _scenes(
    language: Language, images: int, split: str, held_out_phrasing: bool = False
) -> Iterator[tuple[int, Image, Scene, list[Question]]]:
    for index in range(images):
        scene = scene_of(split, index)
        rng = generator(seed_of(split, index), QUESTION_STREAM)
        asked = questions(scene, rng, language, held_out_phrasing)
        yield index, Image(render(scene)), scene, asked


def _aloud(language: Language, count: int) -> Iterator[Asked]:
    for one in spoken(_questions_aloud(language, count)):
        assert one.said.question is not None
        media = _picture(one.index), Audio(one.sound)
        yield Asked(one.index, 0, media, (one.said.question,), aloud=True)


def _in_writing(language: Language, count: int) -> Iterator[Asked]:
    for index, said in _questions_aloud(language, count):
        assert said.question is not None
        yield Asked(index, 0, (_picture(index),), (said.question,))


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
        yield Asked(index, 0, (Audio(one.sound),), (question,))


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


def question_samples(slices: Slices, images: int) -> Iterator[Sample]:
    """The questions of each slice and language ("test en", …), shortest answers first.

    images: how many pictures or utterances each slice has.
    """
    for name, asks in slices.items():
        for language in LANGUAGES:
            # Similar lengths together: a batch runs until its longest answer has ended.
            for asked in sorted(asks(language, images), key=lambda item: len(item.scored.answer)):
                scored = asked.scored
                facts = {
                    "scene": asked.scene,
                    "kind": scored.kind,
                    "language": language,
                    "question": scored.question,
                    "answer": scored.answer,
                }
                yield Sample(f"{asked.scene}.{asked.number}", facts, f"{name} {language}", asked)


@dataclass(frozen=True, eq=False)
class Turn(Task):
    """The next answer in a conversation."""

    messages: Sequence[Message]
    think: bool

    @classmethod
    def after(cls, asked: Asked, answers: Sequence[Answer]) -> Turn | None:
        """The turn that follows these answers of the model; None after the last question."""
        if len(answers) == len(asked.questions):
            return None
        messages = [asked.turn(0)]
        for number, answer in enumerate(answers, start=1):
            messages += [assistant(answer.answer), asked.turn(number)]
        return cls(messages, asked.think)

    def requests(self, model: OmniModel) -> Sequence[Request]:
        return [Request(self.messages, self.think, sampling=Sampling(max_new_tokens=LONGEST))]

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Answer:
        return checked(model, *answers)


def question_scores(column: str, rows: Sequence[Row]) -> Iterator[Score]:
    """Shares of right answers in a slice: `vqa` is the mean over the kinds of question, `caption`
    the exactly right full descriptions; then each kind. Questions about one picture are drawn
    together for the intervals.
    """
    hits: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        hits[row.facts["kind"]].append(_hit(row))
    kinds = {kind: sum(right) / len(right) for kind, right in sorted(hits.items())}
    scenes = [row.facts["scene"] for row in rows]
    names = [kind for kind in kinds if kind != CAPTION]

    def score(name: str, value: float, *own: str) -> Score:
        n, right = (sum(f(hits[kind]) for kind in own) for f in (len, sum))
        counts = {"right": right, "questions": n}
        sums = Sums(_sums(rows, own), _mean_share, scenes) if own else None
        return Score(name, value, n, column=column, counts=counts, sums=sums)

    yield score("vqa", sum(kinds[kind] for kind in names) / len(names) if names else 0.0, *names)
    if CAPTION in kinds:
        yield score("caption", kinds[CAPTION], CAPTION)
    for kind in names:
        yield score(kind, kinds[kind], kind)


def _hit(row: Row) -> bool:
    facts = row.facts
    asked = Question(facts["kind"], facts["language"], facts["question"], facts["answer"], 0, ())
    return is_right(asked, row.prediction or "")


def _sums(rows: Sequence[Row], kinds: Sequence[str]) -> np.ndarray:
    """[rows, 2 x kinds]: right answers of each kind, then questions of each kind."""
    own = np.array([[row.facts["kind"] == kind for kind in kinds] for row in rows])
    right = own & np.array([[_hit(row)] for row in rows])
    return np.concatenate([right, own], axis=1)


def _mean_share(sums: np.ndarray) -> np.ndarray:
    right, asked = np.split(sums, 2, axis=1)
    return (right / asked).mean(1)
