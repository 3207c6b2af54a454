"""Sentences for the tokenizer: the world's own, and those that later tasks will say.

The tokenizer is fixed before drawing, editing and speech are learnt, so their words are shown to
it here: edits, referring expressions, moving shapes, names, number words and released prompts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ming_recipes.nano.world.language import follow_up, sample_questions
from ming_recipes.nano.world.motion import sample_clip
from ming_recipes.nano.world.names import NAMES, number_words
from ming_recipes.nano.world.scene import pick, sample_scene
from ming_recipes.nano.world.vocabulary import (
    COLORS,
    GRID,
    HUES,
    PLURALS,
    RELATIONS,
    SHAPES,
    TEXTURES,
    Language,
)
from ming_recipes.nano.world.wording import caption, draw_language, name_of

_TEMPLATES: dict[Language, tuple[str, ...]] = {
    "en": (
        "make the {name} {color}",
        "paint the {name} {color}",
        "change the color of the {name} to {color}",
        "remove the {name}",
        "delete the {name}",
        "please erase the {name}",
        "add a {other} at the {grid}",
        "draw a {other} in the {grid}",
        "move the {name} to the {grid}",
        "change the background to {hue}",
        "put everything on a {hue} background",
        "make it grayscale",
        "invert the colors",
        "make it blurry",
        "draw only the outlines",
        "segment the {name}",
        "a {name} {rel} a {other}",
        "a photo of {number} {color} {plural}",
        "the only {shape}",
        "the {shape} on the {grid}",
        "leftmost {color} one",
        "rightmost {color} thing",
        "the smallest {shape}",
        "the largest {color} one",
        "the big {color} one",
        "the {name} that is {rel} the {other} and next to the {shape}",
        "send the {name} to {person}",
        "{person} likes the {name}",
        "please tell {person} to draw a {name}",
        "the {name} belongs to {person} and {friend}",
        "{person}, {friend}",
        "i can see {number} {plural}",
        "there are {number} {plural}",
        "Please recognize the language of this speech and transcribe it. Format: oral.",
        "This is an audio about {name}.This audio may contains the following words or phrases:",
        "English",
        "Chinese",
        "{color}",
        "{texture} {hue}",
        "hello, how are you today?",
        "what can you do?",
        "thank you, this is a good answer.",
        "I do not know.",
        "Describe the image.",
        "What is in this image?",
        "How many {plural} are there?",
        "Where is the {name}?",
        "Is there a {name}?",
    ),
    "zh": (
        "把{name}变成{color}",
        "去掉{name}",
        "删除{name}",
        "在{grid}加一个{other}",
        "把{name}移到{grid}",
        "把背景换成{hue}",
        "分割{name}",
        "变成灰度图",
        "反转颜色",
        "变模糊",
        "只画轮廓",
        "{grid}的{shape}",
        "最大的{shape}",
        "最小的{color}的",
        "唯一的{shape}",
        "把{name}发给{person}",
        "{person}喜欢{name}",
        "请告诉{person}画一个{name}",
        "{name}属于{person}和{friend}",
        "{person}，{friend}",
        "我看到{number}个{shape}",
        "{texture}{hue}",
        "你好，请问你能做什么？",
        "我不知道。",
        "请描述这张图片。",
        "请识别这段语音的语言并转写。",
    ),
}


def sentences(rng: np.random.Generator, scenes: int) -> Iterator[str]:
    """Per scene one caption, 6 questions and their answers, 2 about it in motion, and 4 sentences
    of other tasks."""
    for _ in range(scenes):
        scene = sample_scene(rng)
        yield caption(scene, rng, draw_language(rng))
        asked = sample_questions(scene, rng, 6)
        asked += sample_questions(scene, rng, 2, motion=sample_clip(rng, scene).motion)
        more = follow_up(scene, asked[0], rng)
        for question in (*asked, more) if more else asked:
            yield question.question
            yield question.answer
        for _ in range(4):
            language = draw_language(rng)
            name = name_of(pick(rng, scene.objects), language, with_size=rng.random() < 0.3)
            yield _fill(pick(rng, _TEMPLATES[language]), name, rng, language)


def _fill(template: str, name: str, rng: np.random.Generator, language: Language) -> str:
    other = sample_scene(rng, max_objects=1).objects[0]
    return template.format(
        name=name,
        other=name_of(other, language),
        color=COLORS[pick(rng, tuple(COLORS))][language],
        shape=SHAPES[other.shape][language],
        plural=PLURALS[other.shape][language],
        grid=pick(rng, GRID)[language],
        hue=HUES[pick(rng, tuple(HUES))][language],
        texture=TEXTURES[pick(rng, tuple(TEXTURES))][language],
        rel=RELATIONS[pick(rng, tuple(RELATIONS))][language],
        person=pick(rng, NAMES[language]),
        friend=pick(rng, NAMES[language]),
        number=number_words(rng, language),
    )
