"""Shapes world: determinism, splits, answers checked by another way, pixels, tokenizer."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ming_core.errors import BadConfig, UnknownName
from ming_recipes.world.batch import (
    ATTRIBUTES,
    CHARACTERS,
    THINKING_KINDS,
    Mix,
    cell_labels,
    training_example,
)
from ming_recipes.world.language import (
    KIND_WEIGHTS,
    KINDS,
    VIDEO_KINDS,
    VIDEO_WEIGHTS,
    Question,
    caption,
    describe,
    follow_up,
    questions,
    reasoning,
    sample_questions,
)
from ming_recipes.world.motion import clip_of
from ming_recipes.world.phrases import FOLLOW_UPS, PHRASES
from ming_recipes.world.records import fingerprint, make_record, read_jsonl, write_jsonl
from ming_recipes.world.render import (
    amodal_masks,
    boxes,
    instance_map,
    render,
    visible_masks,
)
from ming_recipes.world.scene import (
    SPLITS,
    Background,
    RenderedText,
    Scene,
    SceneObject,
    generator,
    sample_scene,
    scene_of,
    seed_of,
)
from ming_recipes.world.tokenizer import (
    PROMPT_PIECES,
    SPECIAL_TOKENS,
    VOCABULARY_SIZE,
    train_tokenizer,
)
from ming_recipes.world.vocabulary import (
    COLOR_RGB,
    COLORS,
    DIRECTIONS,
    GRID,
    HELD_OUT,
    HUES,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIZE_RADIUS,
    SIZES,
    TEXTURES,
    chinese_words,
    english_words,
)

_PLAIN_MIX = Mix()


def _asked(index: int, mix: Mix = _PLAIN_MIX, split: str = "train") -> list[Question]:
    """All questions of an example, whatever the conversation."""
    return [q for turns in training_example(index, mix, split).dialogues for q in turns]


FINGERPRINTS = {
    "train": "58fed3d951b5ba576eb6a0208eafee1fbac7e765450420f6c5fcebf49b84a6f0",
    "val": "674afc5c1c02d408eb5d67e98fa812de2516ecf062a9fbde3ca94e8216e6363d",
    "test": "677aac7e29a1e24fd1a433604199f4e2687e742b812a62e5a75900ea5462d513",
    "compositional": "3cc3ec776bbeb7e8a5f2caa009eac3d5e35efddb02f676c82c1d200d2a6c9571",
}


def test_the_same_index_gives_the_same_record_and_neighbours_differ() -> None:
    for mix in (Mix(dialogue=0.5), Mix(video=1.0), Mix(think=1.0)):
        first, again, other = (training_example(index, mix) for index in (7, 7, 8))
        assert (first.scenes, first.motions) == (again.scenes, again.motions)
        assert (first.dialogues, first.think) == (again.dialogues, again.think)
        np.testing.assert_array_equal(first.pictures, again.pictures)
        assert other.scenes != first.scenes
        assert (other.pictures[0] != first.pictures[0]).mean() > 0.5


@pytest.mark.parametrize("split", SPLITS)
def test_fingerprint_of_the_world_version(split: str) -> None:
    """A failure means that pixels or sentences changed: then the world needs a new version."""
    assert fingerprint(split) == FINGERPRINTS[split]


def test_splits_share_no_seed_and_reject_what_lies_outside() -> None:
    assert len(SPLITS["train"]) == 2**31
    ends = sorted((seeds.start, seeds.stop) for seeds in SPLITS.values())
    assert all(a[1] <= b[0] for a, b in pairwise(ends))
    with pytest.raises(BadConfig, match="index 1000000 lies outside split 'val'"):
        seed_of("val", 1_000_000)
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        seed_of("trian", 0)
    with pytest.raises(BadConfig, match="max_objects is 6"):
        scene_of("train", 0, max_objects=6)


def test_held_out_pairs_are_drawn_only_in_the_compositional_split() -> None:
    for split in ("train", "val", "test"):
        for index in range(2000):
            pairs = {(item.color, item.shape) for item in scene_of(split, index).objects}
            assert not pairs & HELD_OUT
    for index in range(1000):
        scene = scene_of("compositional", index)
        assert any((item.color, item.shape) in HELD_OUT for item in scene.objects)
    seen = {
        (item.color, item.shape)
        for index in range(2000)
        for item in scene_of("train", index).objects
    }
    assert len(seen) == 58


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


def test_scene_distribution() -> None:
    scenes = [scene_of("train", index) for index in range(3000)]
    counts = Counter(len(scene.objects) for scene in scenes)
    for count, share in zip(range(1, 6), (0.15, 0.25, 0.25, 0.20, 0.15), strict=True):
        assert counts[count] / 3000 == pytest.approx(share, abs=0.03)
    assert np.mean([scene.text is not None for scene in scenes]) == pytest.approx(0.3, abs=0.03)
    for scene in scenes[:500]:
        for i, a in enumerate(scene.objects):
            low, high = SIZE_RADIUS[a.size]
            assert low <= a.r <= high
            assert a.r <= a.x <= 63 - a.r + 0.01
            assert a.r <= a.y <= 63 - a.r + 0.01
            for b in scene.objects[:i]:
                assert math.hypot(a.x - b.x, a.y - b.y) >= 0.88 * (a.r + b.r)
    assert max(len(scene_of("train", index, max_objects=2).objects) for index in range(200)) == 2


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


def test_movers_keep_their_velocity_and_stay_on_the_canvas() -> None:
    movers: Counter[int] = Counter()
    for index in range(400):
        clip = clip_of("train", index)
        assert clip.frames in (4, 6, 8)
        moving = [i for i, direction in enumerate(clip.motion) if direction is not None]
        movers[len(moving)] += 1
        last = clip.at(clip.frames - 1)
        for i, (before, after) in enumerate(zip(clip.scene.objects, last.objects, strict=True)):
            across, down = after.x - before.x, after.y - before.y
            if i not in moving:
                assert before == after
                continue
            assert min(after.x, after.y) >= 0
            assert max(after.x, after.y) <= 63
            speed = np.hypot(across, down) / (clip.frames - 1)
            assert 1.95 < speed < 5.05
            direction = clip.motion[i]
            assert direction == (np.sign(round(across, 6)), np.sign(round(down, 6)))
    assert set(movers) == {0, 1, 2}
    assert movers[1] > movers[0]


def test_frames_of_a_video_share_all_but_noise_and_movers() -> None:
    clip = next(c for c in (clip_of("train", i) for i in range(99)) if any(c.motion))
    pictures = clip.pictures().astype(float)
    assert pictures.shape == (clip.frames, 64, 64, 3)
    np.testing.assert_array_equal(pictures[0], render(clip.scene))
    still = replace(clip, steps=((0.0, 0.0),) * len(clip.steps)).pictures().astype(float)
    assert np.abs(still[1] - still[0]).mean() < 6  # two draws of noise of sigma 3.5
    assert (still[1] != still[0]).mean() > 0.5
    assert np.abs(pictures[-1] - pictures[0]).max() > 40


def test_questions_about_a_video_say_what_moves() -> None:
    checked: Counter[str] = Counter()
    for index in range(600):
        clip = clip_of("val", index)
        moving = [i for i, direction in enumerate(clip.motion) if direction is not None]
        asked = questions(clip.scene, generator(index, 79), "en", motion=clip.motion)
        assert {q.kind for q in asked} <= set(VIDEO_KINDS)
        for q in asked:
            checked[q.kind] += 1
            if q.kind == "video_count":
                assert q.answer == str(len(moving))
            elif q.kind == "video_which":
                item = clip.scene.objects[moving[0]]
                assert (q.answer, len(moving)) == (f"{item.color} {item.shape}", 1)
            elif q.kind == "video_moves":
                assert (q.answer == "yes") == (q.objects[0] in moving)
            else:
                direction = clip.motion[q.objects[0]]
                assert direction is not None
                assert q.answer == DIRECTIONS[direction].en
    assert min(checked[kind] for kind in VIDEO_KINDS) > 100


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


_PLAIN = Background("gray", "plain", 5)


def _item(shape: str, color: str, x: float, y: float, r: float = 12.0) -> SceneObject:
    size = "small" if r < 7 else "medium" if r < 10 else "large"
    return SceneObject(shape, color, size, r, x, y, 0.0, (0.0, 0.0, 0.0), 0.0)


def test_captions_and_description_of_a_known_scene() -> None:
    scene = Scene(
        (_item("star", "orange", 50, 50), _item("ring", "red", 12, 10, 5.5)),
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


# Area of each region in squared radii, by fine sampling of the definitions.
_AREA = {
    "circle": math.pi * 0.95**2,
    "square": (2 * 0.84) ** 2,
    "cross": 2 * (1.9 * 0.64) - 0.64**2,
    "ring": math.pi * (0.95**2 - 0.41**2),
    "star": 5 * 1.1 * 0.48 * math.sin(math.pi / 5),
    "triangle": (1.86 / 0.866 / 2) * 1.86,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_have_the_area_and_place_of_the_shape(shape: str) -> None:
    item = _item(shape, "blue", 31.3, 30.6)
    mask = amodal_masks(Scene((item,), _PLAIN))[0]
    if shape in _AREA:
        assert mask.sum() / item.r**2 == pytest.approx(_AREA[shape], rel=0.04)
    rows, columns = np.nonzero(mask)
    x0, y0, x1, y1 = item.box
    slack = 2  # star tips reach 1.1 radii
    assert x0 - slack <= columns.min()
    assert columns.max() <= x1 + slack
    assert y0 - slack <= rows.min()
    assert rows.max() <= y1 + slack
    if shape != "moon":  # all others are symmetric from left to right
        assert columns.mean() == pytest.approx(item.x, abs=0.3)


def test_pixels_show_the_colour_where_the_mask_says() -> None:
    for index in range(100):
        scene = scene_of("val", index)
        image = render(scene)
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        masks = visible_masks(scene)
        for mask, item in zip(masks, scene.objects, strict=True):
            seen = image[mask].mean(0)
            np.testing.assert_allclose(seen, COLOR_RGB[item.color], atol=45)
            distances = {
                color: float(np.abs(seen - np.array(rgb)).sum()) for color, rgb in COLOR_RGB.items()
            }
            assert min(distances, key=distances.__getitem__) == item.color


def test_label_maps_agree() -> None:
    for index in range(200):
        scene = scene_of("test", index)
        ids, visible, whole = instance_map(scene), visible_masks(scene), amodal_masks(scene)
        assert not (visible & ~whole).any()
        np.testing.assert_array_equal(visible.any(0), ids >= 0)
        np.testing.assert_array_equal(visible.sum(0).max(initial=0) <= 1, True)
        assert (visible[-1] == whole[-1]).all()  # the last drawn lies on top
        for seen, full in zip(visible, whole, strict=True):
            assert seen.sum() >= 0.8 * full.sum()
        table = boxes(scene)
        assert table.shape == (len(scene.objects), 4)
        assert (table >= 0).all()
        assert (table <= 63).all()
        for (x0, y0, x1, y1), full in zip(table, whole, strict=True):
            inside = full[y0 : y1 + 1, x0 : x1 + 1].sum()
            assert inside >= 0.97 * full.sum()


def test_an_edited_scene_keeps_the_other_pixels() -> None:
    scene = Scene((_item("ring", "red", 15, 15), _item("star", "blue", 45, 45)), _PLAIN)
    edited = Scene((scene.objects[0],), _PLAIN)
    changed = (render(scene) != render(edited)).any(-1)
    assert changed[30:60, 30:60].sum() > 100
    assert not changed[:30].any()


def test_text_is_written_where_the_scene_says_and_objects_avoid_it() -> None:
    blank, written = Scene((), _PLAIN), Scene((), _PLAIN, RenderedText("R8", 20, 30))
    rows, columns = np.nonzero((render(blank) != render(written)).any(-1))
    assert (columns.min(), rows.min()) == (20, 30)
    assert 12 <= columns.max() - 20 <= 24
    assert 8 <= rows.max() - 30 <= 14
    for index in range(300):
        scene = scene_of("train", index)
        if scene.text is not None:
            bare = Scene((), scene.background)
            ink = (render(bare) != render(Scene((), scene.background, scene.text))).any(-1)
            assert not (ink & (instance_map(scene) >= 0)).any()


def test_cell_labels_point_at_the_objects() -> None:
    for index in range(200):
        scene = scene_of("train", index)
        labels = cell_labels(scene)
        assert (labels.shape >= 0).sum() in (len(scene.objects), len(scene.objects) - 1)
        top = scene.objects[-1]
        row, column = int((top.y + 0.5) // 8), int((top.x + 0.5) // 8)
        assert list(SHAPES)[labels.shape[row, column]] == top.shape
        assert list(COLORS)[labels.color[row, column]] == top.color
        assert list(SIZES)[labels.size[row, column]] == top.size
        dx, dy = labels.offset[row, column]
        assert (column + dx) * 8 - 0.5 == pytest.approx(top.x, abs=1e-4)
        assert (row + dy) * 8 - 0.5 == pytest.approx(top.y, abs=1e-4)
        assert labels.radius[row, column] == pytest.approx(top.r)
        coarse = cell_labels(scene, cells=4)
        names = {ATTRIBUTES[i] for i in np.flatnonzero(coarse.attributes.any((0, 1)))}
        assert names == {w for o in scene.objects for w in (o.shape, o.color, o.size)}
        read = [
            CHARACTERS[labels.character[tuple(at)]] for at in np.argwhere(labels.character >= 0)
        ]
        if scene.text is None:
            assert read == []
        else:
            assert set(read) <= set(scene.text.value)
            assert len(read) >= 1


def test_cell_labels_of_a_written_string() -> None:
    labels = cell_labels(Scene((), _PLAIN, RenderedText("A7", 4, 4)))
    read = {
        tuple(at): CHARACTERS[labels.character[tuple(at)]]
        for at in np.argwhere(labels.character >= 0)
    }
    assert read == {(1, 1): "A", (1, 2): "7"}


def test_scene_survives_json() -> None:
    for index in range(50):
        scene = scene_of("test", index)
        back = Scene.from_dict(json.loads(json.dumps(scene.to_dict())))
        assert back == scene
        np.testing.assert_array_equal(render(back), render(scene))
    with pytest.raises(BadConfig, match="cannot be read"):
        Scene.from_dict({"objects": []})


def test_records_round_trip_and_errors(tmp_path: Path) -> None:
    records = [make_record("test", index) for index in range(20)]
    assert write_jsonl(tmp_path / "a.jsonl", records) == 20
    assert list(read_jsonl(tmp_path / "a.jsonl")) == records
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]

    record = make_record("test", 13, "relation", "en")
    assert record["id"] == "test-000013-relation"
    assert record["world"] == "shapes-world/2"
    assert record["messages"][0]["content"][0] == {"type": "image", "source": "scene"}
    assert record["messages"][1]["content"][0]["text"] in ("yes", "no")
    assert make_record("test", 12, "locate", "zh")["task"] == "ground"
    moving = make_record("test", 12, "video_count", "en")
    assert moving["task"] == "video_qa"
    assert moving["messages"][0]["content"][0]["type"] == "video"
    still = [step == [0.0, 0.0] for step in moving["video"]["steps"]]
    assert moving["messages"][1]["content"][0]["text"] == str(still.count(False))

    silent = next(i for i in range(20) if scene_of("test", i).text is None)
    with pytest.raises(BadConfig, match="allows no question of kind 'text'"):
        make_record("test", silent, "text")

    (tmp_path / "bad.jsonl").write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(BadConfig, match="line 2 of"):
        list(read_jsonl(tmp_path / "bad.jsonl"))
    (tmp_path / "list.jsonl").write_text("[1]\n")
    with pytest.raises(BadConfig, match="holds a list"):
        list(read_jsonl(tmp_path / "list.jsonl"))

    def broken():
        yield {"a": 1}
        raise RuntimeError("generator failed")

    with pytest.raises(RuntimeError):
        write_jsonl(tmp_path / "half.jsonl", broken())
    assert not (tmp_path / "half.jsonl").exists()
    assert not list(tmp_path.glob("*.part*"))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))


def test_tokenizer_is_deterministic(tokenizer_folder: Path, tmp_path: Path) -> None:
    train_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tokenizer_folder / name).read_bytes()


def _back(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False)


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_any_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    assert _back(tokenizer, tokenizer.encode(text).ids) == text


def test_tokenizer_layout(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE == 1536
    assert sorted(tokenizer.get_vocab().values()) == list(range(1536))
    added = tokenizer.get_added_tokens_decoder()
    assert [added[index].content for index in sorted(added)] == list(SPECIAL_TOKENS)
    assert all(token.special for token in added.values())
    for token in SPECIAL_TOKENS:
        ids = tokenizer.encode(f"a{token}b").ids
        assert len(ids) == 3
        assert tokenizer.decode(ids) == "ab"


def test_vocabulary_words_are_whole_tokens(tokenizer: Tokenizer) -> None:
    for word in english_words():
        assert len(tokenizer.encode(word).ids) == 1, word
        assert len(tokenizer.encode(" " + word).ids) == 1, word
    for word in (*chinese_words(), *PROMPT_PIECES):
        assert len(tokenizer.encode(word).ids) == 1, word


def test_names_split_into_words(tokenizer: Tokenizer) -> None:
    for (c, color), (s, shape), size in product(COLORS.items(), SHAPES.items(), SIZES.values()):
        chinese = tokenizer.encode(f"说出{size.zh}{color.zh}{shape.zh}的位置。")
        assert [_back(tokenizer, [i]) for i in chinese.ids][1:4] == [size.zh, color.zh, shape.zh]
        english = tokenizer.encode(f"the {size.en} {c} {s} is")
        assert [_back(tokenizer, [i]) for i in english.ids][1:4] == [
            f" {size.en}",
            f" {c}",
            f" {s}",
        ]


def test_digits_and_written_text_are_single_tokens(tokenizer: Tokenizer) -> None:
    pieces = [_back(tokenizer, [i]) for i in tokenizer.encode("08 12 30 44").ids]
    assert pieces == ["0", "8", " ", "1", "2", " ", "3", "0", " ", "4", "4"]
    pieces = [_back(tokenizer, [i]) for i in tokenizer.encode("text A7 here, 图中A7").ids]
    assert pieces[-2:] == ["A", "7"]
    assert pieces[pieces.index("A") + 1] == "7"


def test_prompt_of_a_turn_is_short(tokenizer: Tokenizer) -> None:
    system = "<role>SYSTEM</role>你是一个友好的AI助手。\n\ndetailed thinking off<|role_end|>"
    ids = tokenizer.encode(system).ids
    assert len(ids) == 8
    assert _back(tokenizer, ids) == system
    assert tokenizer.decode(ids) == "SYSTEM你是一个友好的AI助手。\n\ndetailed thinking off"
    assert len(tokenizer.encode("<role>HUMAN</role>").ids) == 3
    assert _back(tokenizer, tokenizer.encode("HUMANITY, SYSTEMS").ids) == "HUMANITY, SYSTEMS"
    lengths = [
        len(tokenizer.encode(q.question + q.answer).ids)
        for index in range(100)
        for q in _asked(index)
    ]
    assert np.mean(lengths) < 12


def test_the_stock_class_loads_the_files(tokenizer_folder: Path, tokenizer: Tokenizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside transformers at import
        transformers = pytest.importorskip("transformers")
        stock = transformers.PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    text = (
        "<role>HUMAN</role><image><imagePatch></image>\n红色星星在哪里？ where is A7?<|role_end|>"
    )
    ids = stock(text)["input_ids"]
    assert ids == tokenizer.encode(text).ids
    assert stock.decode(ids, skip_special_tokens=False) == text
    assert stock.eos_token == stock.pad_token == "<|role_end|>"
    assert stock.bos_token == "<|startoftext|>"
    assert len(stock) == 1536


def test_generator_is_fast_enough_to_feed_training() -> None:
    """About 0.5 ms an example on one core; the bound is loose because the machine is shared."""
    from time import process_time

    for index in range(20):
        training_example(index, Mix())
    start = process_time()
    for index in range(100):
        training_example(index, Mix())
    assert (process_time() - start) / 100 < 0.004


def test_sample_scene_draws_from_the_given_generator() -> None:
    first, second = generator(1, 0), generator(1, 0)
    assert [sample_scene(first) for _ in range(5)] == [sample_scene(second) for _ in range(5)]
