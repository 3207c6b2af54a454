"""The prompt strings of the released processors, user-written tags included.

The releases build one string and search it for placeholders, so a tag typed by a user is taken for
a medium, and Lite 1.0 nests the blocks of several images because its placeholder is also the start
token. Kept for comparison with the releases; `ming_core.chat.prompt` is what the toolkit uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ming_core.chat.formats import ChatFormat, MediaBlock
from ming_core.chat.prompt import MediaTokens, Slot, expand, to_text


def released_prompt(
    messages: Sequence[Mapping[str, Any]],
    format: ChatFormat,
    *,
    system_template: str = "<role>HUMAN</role>",
    sys_prompt_exp: str | None = None,
    use_cot_system_prompt: bool = False,
    add_generation_prompt: bool = True,
) -> str:
    """What `apply_chat_template` of a released processor returns, with its argument names.

    messages: `{"role": "HUMAN" | "ASSISTANT", "content": [{"type": "text", "text": ...}, ...]}`;
    an image item may hold a list of images. Lite knows `system_template` (the very beginning, the
    first role marker included), flash `sys_prompt_exp` (the system text) and
    `use_cot_system_prompt` (thinking on).
    """
    text = ""
    end = format.turn_end or ""
    if format.thinking is not None:
        system = sys_prompt_exp or format.default_system or ""
        text = f"<role>SYSTEM</role>{system}{format.thinking[use_cot_system_prompt]}{end}"
    for i, message in enumerate(messages):
        opening = f"<role>{message['role']}</role>"
        if i == 0 and format.thinking is None:
            opening = system_template
        text += opening + _content(message["content"], format) + end
    return text + "<role>ASSISTANT</role>" if add_generation_prompt else text


def released_expansion(
    text: str,
    format: ChatFormat,
    images: Sequence[MediaTokens] = (),
    videos: Sequence[MediaTokens] = (),
    audios: Sequence[MediaTokens] = (),
) -> str:
    """Replace the placeholders in a prompt string the way a released processor does.

    Images, then videos, then sounds; the k-th medium goes where the first placeholder stands by
    then. A sound without a placeholder is put at the very end, Lite puts one sound everywhere.
    """
    for block, sizes in ((format.image, images), (format.video, videos)):
        for size in sizes:
            text = text.replace(block.placeholder, _block_text(block, size), 1)
    tag = format.audio.placeholder
    for size in audios:
        block_text = _block_text(format.audio, size)
        if tag not in text:
            text += block_text + "\n"
        else:
            text = text.replace(tag, block_text, -1 if format.turn_end is None else 1)
    return text


def _content(items: Sequence[Mapping[str, Any]], format: ChatFormat) -> str:
    written = "".join(item["text"] for item in items if item["type"] == "text")
    text = ""
    for item in items:
        kind = item["type"]
        if kind == "text":
            text += item["text"]
        elif f"<{kind}>" not in written:
            count = len(item[kind]) if isinstance(item[kind], list) else 1
            text += "\n".join([getattr(format, kind).placeholder] * count)
    return text


def _block_text(block: MediaBlock, size: MediaTokens) -> str:
    return to_text(expand([Slot(0, block)], [size]))
