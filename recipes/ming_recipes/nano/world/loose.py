"""More ways to ask, short and free ones among them, for data that need not stay as they were.

`world.phrases` has what nano's first training asked. No phrase here is one that is held out there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ming_recipes.nano.world.scene import pick
from ming_recipes.nano.world.vocabulary import Language

MORE_PHRASES: Mapping[str, Mapping[Language, tuple[str, ...]]] = {
    "count_all": {
        "en": ("how many objects?", "how many things are there?", "count everything.", "how many?"),
        "zh": ("有多少个？", "一共有几个图形？", "数一数有几个。", "几个图形？"),
    },
    "count_color": {
        "en": ("how many {color} ones?", "how many {color} objects?", "count the {color} ones."),
        "zh": ("{color}的有几个？", "几个{color}的图形？", "有几个{color}的？"),
    },
    "count_shape": {
        "en": ("how many {plural} do you see?", "how many {plural} are in this image?"),
        "zh": ("几个{shape}？", "这张图里有几个{shape}？", "图片里有多少个{shape}？"),
    },
    "exist": {
        "en": ("{a_name}?", "any {name}?", "is there {a_name} in this picture?", "{a_name} here?"),
        "zh": ("{name}有没有？", "这张图里有{name}吗？", "图片里有没有{name}？"),
    },
    "color": {
        "en": ("{shape} color?", "color of the {shape}?", "what color does the {shape} have?"),
        "zh": ("{shape}什么颜色？", "{shape}的颜色？", "这个{shape}是什么颜色？"),
    },
    "shape": {
        "en": ("what is {color}?", "what is the {color} thing?", "what {color} shape is it?"),
        "zh": ("{color}的是什么？", "什么是{color}的？", "{color}的东西是什么形状？"),
    },
    "size": {
        "en": ("size of the {name}?", "is the {name} small, medium or large?"),
        "zh": ("{name}的大小？", "{name}多大？", "{name}是大还是小？"),
    },
    "position": {
        "en": (
            "where do you see the {name}?",
            "where in this image is the {name}?",
        ),
        "zh": ("{name}在图片的哪里？", "{name}在这张图的哪里？"),
    },
    "relation": {
        "en": ("{a} {rel} the {b}?", "is it true that the {a} is {rel} the {b}?"),
        "zh": ("{a}是不是在{b}的{rel}？", "这张图里{a}在{b}的{rel}吗？"),
    },
    "relation_side": {
        "en": ("where is the {a} seen from the {b}?", "the {a} is on which side of the {b}?"),
        "zh": ("从{b}看，{a}在哪边？", "{a}在{b}的哪个方向？"),
    },
    "relation_query": {
        "en": (
            "what do you see {rel} the {name}?",
            "{rel} the {name}?",
            "what lies {rel} the {name}?",
        ),
        "zh": ("{name}的{rel}呢？", "在{name}的{rel}你看到什么？"),
    },
    "text": {
        "en": ("what text is this?", "read this.", "what is written here?", "what does it say?"),
        "zh": ("写着什么？", "读一下。", "上面写着什么？", "这张图的文字是什么？"),
    },
    "background": {
        "en": ("background?", "what background is this?", "what is behind the shapes?"),
        "zh": ("背景呢？", "什么背景？", "这张图的背景是什么？"),
    },
    "locate": {
        "en": (
            "box of the {name}?",
            "give me the box of the {name}.",
            "draw a box around the {name}.",
        ),
        "zh": ("{name}的框？", "给我{name}的框。", "框出{name}。"),
    },
    "click": {
        "en": ("please click the {name}.", "click {name}.", "select the {name}."),
        "zh": ("点{name}。", "点一下这个{name}。", "选中{name}。"),
    },
    "describe": {
        "en": (
            "describe this image.",
            "what do you see?",
            "describe this picture.",
            "what is this?",
            "what is in this image?",
            "describe it.",
            "what is here?",
            "please describe what is in the image.",
            "caption this.",
        ),
        "zh": (
            "你看到了什么？",
            "描述一下。",
            "这是什么？",
            "描述一下这张图片。",
            "请描述这张图片。",
            "图片里有什么？",
            "看到什么？",
        ),
    },
    "video_direction": {
        "en": (
            "where does the {name} go?",
            "direction of the {name}?",
            "which way does the {name} go?",
        ),
        "zh": ("{name}去哪里？", "{name}往哪里移动？", "{name}的方向？"),
    },
    "video_count": {
        "en": (
            "how many move?",
            "how many things move?",
            "how many shapes are moving in this video?",
        ),
        "zh": ("几个在移动？", "有几个在动？", "视频里有几个图形在移动？"),
    },
    "video_which": {
        "en": ("what is moving?", "which one moves?", "what moves in this video?"),
        "zh": ("什么在动？", "哪个在动？", "视频里什么在移动？"),
    },
    "video_moves": {
        "en": ("does the {name} go anywhere?", "{name} moving?", "the {name}: does it move?"),
        "zh": ("{name}在动吗？", "{name}动了吗？", "视频里{name}在移动吗？"),
    },
}
"""By kind and language, as in `phrases.PHRASES`."""

_OPENINGS: Mapping[Language, tuple[str, ...]] = {
    "en": ("please, ", "can you tell me: ", "hello, ", "tell me, ", "now, "),
    "zh": ("请问，", "你好，", "告诉我，", "请说，"),
}


def loosened(sentence: str, language: Language, rng: np.random.Generator) -> str:
    """A question as people type it: some with an opening, a capital, or without its last mark."""
    if rng.random() < 0.15:
        sentence = pick(rng, _OPENINGS[language]) + sentence
    if rng.random() < 0.4:
        sentence = sentence[0].upper() + sentence[1:]
    if rng.random() < 0.35:
        sentence = sentence.rstrip(".?。？")
    return sentence
