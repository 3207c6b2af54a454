"""What nano's next training is shown besides: each setting brings what it says, and without it all
stays as it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from ming_recipes.nano.world.batch import Example, Mix, training_example
from ming_recipes.nano.world.foreign import PICTURES, QUESTIONS, UNKNOWN, foreign_picture
from ming_recipes.nano.world.frames import StretchedObject
from ming_recipes.nano.world.hotwords import WORDS
from ming_recipes.nano.world.language import Question
from ming_recipes.nano.world.loose import MORE_PHRASES
from ming_recipes.nano.world.names import NAMES
from ming_recipes.nano.world.phrases import PHRASES
from ming_recipes.nano.world.scene import generator
from ming_recipes.nano.world.speech import Utterance, known_words, utterance_of
from ming_recipes.nano.world.vocabulary import CANVAS, COLOR_RGB, Language
from ming_vision.processing import ImageProcessor

LANGUAGES: tuple[Language, ...] = ("en", "zh")
PROCESSOR = ImageProcessor.from_config(
    {"patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2},
    {
        "image_processor_type": "BailingMM2ImageProcessor",
        "min_pixels": 4096,
        "max_pixels": 4096,
        "square_stretch": 0.5,
    },
)
"""As nano's."""


def _asked(example: Example) -> list[Question]:
    return [question for dialogue in example.dialogues for question in dialogue]


@pytest.mark.parametrize("setting", ["more_phrases", "framed", "unknown"])
def test_without_a_share_examples_stay_as_they_were(setting: str) -> None:
    for index in range(20):
        plain = training_example(index, Mix(video=0.3, dialogue=0.3))
        off = training_example(index, replace(Mix(video=0.3, dialogue=0.3), **{setting: 0.0}))
        assert off.dialogues == plain.dialogues
        np.testing.assert_array_equal(off.pictures, plain.pictures)


def test_words_are_said_in_any_order() -> None:
    said = [utterance_of("train", index, 0.5) for index in range(400)]
    free = [one for one in said if one.kind == "words"]
    assert len(free) / len(said) == pytest.approx(0.5, abs=0.08)
    others = [(i, one) for i, one in enumerate(said) if one.kind != "words"]
    assert all(one == utterance_of("train", i) for i, one in others)
    assert {one.lang for one in free} == set(LANGUAGES)
    assert all(one.question is None for one in free)
    assert len({one.text for one in free}) == len(free)

    english = [one for one in free if one.lang == "en"]
    allowed = {*known_words("en"), *NAMES["en"]}
    assert all(set(one.text.split()) <= allowed for one in english)
    assert all(2 <= len(one.text.split()) <= 8 for one in english)
    for one in free:
        assert all(name in one.text for name in one.names)
    # Neighbours that no sentence has, such as "blue the", are common.
    pairs = {pair for one in english for pair in _pairs(one)}
    sentences = [utterance_of("train", index) for index in range(3000)]
    known = {pair for one in sentences if one.lang == "en" for pair in _pairs(one)}
    assert len(pairs - known) / len(pairs) > 0.8


def _pairs(said: Utterance) -> set[tuple[str, str]]:
    words = said.text.split()
    return set(pairwise(words))


def test_every_word_of_sentences_is_a_word_to_be_said_freely() -> None:
    met: Counter[str] = Counter()
    for index in range(1500):
        said = utterance_of("train", index)
        if said.lang == "en":
            met.update(said.text.split())
    unsaid = met.keys() - {*known_words("en"), *NAMES["en"]}
    assert unsaid <= {"an", "to", "colour", "with", "text"}  # "to" sounds as "two"


def test_questions_have_more_phrasings_and_short_ones() -> None:
    mix = Mix(more_phrases=0.7, questions=20)
    asked = [q for index in range(400) for q in _asked(training_example(index, mix))]
    plain = [q for index in range(300) for q in _asked(training_example(index, Mix(questions=20)))]
    by_kind = {
        name: {kind: len({q.paraphrase for q in found if q.kind == kind}) for kind in PHRASES}
        for name, found in (("more", asked), ("plain", plain))
    }
    for kind in {q.kind for q in plain}:
        assert by_kind["more"][kind] > by_kind["plain"][kind], kind
    sentences = {q.question.lower().rstrip(".?") for q in asked}
    for short in ("describe this image", "what do you see", "read this"):
        assert any(sentence.endswith(short) for sentence in sentences), short
    marked = Counter(q.question[-1] in "?.？。" for q in asked)
    assert marked[False] > 100
    assert any(q.question[0].isupper() for q in asked)
    # What a phrase asks does not change what is right.
    assert all(q.answer in ("yes", "no") for q in asked if (q.kind, q.lang) == ("exist", "en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_phrasing_is_one_that_is_held_out(language: Language) -> None:
    assert MORE_PHRASES.keys() == PHRASES.keys()
    for kind, phrases in PHRASES.items():
        more = MORE_PHRASES[kind][language]
        assert not set(phrases[language]) & set(more)
        known = {slot for phrase in phrases[language] for slot in _slots(phrase)}
        if kind == "exist":  # with or without an article
            known |= {"name", "a_name"}
        assert {slot for phrase in more for slot in _slots(phrase)} <= known, kind


def _slots(phrase: str) -> set[str]:
    return {part.partition("}")[0] for part in phrase.split("{")[1:]}


def test_nobody_asks_the_held_out_way() -> None:
    mix = Mix(more_phrases=0.7, questions=20)
    for index in range(100):
        for question in _asked(training_example(index, mix)):
            held_out = len(PHRASES[question.kind][question.lang]) - 1
            assert question.paraphrase != held_out


def test_pictures_are_wide_and_tall_and_labels_lie_where_the_model_sees_them() -> None:
    shapes: Counter[tuple[int, ...]] = Counter()
    right = total = 0
    for index in range(250):
        example = training_example(index, Mix(framed=1.0))
        height, width = example.pictures.shape[1:3]
        shapes[height, width] += 1
        if height == width:  # no part of it cuts through nothing
            continue
        assert max(height, width) == CANVAS
        image = Image.fromarray(example.pictures[0])
        seen = np.asarray(PROCESSOR.fit(PROCESSOR.fetch(image))).astype(float)
        assert seen.shape == (CANVAS, CANVAS, 3)
        for item in example.scenes[0].objects:
            assert isinstance(item, StretchedObject)
            x0, y0, x1, y1 = item.box
            assert (x1 - x0 < y1 - y0) == (height < width)
            if item.shape in ("ring", "moon"):  # whose middle shows what lies behind them
                continue
            color = seen[round(item.y), round(item.x)]
            off = {name: np.abs(color - rgb).sum() for name, rgb in COLOR_RGB.items()}
            total += 1
            right += min(off, key=off.__getitem__) == item.color
    assert {(36, 64), (64, 36), (48, 64), (64, 48)} <= shapes.keys()
    assert sum(count for shape, count in shapes.items() if shape[0] != shape[1]) > 100
    assert right / total > 0.97


def test_the_box_of_an_object_in_a_wide_picture_holds_it() -> None:
    for index in range(60):
        example = training_example(index, Mix(framed=1.0, text=0.0))
        if example.pictures.shape[1] == example.pictures.shape[2]:
            continue
        boxes = [q for q in _asked(example) if q.kind == "locate"]
        for question in boxes:
            x0, y0, x1, y1 = map(int, question.answer.split())
            (item,) = (example.scenes[0].objects[i] for i in question.objects)
            assert (x0, y0, x1, y1) == item.box
            assert x0 <= item.x <= x1
            assert y0 <= item.y <= y1


def test_of_what_is_not_of_its_world_it_is_taught_to_say_so() -> None:
    examples = [training_example(index, Mix(unknown=0.5)) for index in range(300)]
    strange = [e for e in examples if any(q.kind == "unknown" for q in _asked(e))]
    assert len(strange) / len(examples) == pytest.approx(0.5, abs=0.1)
    assert all(q.answer == UNKNOWN[q.lang] for e in strange for q in _asked(e))
    pictures = [e for e in strange if not e.scenes[0].objects]
    assert len(pictures) / len(strange) == pytest.approx(0.5, abs=0.15)
    assert all(e.scenes[0].background.hue == "other" for e in pictures)
    foreign = [q.question for e in strange if e.scenes[0].objects for q in _asked(e)]
    assert len(set(foreign)) > 0.8 * len(foreign)
    assert any(word in question for question in foreign for word in WORDS["zh"])
    assert len(QUESTIONS["en"]) >= 20


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_other_things_differ_from_each_other(kind: str) -> None:
    drawn = [PICTURES[kind](generator(seed, 0)) for seed in range(6)]
    assert all(picture.shape == (CANVAS, CANVAS, 3) for picture in drawn)
    assert np.abs(drawn[0] - drawn[1]).mean() > 3
    whole = foreign_picture(generator(7, 0))
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, foreign_picture(generator(7, 0)))
