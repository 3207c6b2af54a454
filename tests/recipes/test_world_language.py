"""Questions about the shapes world: answers checked by another way, shares, phrases, captions."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ming_core.errors import BadConfig, UnknownName
from ming_recipes.nano.world.batch import THINKING_KINDS, Mix, training_example
from ming_recipes.nano.world.language import (
    KIND_WEIGHTS,
    KINDS,
    VIDEO_WEIGHTS,
    Question,
    follow_up,
    questions,
    reasoning,
    sample_questions,
)
from ming_recipes.nano.world.phrases import FOLLOW_UPS, PHRASES
from ming_recipes.nano.world.scene import (
    Background,
    RenderedText,
    Scene,
    SceneObject,
    generator,
    scene_of,
)
from ming_recipes.nano.world.vocabulary import (
    COLORS,
    GRID,
    HELD_OUT,
    HUES,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
)
from ming_recipes.nano.world.wording import caption, describe

_PLAIN_MIX = Mix()


def _asked(index: int, mix: Mix = _PLAIN_MIX, split: str = "train") -> list[Question]:
    """All questions of an example, whatever the conversation."""
    return [q for turns in training_example(index, mix, split).dialogues for q in turns]


def test_held_out_pairs_are_named_only_in_the_compositional_split() -> None:
    names = [f"{COLORS[c].en} {SHAPES[s].en}" for c, s in HELD_OUT]
    names += [COLORS[c].zh + SHAPES[s].zh for c, s in HELD_OUT]
    pattern = re.compile("|".join(names))
    for index in range(800):
        for split in ("train", "val", "test"):
            asked = _asked(index, Mix(video=0.2, dialogue=0.3), split)
            assert not any(pattern.search(q.question + q.answer) for q in asked)
    named = [
        bool(pattern.search(q.question + q.answer))
        for index in range(50)
        for q in _asked(index, Mix(), "compositional")
    ]
    assert 0.2 < np.mean(named) < 0.9


# An independent reader of questions: it finds the words in the sentence and recomputes the answer
# from the parameters alone, sharing no code with the generator beyond the vocabulary tables.


def _find(table: dict, text: str, language: str) -> list[str]:
    """Names of the table words in the order in which they occur."""
    word = {getattr(table[name], language): name for name in table}
    pattern = "|".join(sorted(map(re.escape, word), key=len, reverse=True))
    pattern = rf"\b(?:{pattern})\b" if language == "en" else pattern
    return [word[found] for found in re.findall(pattern, text)]


def _named(text: str, scene: Scene, language: str) -> list[list[int]]:
    """For each "[size] colour shape" in the text, the objects that it fits."""
    join = r"\s" if language == "en" else ""
    alternatives = [
        "|".join(sorted((getattr(w, language) for w in table.values()), key=len, reverse=True))
        for table in (SIZES, COLORS, SHAPES)
    ]
    pattern = rf"(?:({alternatives[0]}){join})?({alternatives[1]}){join}({alternatives[2]})"
    return [
        [
            index
            for index, item in enumerate(scene.objects)
            if getattr(COLORS[item.color], language) == color
            and getattr(SHAPES[item.shape], language) == shape
            and size in ("", getattr(SIZES[item.size], language))
        ]
        for size, color, shape in re.findall(pattern, text)
    ]


def _third(value: float) -> int:
    return 0 if value < 64 / 3 - 0.5 else 1 if value < 128 / 3 - 0.5 else 2


def _holds(rel: str, a: SceneObject, b: SceneObject) -> bool:
    dx, dy = a.x - b.x, a.y - b.y
    return {
        "left": -dx > 1.4 * abs(dy),
        "right": dx > 1.4 * abs(dy),
        "above": -dy > 1.4 * abs(dx),
        "below": dy > 1.4 * abs(dx),
    }[rel]


def _expected(question: Question, scene: Scene) -> str:
    text, lang = question.question, question.lang
    objects = scene.objects
    yes, no = ("yes", "no") if lang == "en" else ("是", "不是")

    def only(candidates: list[int]) -> int:
        assert len(candidates) == 1, text
        return candidates[0]

    match question.kind:
        case "count_all":
            return str(len(objects))
        case "count_color":
            (color,) = _find(COLORS, text, lang)
            return str(sum(item.color == color for item in objects))
        case "count_shape":
            (shape,) = _find(PLURALS, text, lang)
            return str(sum(item.shape == shape for item in objects))
        case "exist":
            (fits,) = _named(text, scene, lang)
            return ("yes" if fits else "no") if lang == "en" else ("有" if fits else "没有")
        case "color":
            (shape,) = _find(SHAPES, text, lang)
            index = only([i for i, item in enumerate(objects) if item.shape == shape])
            return getattr(COLORS[objects[index].color], lang)
        case "shape":
            (color,) = _find(COLORS, text, lang)
            index = only([i for i, item in enumerate(objects) if item.color == color])
            return getattr(SHAPES[objects[index].shape], lang)
        case "size":
            (fits,) = _named(text, scene, lang)
            r = objects[only(fits)].r
            size = "small" if r < 7 else "medium" if r < 10 else "large"
            return getattr(SIZES[size], lang)
        case "position":
            (fits,) = _named(text, scene, lang)
            item = objects[only(fits)]
            return getattr(GRID[3 * _third(item.y) + _third(item.x)], lang)
        case "relation":
            a, b = (objects[only(fits)] for fits in _named(text, scene, lang))
            (rel,) = _find(RELATIONS, text, lang)
            opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[rel]
            assert _holds(rel, a, b) != _holds(opposite, a, b)
            return yes if _holds(rel, a, b) else no
        case "relation_side":
            a, b = (objects[only(fits)] for fits in _named(text, scene, lang))
            if "which side of the" in text:
                a, b = b, a
            (side,) = [rel for rel in RELATIONS if _holds(rel, a, b)]
            return side if lang == "en" else RELATIONS[side].zh
        case "click":
            (fits,) = _named(text, scene, lang)
            item = objects[only(fits)]
            return f"click(x={(item.x + 0.5) / 64:.2f},y={(item.y + 0.5) / 64:.2f})"
        case "relation_query":
            (fits,) = _named(text, scene, lang)
            (rel,) = _find(RELATIONS, text, lang)
            b = objects[only(fits)]
            index = only([i for i, a in enumerate(objects) if a is not b and _holds(rel, a, b)])
            words = (COLORS[objects[index].color], SHAPES[objects[index].shape])
            return (" " if lang == "en" else "").join(getattr(word, lang) for word in words)
        case "text":
            assert scene.text is not None
            return scene.text.value
        case "background":
            words = (TEXTURES[scene.background.texture], HUES[scene.background.hue])
            return (" " if lang == "en" else "").join(getattr(word, lang) for word in words)
        case "locate":
            (fits,) = _named(text, scene, lang)
            item = objects[only(fits)]
            corners = (item.x - item.r, item.y - item.r, item.x + item.r, item.y + item.r)
            return " ".join(f"{min(max(math.floor(v + 0.5), 0), 63):02d}" for v in corners)
        case "describe":
            order = sorted(objects, key=lambda o: (_third(o.y), _third(o.x), o.x))
            space = " " if lang == "en" else ""
            parts = [
                space.join(
                    getattr(word, lang)
                    for word in (
                        SIZES[o.size],
                        COLORS[o.color],
                        SHAPES[o.shape],
                        GRID[3 * _third(o.y) + _third(o.x)],
                    )
                )
                for o in order
            ]
            texture, hue = TEXTURES[scene.background.texture], HUES[scene.background.hue]
            if lang == "en":
                return f"{'; '.join(parts)}. {texture.en} {hue.en} background."
            return f"{'；'.join(parts)}。{texture.zh}{hue.zh}背景。"
    raise AssertionError(question.kind)


@pytest.mark.parametrize("split", ["train", "compositional"])
def test_every_answer_is_right_by_an_independent_reading(split: str) -> None:
    checked: Counter[str] = Counter()
    for index in range(400):
        scene = scene_of(split, index)
        rng = generator(index, 77)
        asked = sample_questions(scene, rng, 16)
        for language, held_out in product(("en", "zh"), (False, True)):
            asked += questions(scene, rng, language, held_out)
        for question in asked:
            assert question.answer == _expected(question, scene), (question, scene)
            checked[question.kind] += 1
    assert set(checked) == set(KINDS)
    assert min(checked.values()) > 200


def test_questions_name_the_objects_they_use() -> None:
    for index in range(200):
        scene = scene_of("train", index)
        for question in questions(scene, generator(index, 77), "en"):
            if question.kind in ("size", "position", "locate"):
                assert _named(question.question, scene, "en") == [list(question.objects)]
            elif question.kind == "relation":
                a, b = question.objects
                assert _named(question.question, scene, "en") == [[a], [b]]


def test_training_mix() -> None:
    asked = [q for index in range(1500) for q in _asked(index)]
    share = {kind: times / len(asked) for kind, times in Counter(q.kind for q in asked).items()}
    for hard in ("relation", "relation_query", "position", "locate", "exist"):
        assert share[hard] >= max(share["color"], share["shape"], share["size"])
    with_text = [
        Counter(q.kind for q in _asked(index))
        for index in range(500)
        if training_example(index, Mix()).scenes[0].text is not None
    ]
    assert np.mean([kinds["text"] for kinds in with_text]) > 1.5
    english = np.mean([q.lang == "en" for q in asked])
    assert english == pytest.approx(0.7, abs=0.02)
    for kind in ("exist", "relation"):
        positive = np.mean([q.answer in ("yes", "有", "是") for q in asked if q.kind == kind])
        assert positive == pytest.approx(0.5, abs=0.05)
    for kind in ("count_color", "count_shape"):
        answers = Counter(q.answer for q in asked if q.kind == kind)
        total = sum(answers.values())
        assert answers["0"] / total == pytest.approx(0.35, abs=0.1)
        assert (answers["2"] + answers["3"] + answers["4"]) / total > 0.15


def test_shares_of_videos_thoughts_and_conversations() -> None:
    mix = Mix(video=0.3, think=0.2, dialogue=0.4)
    examples = [training_example(index, mix) for index in range(1000)]
    assert np.mean([e.is_video for e in examples]) == pytest.approx(0.3, abs=0.05)
    stills = [e for e in examples if not e.is_video]
    assert np.mean([e.think for e in stills]) == pytest.approx(0.2, abs=0.05)
    talks = [turns for e in stills if not e.think for turns in e.dialogues]
    assert np.mean([len(turns) > 1 for turns in talks]) == pytest.approx(0.4, abs=0.06)
    assert any(question.follows for turns in talks for question in turns)
    thought = {q.kind for e in stills if e.think for turns in e.dialogues for q in turns}
    assert thought == set(THINKING_KINDS)
    pairs = training_example(1, Mix(video=1.0, still_clips=True))
    assert pairs.pictures.shape == (2, 64, 64, 3)
    assert len(pairs.scenes) == len(pairs.motions) == 1


def test_it_is_the_object_of_the_question_before() -> None:
    seen: Counter[str] = Counter()
    for index in range(300):
        scene = scene_of("train", index)
        rng = generator(index, 78)
        for first in questions(scene, rng, "en"):
            second = follow_up(scene, first, rng)
            if second is None:
                continue
            (number,) = first.objects
            item = scene.objects[number]
            right = {
                "color": item.color,
                "size": item.size,
                "position": GRID[item.grid].en,
                "locate": " ".join(f"{value:02d}" for value in item.box),
            }
            assert second.answer == right[second.kind]
            assert second.kind != first.kind
            assert second.follows
            assert second.objects == first.objects
            seen[second.kind] += 1
    assert min(seen[kind] for kind in FOLLOW_UPS) > 50
    everything = questions(scene_of("train", 0), generator(0, 78), "en", kinds=["count_all"])
    assert follow_up(scene_of("train", 0), everything[0], generator(0, 78)) is None


def test_a_thought_names_the_objects_and_their_centres() -> None:
    scene = next(s for s in (scene_of("train", i) for i in range(99)) if len(s.objects) > 1)
    item = scene.objects[0]
    question = Question("exist", "en", "", "yes", 0, (0,))
    assert reasoning(scene, question) == (
        f"{item.color} {item.shape} {round(item.x):02d} {round(item.y):02d}"
    )
    assert reasoning(scene, replace(question, objects=())) == "no"


def test_no_question_twice_about_one_picture() -> None:
    for index in range(300):
        asked = [q.question for q in _asked(index, Mix(questions=24))]
        assert len(asked) == len(set(asked))


def test_the_last_phrase_is_held_out() -> None:
    for kind, languages in PHRASES.items():
        for language, phrases in languages.items():
            assert len(phrases) >= 4, (kind, language)
            assert len(set(phrases)) == len(phrases)
    for index in range(300):
        for question in _asked(index, Mix(video=0.3, dialogue=0.3)):
            table = FOLLOW_UPS if question.follows else PHRASES
            assert question.paraphrase < len(table[question.kind][question.lang]) - 1
    scene = scene_of("test", 0)
    for question in questions(scene, generator(0, 77), "zh", held_out_phrasing=True):
        assert question.paraphrase == len(PHRASES[question.kind]["zh"]) - 1


def test_words_of_held_out_phrases_are_known() -> None:
    for language in ("en", "zh"):
        tables = [*PHRASES.values(), *FOLLOW_UPS.values()]
        known = " ".join(p for kind in tables for p in kind[language][:-1])
        for kind in tables:
            last = re.sub(r"\{\w+\}", " ", kind[language][-1])
            units = re.findall(r"[a-z]+", last) if language == "en" else set(last) - {" "}
            assert all(unit in known for unit in units), last


def test_unknown_kind_and_language_are_explained() -> None:
    scene = scene_of("train", 0)
    with pytest.raises(UnknownName, match="did you mean 'locate'"):
        questions(scene, generator(0, 77), "en", kinds=["locat"])
    with pytest.raises(BadConfig, match="choose 'en' or 'zh'"):
        questions(scene, generator(0, 77), "fr")  # type: ignore[arg-type]
    assert set(KIND_WEIGHTS) | set(VIDEO_WEIGHTS) == set(PHRASES)


def test_captions_and_description_of_a_known_scene() -> None:
    scene = Scene(
        (
            SceneObject("star", "orange", "large", 12.0, 50, 50, 0.0, (0.0, 0.0, 0.0), 0.0),
            SceneObject("ring", "red", "small", 5.5, 12, 10, 0.0, (0.0, 0.0, 0.0), 0.0),
        ),
        Background("mint", "striped", 1),
        RenderedText("A7", 40, 5),
    )
    assert describe(scene, "en") == (
        "small red ring top left; large orange star bottom right. striped mint background."
    )
    assert describe(scene, "zh") == "小红色圆环左上；大橙色星星右下。条纹薄荷色背景。"
    captions = {caption(scene, generator(i, 77), "en") for i in range(60)}
    assert "a red ring and an orange star, with the text A7" in captions
    assert (
        "a small red ring and a large orange star on a striped mint background, with the text A7"
        in captions
    )
    assert "红色圆环、橙色星星，薄荷色背景，文字A7" in {
        caption(scene, generator(i, 77), "zh") for i in range(60)
    }
