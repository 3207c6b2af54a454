"""Released messages and chat template arguments as the safe prompt builder takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ming_core.chat.formats import FLASH, LITE_1_0, LITE_1_5, ChatFormat
from ming_core.media import Audio, Image, Message, Part, Role, Text, Video

from ._common import ToyTokenizer

FORMATS = {"v10": LITE_1_0, "v15": LITE_1_5, "flash": FLASH}
KINDS = {"image": Image, "video": Video, "audio": Audio}
_ROLES: dict[str, Role] = {"HUMAN": "user", "ASSISTANT": "assistant", "SYSTEM": "system"}


def our_messages(released: Sequence[Mapping[str, Any]], kwargs: Mapping[str, Any]) -> list[Message]:
    """A list of images is one placeholder per line; a system prompt is the first message."""
    system = kwargs.get("sys_prompt_exp") or None  # to the release, an empty one is none
    if "system_template" in kwargs:
        system = _system_text(kwargs["system_template"])
    messages = [] if system is None else [Message("system", (Text(system),))]
    for message in released:
        parts: list[Part] = []
        for item in message["content"]:
            kind, value = item["type"], item[item["type"]]
            if kind == "text":
                parts.append(Text(value))
                continue
            for i, source in enumerate(value if isinstance(value, list) else [value]):
                parts += [Text("\n")] * (i > 0) + [KINDS[kind](source)]
        messages.append(Message(_ROLES[message["role"]], tuple(parts)))
    return messages


def our_options(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "add_generation_prompt": kwargs.get("add_generation_prompt", True),
        "think": kwargs.get("use_cot_system_prompt", False),
    }


def only_released(
    messages: Sequence[Mapping[str, Any]],
    kwargs: Mapping[str, Any],
    chat: ChatFormat,
    toy: ToyTokenizer,
) -> bool:
    """Tags typed by a user, nested blocks of Lite 1.0, or a system template of another shape."""
    items = [item for message in messages for item in message["content"]]
    text = "".join(item.get("text", "") for item in items)
    placeholders = (chat.image.placeholder, chat.video.placeholder, chat.audio.placeholder)
    if toy.holds_special(text) or any(placeholder in text for placeholder in placeholders):
        return True
    media = [item[item["type"]] for item in items if item["type"] in ("image", "video")]
    several = sum(len(m) if isinstance(m, list) else 1 for m in media) > 1
    template = kwargs.get("system_template")
    return (chat is LITE_1_0 and several) or (
        template is not None and _system_text(template) is None
    )


def _system_text(template: str) -> str | None:
    match = re.fullmatch(r"<role>SYSTEM</role>(.*)<role>HUMAN</role>", template, re.DOTALL)
    return None if match is None else match[1]
