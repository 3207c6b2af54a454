"""How each kind of question is asked. The LAST phrase of each list is held out from training.

Words of a held-out phrase appear in other phrases, so that it is a new way to ask, not a new word.
"""

from __future__ import annotations

from ming_recipes.nano.world.vocabulary import Language

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
            "图中有多少个物体？",
            "你能看到多少个图形？",
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
            "{color}的图形的数量是多少？",
            "{color}的物体有几个？",
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
            "{shape}的数量是多少？",
            "{shape}有多少个？",
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
            "你看到{name}了吗？",
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
            "{shape}的颜色是哪种？",
            "告诉我{shape}是什么颜色。",
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
            "告诉我{color}的图形是什么形状。",
            "说出{color}的物体是什么形状。",
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
            "{name}是哪种大小？",
            "告诉我{name}的大小。",
            "说出{name}是什么大小。",
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
            "{name}在图中的哪个位置？",
            "{name}的位置是什么？",
            "{name}在哪个位置？",
            "告诉我{name}的位置。",
            "说出{name}在哪里。",
            "说出{name}的位置。",
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
            "图中{a}在{b}的{rel}吗？",
            "你能看到{a}在{b}的{rel}吗？",
            "{a}是位于{b}的{rel}吗？",
        ),
    },
    "relation_side": {
        "en": (
            "where is the {a} relative to the {b}?",
            "on which side of the {b} is the {a}?",
            "which side of the {b} is the {a} on?",
            "tell me where the {a} is relative to the {b}.",
            "where does the {a} lie relative to the {b}?",
        ),
        "zh": (
            "{a}在{b}的哪边？",
            "{a}在{b}的什么方向？",
            "{a}位于{b}的哪边？",
            "告诉我{a}在{b}的哪边。",
            "说出{a}在{b}的什么方向。",
            "说出{a}在{b}的哪边。",
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
            "{name}的{rel}是哪个图形？",
            "告诉我{name}的{rel}是什么。",
            "说出什么位于{name}的{rel}。",
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
            "图中写着什么？",
            "图中的文字是什么？",
            "图中有什么文字？",
            "说出文字。",
            "读出图中的文字。",
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
            "图中的背景是什么？",
            "告诉我背景是什么。",
            "说出背景是什么。",
            "描述图中的背景。",
            "说出图中的背景。",
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
            "告诉我{name}的框。",
            "说出{name}的框是什么。",
            "说出{name}的框。",
        ),
    },
    "click": {
        "en": (
            "click the {name}.",
            "click on the {name}.",
            "tap the {name}.",
            "press the {name}.",
            "tap on the {name}.",
        ),
        "zh": (
            "点击{name}。",
            "点一下{name}。",
            "找到{name}并点击。",
            "请点击{name}。",
            "请点一下{name}。",
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
            "描述图片。",
            "告诉我图中有什么。",
            "说出图中有什么。",
        ),
    },
    "video_direction": {
        "en": (
            "which way does the {name} move?",
            "in which direction does the {name} move?",
            "what is the direction of the {name}?",
            "where does the {name} move?",
            "tell me which way the {name} moves.",
            "tell me the direction of the {name}.",
        ),
        "zh": (
            "{name}向哪里移动？",
            "{name}向哪个方向移动？",
            "{name}的移动方向是什么？",
            "{name}的方向是什么？",
            "告诉我{name}的移动方向。",
            "说出{name}向哪里移动。",
            "说出{name}的移动方向。",
        ),
    },
    "video_count": {
        "en": (
            "how many shapes move?",
            "how many shapes are moving?",
            "what is the number of moving shapes?",
            "how many objects move in the video?",
            "count the moving shapes.",
            "how many objects are moving?",
        ),
        "zh": (
            "有几个图形在移动？",
            "有多少个图形在移动？",
            "数一数移动的图形。",
            "移动的图形有几个？",
            "有几个物体在移动？",
            "移动的图形的数量是多少？",
            "你能看到几个图形在移动？",
        ),
    },
    "video_which": {
        "en": (
            "what moves?",
            "which shape moves?",
            "what is moving in the video?",
            "which object is moving?",
            "tell me what moves.",
            "tell me which shape is moving.",
        ),
        "zh": (
            "什么在移动？",
            "哪个图形在移动？",
            "移动的是什么？",
            "移动的图形是什么？",
            "告诉我什么在移动。",
            "说出什么在移动。",
        ),
    },
    "video_moves": {
        "en": (
            "does the {name} move?",
            "is the {name} moving?",
            "do you see the {name} move?",
            "is the {name} moving in the video?",
            "can you see the {name} move?",
        ),
        "zh": (
            "{name}在移动吗？",
            "{name}移动了吗？",
            "你能看到{name}移动吗？",
            "{name}是在移动吗？",
            "你看到{name}在移动吗？",
        ),
    },
}

FOLLOW_UPS: dict[str, dict[Language, tuple[str, ...]]] = {
    "color": {
        "en": ("what color is it?", "what is the color of it?", "which color is it?"),
        "zh": ("它是什么颜色？", "它的颜色是什么？", "说出它的颜色。"),
    },
    "size": {
        "en": ("what size is it?", "how big is it?", "what is the size of it?"),
        "zh": ("它有多大？", "它的大小是什么？", "说出它的大小。"),
    },
    "position": {
        "en": ("where is it?", "tell me where it is.", "what is the position of it?"),
        "zh": ("它在哪里？", "它的位置是什么？", "说出它在哪里。"),
    },
    "locate": {
        "en": ("locate it.", "give the box of it.", "what is the box of it?"),
        "zh": ("定位它。", "给出它的框。", "说出它的框。"),
    },
}
"""Second questions about the one object that the first was about; the last phrase is held out."""
