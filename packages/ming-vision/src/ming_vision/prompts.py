"""What the tasks ask a model, and how it writes places. A release may have its own sentences.

Published sentences of the releases (their README files, reports and demos): `describe_video` in
Chinese, `read_markdown`, `ground` and `click` in English, `ground_all`. The other sentences are
worded after them. A checkpoint that was trained on other sentences says so in an optional section
`vision_tasks` of its config.json (docs/tasks/ground.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from ming_core.errors import BadConfig, UnknownName
from ming_core.fields import shown

Language = Literal["en", "zh"]
Sentences = Mapping[str, str]
"""A sentence by language; where a language is missing, the first one is used."""

BoxStyle = Literal["brackets", "plain"]
NAME = "{name}"
ACTIONS = "{actions}"


@dataclass(frozen=True)
class VisionPrompts:
    """The sentences of the tasks, in which `{name}` and `{actions}` are replaced, and the form of
    boxes.

    box_scale: the width and the height of every picture in the numbers of a box.
    box_style: "brackets", `[x0, y0, x1, y1]` between edges; "plain", `x0 y0 x1 y1` where the last
    column and row belong to the box.
    """

    describe: Sentences
    describe_short: Sentences
    describe_video: Sentences
    describe_video_short: Sentences
    read: Sentences
    read_markdown: Sentences
    read_table: Sentences
    ground: Sentences
    ground_all: Sentences
    click: Sentences
    click_history: Sentences
    box_scale: int = 1000
    box_style: BoxStyle = "brackets"


RELEASED = VisionPrompts(
    describe={"en": "Please describe the image in detail.", "zh": "请详细描述这张图片。"},
    describe_short={"en": "Describe the image in one sentence.", "zh": "用一句话描述这张图片。"},
    describe_video={"en": "Please describe the video.", "zh": "请描述视频内容。"},
    describe_video_short={"en": "Describe the video in one sentence.", "zh": "用一句话描述视频。"},
    read={"zh": "提取图片中的文字内容。"},
    read_markdown={"zh": "输出给定图像文本的markdown格式。"},
    read_table={"zh": "输出给定图像中表格的markdown格式。"},
    ground={
        "en": "Where is the {name} in the image? Answer in [x0, y0, x1, y1] format.",
        "zh": "{name}在图中的什么位置？以[x0, y0, x1, y1]格式回答。",
    },
    ground_all={"en": "Describe the image with grounding."},
    click={
        "en": "In the given image, could you find and tell me the coordinates of {name}?",
        "zh": "在给定的图像中，找到{name}并给出它的坐标。",
    },
    click_history={"en": "Previous actions:\n{actions}\n", "zh": "已执行的操作：\n{actions}\n"},
)
"""All three releases: the published examples of Lite and Flash do not differ."""

_STANDS_IN = {
    "describe_short": "describe",
    "describe_video": "describe",
    "describe_video_short": "describe_video",
    "read_markdown": "read",
    "read_table": "read_markdown",
}
"""A model that was taught its own sentence for the right task knows no special form of it."""

_NEEDS = {"ground": NAME, "click": NAME, "click_history": ACTIONS}


def prompts_of(wording: Iterable[Mapping[str, Any]]) -> VisionPrompts:
    """The sentences for a model from `model.wording("vision_tasks")`.

    Raises BadConfig or UnknownName for a section `vision_tasks` that cannot be used.
    """
    prompts = RELEASED
    for section in wording:
        prompts = _with(prompts, section)
    return prompts


def _with(prompts: VisionPrompts, section: Mapping[str, Any]) -> VisionPrompts:
    known = [field.name for field in fields(VisionPrompts)]
    for key in section:
        if key not in known:
            raise UnknownName("key of vision_tasks", key, known)
    scale = section.get("box_scale", prompts.box_scale)
    style = section.get("box_style", prompts.box_style)
    if not isinstance(scale, int) or isinstance(scale, bool) or scale < 1:
        raise BadConfig(
            f"vision_tasks.box_scale is {shown(scale)}; it must be a whole number above 0"
        )
    if style not in get_args(BoxStyle):
        raise BadConfig(
            f"vision_tasks.box_style is {shown(style)}; use {' or '.join(get_args(BoxStyle))}"
        )
    sentences = {
        key: _sentences(key, value)
        for key, value in section.items()
        if key not in ("box_scale", "box_style")
    }
    for key, other in _STANDS_IN.items():
        if key not in sentences and other in sentences:
            sentences[key] = sentences[other]
    return replace(prompts, **sentences, box_scale=scale, box_style=style)


def say(sentences: Sentences, language: Language, **filled: str) -> str:
    """The sentence in a language with its places filled in; the text put there is not looked at."""
    sentence = sentences.get(language) or next(iter(sentences.values()))
    for name, text in filled.items():
        sentence = sentence.replace(f"{{{name}}}", text, 1)
    return sentence


def language_of(text: str) -> Language:
    """Chinese if there is any Chinese character."""
    return "zh" if any("\u4e00" <= character <= "\u9fff" for character in text) else "en"


def _sentences(key: str, value: Any) -> Sentences:
    found = {"en": value} if isinstance(value, str) else value
    right = isinstance(found, Mapping) and found and all(isinstance(s, str) for s in found.values())
    if not right or not found.keys() <= set(get_args(Language)):
        raise BadConfig(
            f"vision_tasks.{key} is {shown(value)}; it must be a sentence, or one for each of "
            f"{' and '.join(get_args(Language))}"
        )
    place = _NEEDS.get(key, "")
    if any(place not in sentence for sentence in found.values()):
        raise BadConfig(f"vision_tasks.{key} is {shown(value)}; it must have {place} in it")
    return found
