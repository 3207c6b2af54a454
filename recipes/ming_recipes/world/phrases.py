"""How each kind of question is asked. The LAST phrase of each list is held out from training.

Words of a held-out phrase appear in other phrases, so that it is a new way to ask, not a new word.
"""

from __future__ import annotations

from ming_recipes.world.vocabulary import Language

PHRASES: dict[str, dict[Language, tuple[str, ...]]] = {
    "count_all": {
        "en": (
            "how many shapes are there?",
            "count the shapes.",
            "how many shapes?",
            "how many shapes are in the image?",
            "what is the number of objects in the picture?",
            "how many objects can you see?",
        ),
        "zh": (
            "有多少个图形？",
            "数一数图形。",
            "图中有几个图形？",
            "图形的数量是多少？",
            "有几个物体？",
            "你能看到几个物体？",
        ),
    },
    "count_color": {
        "en": (
            "how many {color} shapes are there?",
            "count the {color} shapes.",
            "how many {color} shapes can you see?",
            "what is the number of {color} objects?",
            "how many shapes are {color}?",
            "how many objects are {color}?",
        ),
        "zh": (
            "有多少个{color}的图形？",
            "数一数{color}的图形。",
            "图中有几个{color}的图形？",
            "你能看到几个{color}的图形？",
            "{color}的图形有几个？",
        ),
    },
    "count_shape": {
        "en": (
            "how many {plural} are there?",
            "count the {plural}.",
            "how many {plural}?",
            "how many {plural} can you see?",
            "what is the number of {plural}?",
            "how many {plural} are in the picture?",
        ),
        "zh": (
            "有多少个{shape}？",
            "数一数{shape}。",
            "图中有几个{shape}？",
            "你能看到几个{shape}？",
            "{shape}有几个？",
        ),
    },
    "exist": {
        "en": (
            "is there {a_name}?",
            "can you see {a_name}?",
            "does the picture show {a_name}?",
            "is there {a_name} in the image?",
            "do you see {a_name}?",
            "is {a_name} in the picture?",
        ),
        "zh": (
            "有{name}吗？",
            "图中有{name}吗？",
            "你能看到{name}吗？",
            "图中有没有{name}？",
            "有没有{name}？",
        ),
    },
    "color": {
        "en": (
            "what color is the {shape}?",
            "what is the color of the {shape}?",
            "what colour is the {shape}?",
            "tell me the color of the {shape}.",
            "which color is the {shape}?",
            "which color does the {shape} have?",
        ),
        "zh": (
            "{shape}是什么颜色？",
            "{shape}的颜色是什么？",
            "说出{shape}的颜色。",
            "图中的{shape}是什么颜色？",
            "{shape}是哪种颜色？",
        ),
    },
    "shape": {
        "en": (
            "what shape is the {color} object?",
            "what is the shape of the {color} object?",
            "which shape is {color}?",
            "tell me the shape of the {color} object.",
            "what is the {color} object?",
            "which shape does the {color} object have?",
        ),
        "zh": (
            "{color}的图形是什么形状？",
            "{color}的图形的形状是什么？",
            "{color}的物体是哪种形状？",
            "{color}的是什么形状？",
            "说出{color}的图形的形状。",
        ),
    },
    "size": {
        "en": (
            "what size is the {name}?",
            "how big is the {name}?",
            "what is the size of the {name}?",
            "which size does the {name} have?",
            "tell me the size of the {name}.",
        ),
        "zh": (
            "{name}有多大？",
            "{name}的大小是什么？",
            "{name}是什么大小？",
            "说出{name}的大小。",
        ),
    },
    "position": {
        "en": (
            "where is the {name}?",
            "in which part of the picture is the {name}?",
            "what is the position of the {name}?",
            "tell me where the {name} is.",
            "where can you see the {name}?",
            "which part of the picture is the {name} in?",
        ),
        "zh": (
            "{name}在哪里？",
            "{name}在图的哪个位置？",
            "{name}的位置是什么？",
            "说出{name}的位置。",
            "{name}位于哪个位置？",
        ),
    },
    "relation": {
        "en": (
            "is the {a} {rel} the {b}?",
            "is the {a} placed {rel} the {b}?",
            "does the {a} lie {rel} the {b}?",
            "can you see the {a} {rel} the {b}?",
            "do you see the {a} {rel} the {b}?",
        ),
        "zh": (
            "{a}在{b}的{rel}吗？",
            "{a}位于{b}的{rel}吗？",
            "{a}是在{b}的{rel}吗？",
            "{a}是位于{b}的{rel}吗？",
        ),
    },
    "relation_query": {
        "en": (
            "what is {rel} the {name}?",
            "which object is {rel} the {name}?",
            "what can you see {rel} the {name}?",
            "which shape is {rel} the {name}?",
            "tell me what is {rel} the {name}.",
        ),
        "zh": (
            "{name}的{rel}是什么？",
            "什么在{name}的{rel}？",
            "{name}的{rel}有什么？",
            "什么位于{name}的{rel}？",
        ),
    },
    "text": {
        "en": (
            "what does the text say?",
            "read the text.",
            "what is written in the picture?",
            "which text can you see?",
            "what is the text?",
            "tell me what is written.",
        ),
        "zh": (
            "文字是什么？",
            "读出文字。",
            "图中写了什么？",
            "图中的文字是什么？",
            "说出图中的文字。",
        ),
    },
    "background": {
        "en": (
            "what is the background?",
            "describe the background.",
            "what does the background look like?",
            "which background does the picture have?",
            "tell me what the background is.",
        ),
        "zh": (
            "背景是什么？",
            "描述背景。",
            "背景是什么样的？",
            "图的背景是什么？",
            "说出图的背景。",
        ),
    },
    "locate": {
        "en": (
            "locate the {name}.",
            "give the box of the {name}.",
            "find the {name} and give the box.",
            "where exactly is the {name}?",
            "what is the box of the {name}?",
        ),
        "zh": (
            "定位{name}。",
            "给出{name}的框。",
            "找到{name}并给出框。",
            "{name}的框是什么？",
            "说出{name}的框。",
        ),
    },
    "describe": {
        "en": (
            "describe the picture.",
            "describe the image in detail.",
            "what is in the picture?",
            "what does the picture show?",
            "describe what you see.",
            "tell me what is in the picture.",
        ),
        "zh": (
            "描述这张图。",
            "详细描述图片。",
            "图中有什么？",
            "这张图里有什么？",
            "说出图中有什么。",
        ),
    },
}
