"""Conversations to token ids and back: chat formats, prompts, the tokenizer."""

from __future__ import annotations

from ming_core.chat.formats import (
    FLASH,
    LITE_1_0,
    LITE_1_5,
    ChatFormat,
    with_media_tokens,
)
from ming_core.chat.prompt import (
    BadConversation,
    MediaTokens,
    Prompt,
    Run,
    answer_ids,
    build_example,
    build_prompt,
    media_parts,
)
from ming_core.chat.room import with_room
from ming_core.chat.tokenizer import StreamDecoder, Tokenizer

__all__ = [
    "FLASH",
    "LITE_1_0",
    "LITE_1_5",
    "BadConversation",
    "ChatFormat",
    "MediaTokens",
    "Prompt",
    "Run",
    "StreamDecoder",
    "Tokenizer",
    "answer_ids",
    "build_example",
    "build_prompt",
    "media_parts",
    "with_media_tokens",
    "with_room",
]
